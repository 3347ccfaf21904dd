"""Hold what was found: a circuit with how it was found, what it measured, and its trace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.tables import read_table, write_json, write_table
from acdc.trace import Effects, effects_of

FOUND, IMPORTED, CONTROL = "found", "imported", "control"
"""Where a circuit is from: a search of ours, another tool, or nobody looked for it."""
SEARCH = ["task", "model", "metric", "ablation"]
"""Columns that tell one search from another."""
LABELS = [*SEARCH, "method"]
SIZE = ["size_by", "value"]
"""Columns that tell a search's circuits apart.

``size_by`` is what sets their size (threshold, regularisation, n_edges, n_nodes), ``value`` its value as the config
has it.
"""


@dataclass(eq=False)
class Found:
    """A circuit, and where it is from.

    Attributes:
        settings: all that decided it: ``LABELS`` and ``SIZE``, the method's settings, fingerprints of data, weights and
            code, versions.
        result: ``final_metric`` on the prompts where it was found, ``evaluations`` of the model, ``converged`` (None
            where nobody knows), ``origin`` (``found`` or ``imported``), and what else its method says.
        trace: what the method did, a row per tried edge or step; None where it is not at hand.
        scores: of every edge or node, a row each; None where the method gives none or they are not at hand.
    """

    FILE: ClassVar[str] = "circuit.json"
    TRACE: ClassVar[str] = "trace.csv"
    SEVERAL: ClassVar[str] = "circuits.json"
    SCORES: ClassVar[str] = "scores.csv"

    settings: dict[str, Any]
    circuit: Circuit
    result: dict[str, Any]
    trace: pd.DataFrame | None = None
    scores: pd.DataFrame | None = None

    @property
    def value(self) -> str:
        return self.settings["value"]

    @property
    def labels(self) -> dict[str, Any]:
        """Return the columns that name this circuit in tables."""
        return {key: self.settings[key] for key in (*LABELS, *SIZE)}

    @property
    def sizes(self) -> dict[str, int]:
        return {"n_edges": self.circuit.n_edges, "n_nodes": len(self.circuit.nodes)}

    @cached_property
    def effects(self) -> Effects:
        """Return the effects of edges in the trace; none where there is no trace of edges."""
        return {} if self.trace is None else effects_of(self.trace)

    def row(self) -> dict[str, Any]:
        """Return the circuit as a row of a table: its labels, how it ended, where it is from, its size."""
        return {**self.labels, "converged": self.result["converged"], "origin": self.result["origin"], **self.sizes}

    def save(self, folder: Path) -> None:
        """Write ``circuit.json`` and, before it, ``trace.csv`` and ``scores.csv`` where there are such."""
        self.save_tables(folder)
        write_json(self.to_json(), folder / self.FILE)

    def save_tables(self, folder: Path) -> None:
        for table, name in ((self.trace, self.TRACE), (self.scores, self.SCORES)):
            if table is not None:
                write_table(table, folder / name)

    @classmethod
    def save_all(cls, found: Sequence[Found], folder: Path) -> None:
        """Write circuits of one scoring: ``circuits.json`` and, before it, ``scores.csv``."""
        found[0].save_tables(folder)
        write_json([one.to_json() for one in found], folder / cls.SEVERAL)

    @classmethod
    def load(cls, path: Path, trace: Path | None = None) -> Found:
        """Read a circuit, and its trace from a file of its own.

        Raises:
            InputError: the file holds no circuit, or more than one.
        """
        found = list(cls.load_all([path]))
        if len(found) != 1:
            raise InputError(f"{path} holds {len(found)} circuits: give a file of one")
        (one,) = found
        one.trace = read_table(trace) if trace else None
        return one

    @classmethod
    def load_all(cls, paths: Sequence[Path]) -> Iterator[Found]:
        """Read every circuit in the files, each of which holds one (circuit.json) or a list (circuits.json).

        Raises:
            InputError: a file holds no circuit as acdc writes it.
        """
        for path in paths:
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                entries = data if isinstance(data, list) else [data]
                found = [cls.from_json(entry) for entry in entries]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path} is no circuit as acdc writes it (circuit.json, circuits.json): {error}"
                ) from error
            yield from found

    def to_json(self) -> dict[str, Any]:
        return {"settings": self.settings, "result": self.result | self.sizes, "circuit": self.circuit.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Found:
        circuit, settings = Circuit.from_json(data["circuit"]), data["settings"]
        if missing := [key for key in (*LABELS, *SIZE) if key not in settings]:
            raise KeyError(f"settings lack {missing[0]}")
        return cls(settings, circuit, {k: v for k, v in data["result"].items() if k not in ("n_edges", "n_nodes")})
