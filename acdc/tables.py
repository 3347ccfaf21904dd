"""Read and write tables as CSV, and JSON: one reader and one writer, so that texts stay the texts they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TEXTS = ("size_by", "value")
"""Columns that stay as the config writes them: a threshold of 1e-3 is not 0.001 in a path."""


def read_table(path: Path | Traversable) -> pd.DataFrame:
    """Read one table. Lines that begin with # are comments."""
    with path.open("rb") as file:
        return pd.read_csv(file, dtype={name: str for name in TEXTS}, comment="#")


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Read tables as one; a column that one of them does not have is empty in its rows."""
    return pd.concat([read_table(path) for path in paths], ignore_index=True)


def write_table(rows: pd.DataFrame | Iterable[dict[str, Any]], path: Path) -> None:
    """Write a table, the same bytes on every machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    frame.to_csv(path, index=False, lineterminator="\n")


def write_json(data: Any, path: Path) -> None:
    """Write JSON with sorted keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
