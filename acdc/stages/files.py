"""Files of the stages: circuits as JSON, tables as CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pandas import DataFrame

    from acdc.graph import Circuit
    from acdc.trace import Effects


def read_circuit(path: Path) -> tuple[dict[str, Any], dict[str, Any], Circuit]:
    """Settings, result and circuit of a circuit.json."""
    return next(read_circuits([path]))


def read_circuits(paths: list[Path]) -> Iterator[tuple[dict[str, Any], dict[str, Any], Circuit]]:
    """The same of every circuit in the files, each of which holds one (circuit.json) or a list (circuits.json)."""
    from acdc.graph import Circuit

    for path in paths:
        try:
            data = json.loads(path.read_text())
            entries = data if isinstance(data, list) else [data]
            found = [(entry["settings"], entry["result"], Circuit.from_json(entry["circuit"])) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no circuit as acdc writes it (circuit.json, circuits.json): {error}"
            ) from error
        yield from found


def read_effects(circuit: Path) -> Effects:
    """Effects of edges from the trace.csv beside a circuit.json; none where there is no trace or it has none."""
    import pandas as pd

    from acdc.trace import effects_of

    trace = circuit.with_name("trace.csv")
    return effects_of(pd.read_csv(trace)) if trace.exists() else {}


def read_node_effects(table: Path) -> dict[str, dict[str, float]]:
    """By threshold and node, from the table of the stage nodes."""
    rows = read_tables([table])
    return {key: dict(zip(of["node"], of["effect"], strict=True)) for key, of in rows.groupby("threshold", sort=False)}


def read_tables(files: list[Path]) -> DataFrame:
    """Tables of the same columns as one; thresholds stay as the config writes them."""
    import pandas as pd

    parts = [pd.read_csv(file, dtype={"setting": str, "threshold": str}) for file in files]
    return pd.concat(parts, ignore_index=True)


def write_json(data: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    import pandas as pd

    write_frame(pd.DataFrame(rows), path)


def write_frame(frame: DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n")
