"""Read and write tables as CSV, and JSON: one reader and one writer, so that texts stay the texts they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from acdc.errors import reading

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TEXTS = (
    *("study", "task", "model", "metric", "ablation", "method", "size_by", "value", "origin", "known_of"),
    *("sender", "receiver", "kind"),
)
"""Columns whose entries stay texts: a threshold of 1e-3 is not 0.001 in a path, and a model may be called NA."""


def read_table(path: Path | Traversable) -> pd.DataFrame:
    """Read one table. Lines that begin with # are comments; what is empty is missing, and nothing else is."""
    with reading(path, "make it again"), path.open("rb") as file:
        texts = {name: str for name in TEXTS}
        return pd.read_csv(file, dtype=texts, comment="#", keep_default_na=False, na_values=[""])


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Read tables as one; a column that one of them does not have is empty in its rows."""
    return pd.concat([read_table(path) for path in paths], ignore_index=True)


def write_table(rows: pd.DataFrame | Iterable[dict[str, Any]], path: Path) -> None:
    """Write a table, the same bytes on every machine."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    with whole(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")


def write_json(data: Any, path: Path) -> None:
    """Write JSON with sorted keys."""
    with whole(path) as partial:
        partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``path`` at the end: a kill or a full disk leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
