"""Hold found circuits, with the settings, results, traces and scores of the search."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import pandas as pd

from acdc import views
from acdc.errors import InputError, reading
from acdc.files import write_text
from acdc.fingerprint import of_text
from acdc.graph import Circuit, Graph
from acdc.tables import read_table, using, write_json, write_table
from acdc.trace import Effects, check_numbers, edge_scores_of, effects_of

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

    from acdc.data import Dataset
    from acdc.engine.model import Engine
    from acdc.heads import Heads
    from acdc.metrics import MetricKind
    from acdc.models.model import Model

FOUND, IMPORTED, CONTROL = "found", "imported", "control"
"""The origins of a circuit: found by our search, imported from another tool, or made as a control."""
SEARCH = ["task", "model", "metric", "ablation"]
"""The columns that identify a search."""
LABELS = [*SEARCH, "method"]
SIZE = ["size_by", "value"]
"""The columns that identify a circuit of a search.

``size_by`` names the quantity that sets its size (threshold, regularisation, n_edges, n_nodes), and ``value`` is that
quantity as written in the config.
"""
COUNTS = ["n_edges", "n_edges_reaching", "n_nodes"]
"""The columns of a circuit's numbers of edges and nodes, see ``sizes_of``."""
NUMBER = int | float | None
RESULT: dict[str, Any] = {
    "final_metric": NUMBER,
    "evaluations": NUMBER,
    "converged": bool | None,
    "origin": str | None,
}
"""The entries that the result of every method has, with their types; None where the value is unknown."""
PRUNED = "n_edges_pruned"
"""The column of the number of dead edges that were pruned from a circuit, see ``Engine.without_dead``."""
MOST_VALUES = 20
"""The largest number of values that a message lists."""


def sizes_of(circuit: Circuit) -> dict[str, int]:
    """Count a circuit's edges, its edges on paths to the logits, and its nodes.

    Circuits of ACDC, and of methods that score, have only edges on paths to the logits. Other circuits may have edges
    into nodes that send nothing on; these edges do not change the circuit's logits.
    """
    counts = circuit.n_edges, circuit.reaching_logits().n_edges, len(circuit.nodes)
    return dict(zip(COUNTS, counts, strict=True))


@dataclass(eq=False, repr=False)
class Found:
    """Hold a circuit, and how it was found.

    Attributes:
        settings: everything that determined the circuit: ``LABELS`` and ``SIZE``, the method's settings, fingerprints
            of data, weights and code, and versions.
        result: ``final_metric`` on the prompts where it was found, the number of ``evaluations`` of the model,
            ``converged`` (None if unknown), ``origin`` (``found`` or ``imported``), and further entries of the method.
        trace: a row per edge that the method tried, or per step; None if it is not at hand.
        scores: a row per edge or node with its score; None if the method gives none or they are not at hand.
        model: the model in which it was found, while it is in memory; files and pickles leave it out.
        seconds: the time of the search without loading the model; for a method that scores, of all circuits of one
            scoring together. None if the circuit was read from a file.
    """

    FILE: ClassVar[str] = "circuit.json"
    SEVERAL: ClassVar[str] = "circuits.json"
    TRACE: ClassVar[str] = "trace.csv"
    SCORES: ClassVar[str] = "scores.csv"
    NODES: ClassVar[str] = "nodes.csv"

    settings: dict[str, Any]
    circuit: Circuit
    result: dict[str, Any]
    trace: pd.DataFrame | None = None
    scores: pd.DataFrame | None = None
    model: Model | None = None
    seconds: float | None = None

    def __repr__(self) -> str:
        return f"Found({views.title_of(self.settings)}; {self.circuit.counts})"

    def _repr_html_(self) -> str:
        """Return the interactive page as HTML, for a notebook."""
        return views.in_frame(self.page())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"model": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Found:
        parts = (self.settings, self.circuit, self.result, self.trace, self.scores)
        return Found(*copy.deepcopy(parts, memo), model=self.model, seconds=self.seconds)

    @property
    def value(self) -> str:
        """Return the value that sets the circuit's size, such as its threshold, as a text."""
        return self.settings["value"]

    @property
    def labels(self) -> dict[str, Any]:
        """Return the columns that identify this circuit in tables."""
        return {key: self.settings[key] for key in (*LABELS, *SIZE)}

    @property
    def sizes(self) -> dict[str, int]:
        """Return the numbers of edges and nodes, see ``sizes_of``, and of dead edges that were pruned."""
        return {**sizes_of(self.circuit), PRUNED: self.result.get(PRUNED, 0)}

    @cached_property
    def effects(self) -> Effects:
        """Return the effects of the edges in the trace; an empty dictionary if no edges were traced."""
        return {} if self.trace is None else effects_of(self.trace)

    @cached_property
    def importance(self) -> Effects:
        """Return the effects of the edges in the trace or, without a trace of edges, the scores of all edges."""
        return self.effects or ({} if self.scores is None else edge_scores_of(self.scores))

    def row(self) -> dict[str, Any]:
        """Return the circuit as a row of a table: its labels, whether the search converged, its origin and its size."""
        return {**self.labels, "converged": self.result["converged"], "origin": self.result["origin"], **self.sizes}

    # Measurements and views.

    def evaluate(
        self,
        prompts: Dataset,
        *,
        metrics: Mapping[str, MetricKind] | None = None,
        seeds: int = 3,
        model: Model | None = None,
    ) -> pd.DataFrame:
        """Measure the circuit on other prompts, beside random circuits of its size, all edges and none.

        Args:
            prompts: the dataset, see ``acdc.prompts``; not the prompts on which the circuit was found.
            metrics: metrics by name; by default the metric of the search and, where the prompts have answers, KL
                divergence and logit difference.
            seeds: the number of random orders of the edges, each of which gives a random circuit.
            model: the model to measure, in place of the one where the circuit was found; needed for a circuit that was
                loaded.

        Returns:
            A row per circuit: ``circuit`` (``found``, ``full``, ``empty``, ``random``), ``value`` of a found one,
            the counts of ``sizes_of``, each metric's mean over the prompts (lower is better), and a random one's
            ``seed``.

        Raises:
            InputError: no model is given and none is in memory, or the circuit is of another model's graph.
        """
        return Sweep([self]).evaluate(prompts, metrics=metrics, seeds=seeds, model=model)

    def heads(self, prompts: Dataset, *, model: Model | None = None) -> Heads:
        """Measure every head of the model on prompts, name the heads for which a rule holds, and test the names.

        Args:
            prompts, model: see ``evaluate``.

        Returns:
            The heads, which ``page`` and ``draw`` take as ``heads``. Their ``table`` has a row per head, see
            ``acdc.analysis.head_table``.

        Raises:
            InputError: no model is given and none is in memory, or the circuit is of another model's graph.
        """
        return Sweep([self]).heads(prompts, model=model)

    def page(self, path: str | Path | None = None, *, heads: Heads | None = None) -> str:
        """Return an interactive page of the circuit as HTML, and write it to a file if a path is given.

        Args:
            heads: the heads that ``heads`` measured; the page then shows their names, scores and attention.
        """
        return Sweep([self]).page(path, heads=heads)

    def draw(self, *, max_edges: int = 120, heads: Heads | None = None) -> Figure:
        """Draw the circuit as a matplotlib figure, with edges as wide as their effects or, without a trace, scores.

        Args:
            heads: the heads that ``heads`` measured; a head with a name is drawn in that name's colour.
        """
        return views.draw_found(self, max_edges=max_edges, heads=heads)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row per edge and, if there is a trace, the effect of removing the edge."""
        return self.circuit.to_frame(self.effects or None)

    def to_networkx(self) -> nx.DiGraph:
        """Return a networkx graph of the circuit with effects or scores, see ``acdc.exchange.to_networkx``."""
        return self.circuit.to_networkx(self.importance)

    # Files.

    def save(self, path: str | Path) -> None:
        """Write the circuit to a .json file, or as ``circuit.json`` into a folder, and its tables beside it.

        The tables are ``trace.csv`` and ``scores.csv`` beside ``circuit.json``, and ``NAME.trace.csv`` and
        ``NAME.scores.csv`` beside any other ``NAME.json``.
        """
        file = Path(path) if Path(path).suffix == ".json" else Path(path) / self.FILE
        if self.trace is None:
            beside(file, self.TRACE).unlink(missing_ok=True)  # it would be taken for this circuit's
        self.save_tables(file)
        write_json(self.to_json(), file)

    def save_tables(self, file: Path) -> None:
        """Write the trace and the scores, if there are any, beside a file of circuits."""
        for table, name in ((self.trace, self.TRACE), (self.scores, self.SCORES)):
            if table is not None:
                write_table(table, beside(file, name))

    @classmethod
    def load(cls, path: str | Path, trace: Path | None = None, *, value: float | str | None = None) -> Found:
        """Read a circuit, with the trace or the scores that are beside it.

        Args:
            trace: the file of the trace, if it is not beside the circuit.
            value: which of several circuits to read: the value that sets its size, such as its threshold.

        Raises:
            InputError: the file holds no circuit, holds several while ``value`` is not given, or none of that value.
        """
        file = Path(path)
        sweep = Sweep(cls.load_all([file]))
        of_value = sweep.found if value is None else sweep.of(value)
        if not of_value:
            raise InputError(f"{file} holds no circuit of {value}: there are {sweep.values}")
        if len(of_value) > 1:
            size_by = of_value[0].settings["size_by"]
            raise InputError(f"{file} holds {len(sweep)} circuits, by {size_by} {sweep.values}: give the value of one")
        (one,) = with_tables(of_value, file, trace)
        return one

    @classmethod
    def load_all(cls, paths: Iterable[Path]) -> Iterator[Found]:
        """Yield every circuit in files that hold one circuit (circuit.json) or a list of circuits (circuits.json).

        Raises:
            InputError: a file holds no circuit, or none as acdc writes it.
        """
        for path in paths:
            with reading(path, "find it again", "circuit as acdc writes it"):
                data = json.loads(path.read_text(encoding="utf-8"))
                found = [cls.from_json(entry) for entry in (data if isinstance(data, list) else [data])]
            if not found:
                raise InputError(f"{path} holds no circuit")
            yield from found

    @classmethod
    def graph_in(cls, path: Path) -> Graph:
        """Return the graph of the circuits in a file, which share one; raise InputError as ``load_all`` does."""
        return next(cls.load_all([path])).circuit.graph

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tables and the model, with a SHA-256 that reveals later changes."""
        parts = {
            "settings": self.settings,
            "result": self.result | sizes_of(self.circuit),
            "circuit": self.circuit.to_json(),
        }
        return parts | {"sha256": sha256_of(parts)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Found:
        """Return the circuit that ``to_json`` described.

        Raises:
            KeyError, TypeError, ValueError: an entry is missing, is of another type, or was changed after it was
                written.
        """
        circuit, settings, result = Circuit.from_json(data["circuit"]), data["settings"], data["result"]
        check_kinds(settings, dict.fromkeys((*LABELS, *SIZE), str), "settings")
        unknown = dict.fromkeys(RESULT)
        check_kinds(unknown | result, RESULT, "result")
        found = cls(settings, circuit, {**unknown, **{k: v for k, v in result.items() if k not in COUNTS}})
        for name, n in found.sizes.items():
            if result.get(name, n) != n:
                raise ValueError(f"it says {name} {result[name]} and has {n}")
        if data.get("sha256", "") not in ("", sha256_of({k: v for k, v in data.items() if k != "sha256"})):
            raise ValueError("it was changed since acdc wrote it; if you changed it yourself, leave out its sha256")
        return found


def sha256_of(parts: dict[str, Any]) -> str:
    """Return the SHA-256 of a dictionary as JSON."""
    return of_text(json.dumps(parts, sort_keys=True))


def check_kinds(entries: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Check that a dictionary has the entries of these types and finite numbers; raise if not."""
    for name, kind in kinds.items():
        if name not in entries:
            raise KeyError(f"{where} lack {name}")
        entry = entries[name]
        if not isinstance(entry, kind) or (isinstance(entry, bool) and kind == NUMBER):
            raise TypeError(f"{name} in {where} can not be {entry!r}")
        if isinstance(entry, float) and not math.isfinite(entry):
            raise ValueError(f"{name} in {where} is {entry}")


def beside(file: Path, table: str) -> Path:
    """Return the path of a circuit's table: ``trace.csv`` beside circuit.json, ``NAME.trace.csv`` beside NAME.json."""
    return file.with_name(table if file.name in (Found.FILE, Found.SEVERAL) else f"{file.stem}.{table}")


class Sweep(Sequence[Found]):
    """Hold the circuits that one search found for several values, in the order in which the values were given."""

    def __init__(self, found: Iterable[Found]) -> None:
        self.found = tuple(found)

    @overload
    def __getitem__(self, index: int) -> Found: ...

    @overload
    def __getitem__(self, index: slice) -> Sweep: ...

    def __getitem__(self, index: int | slice) -> Found | Sweep:
        return Sweep(self.found[index]) if isinstance(index, slice) else self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        if not self.found:
            return "Sweep(no circuits)"
        first = self.found[0].settings
        sizes = ", ".join(f"{one.value}: {one.circuit.n_edges:,}" for one in self.found)
        return f"Sweep({views.title_of(first, with_size=False)}; edges by {first['size_by']} {sizes})"

    def _repr_html_(self) -> str:
        """Return the interactive page as HTML, for a notebook."""
        return views.in_frame(self.page())

    def at(self, value: float | str) -> Found:
        """Return the circuit found for a value; ``1e-3`` and ``0.001`` are the same value.

        Raises:
            InputError: there is no circuit of that value.
        """
        for one in self.of(value):
            return one
        raise InputError(f"there is no circuit of {value}: there are {self.values}")

    def of(self, value: float | str) -> tuple[Found, ...]:
        """Return all circuits found for a value."""
        text = str(value)
        return tuple(one for one in self.found if text == one.value or number(text) == number(one.value))

    @property
    def values(self) -> str:
        """Return the circuits' values as a text; of more than ``MOST_VALUES``, the first ones and the last."""
        values = [one.value for one in self.found]
        few = values if len(values) <= MOST_VALUES else [*values[: MOST_VALUES - 1], "...", values[-1]]
        return ", ".join(few)

    def evaluate(
        self,
        prompts: Dataset,
        *,
        metrics: Mapping[str, MetricKind] | None = None,
        seeds: int = 3,
        model: Model | None = None,
    ) -> pd.DataFrame:
        """Measure the circuits on other prompts, each beside random circuits of its size, see ``Found.evaluate``."""
        measured_by = metrics or views.metrics_for(prompts, self.found[0].settings["metric"])
        return views.evaluate(self.found, self.engine(prompts, self.model_of(model)), measured_by, seeds)

    def heads(self, prompts: Dataset, *, model: Model | None = None) -> Heads:
        """Measure, name and test every head of the model on prompts, see ``Found.heads``."""
        used = self.model_of(model)
        return views.heads(self.found, self.engine(prompts, used), prompts, used.tokenizer)

    def model_of(self, given: Model | None) -> Model:
        """Return the given model, or else the one in which the circuits were found; raise InputError without one."""
        used = given or self.found[0].model
        if used is None:
            raise InputError("a circuit from a file does not know its model: give it as model=acdc.load_model(...)")
        return used

    def engine(self, prompts: Dataset, model: Model) -> Engine:
        """Return an engine of a model on prompts, with the ablation, precision and graph of the circuits."""
        first = self.found[0]
        return model.engine(
            prompts,
            ablation=first.settings["ablation"],
            split_embed=first.circuit.graph.split_embed,
            precision=first.settings.get("precision", "float32"),
            kv_heads=first.settings.get("kv_heads", "grouped"),
        )

    def page(self, path: str | Path | None = None, *, start: str | None = None, heads: Heads | None = None) -> str:
        """Return an interactive page of the circuits as HTML, and write it to a file if a path is given.

        Args:
            start: the value whose circuit is shown first.
            heads: the heads that ``heads`` measured; the page then shows their names, scores and attention.
        """
        text = views.page(self.found, start or self.found[0].value, heads=heads)
        if path:
            write_text(text, Path(path))
        return text

    def save(self, folder: str | Path) -> None:
        """Write a folder per circuit, VALUE/circuit.json; of a scoring, ``circuits.json`` and ``scores.csv``."""
        if self.found[0].scores is None:
            for one in self.found:
                one.save(Path(folder) / one.value)
            return
        file = Path(folder) / Found.SEVERAL
        self.found[0].save_tables(file)
        write_json([one.to_json() for one in self.found], file)

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Read the circuits in a file, or in a folder that ``save`` wrote, with the traces or scores beside them.

        Circuits from subfolders are in the order of their values.

        Raises:
            InputError: there is no circuit.
        """
        where = Path(path)
        if not where.is_dir():
            return cls(with_tables(Found.load_all([where]), where))
        if (where / Found.SEVERAL).exists():
            return cls.load(where / Found.SEVERAL)
        files = sorted(where.glob(f"*/{Found.FILE}"), key=lambda file: (number(file.parent.name), file))
        if not files:
            raise InputError(f"{where} holds no circuits of a sweep")
        return cls(one for file in files for one in cls.load(file))


def with_tables(found: Iterable[Found], file: Path, trace: Path | None = None) -> Iterator[Found]:
    """Yield the circuits of a file with the trace beside the file or, where there is none, the scores.

    Args:
        trace: the file of the trace, if it is not beside the circuits.
    """
    own, scores = beside(file, Found.TRACE), beside(file, Found.SCORES)
    tables: dict[str, Any] = {}
    if trace or own.exists():
        tables["trace"] = read_numbers(trace or own)
    elif scores.exists():
        tables["scores"] = read_numbers(scores)
    for one in found:
        if "trace" in tables and one.result.get("tried", len(tables["trace"])) != len(tables["trace"]):
            n_rows, n_tried = len(tables["trace"]), one.result["tried"]
            raise InputError(
                f"{trace or own} has {n_rows} rows and the search of {file} tried {n_tried} edges: give its own trace"
            )
        yield replace(one, **tables)


def read_numbers(path: Path) -> pd.DataFrame:
    """Read a trace or scores; raise InputError if an effect or a score is no number."""
    table = read_table(path)
    with using(path):
        check_numbers(table)
    return table


def number(text: str) -> float:
    """Return the number that a text states; nan if it states none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
