"""Hold what heads do, as tables, pages and drawings show it. Without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from acdc.errors import reading
from acdc.fingerprint import of_text
from acdc.tables import read_table, using, write_json, write_table

NONE = "none"
"""Stands for the name of a head for which no rule holds."""


def sha256_of(shown: dict[str, Any]) -> str:
    """Return the SHA-256 of attention, by which a file that was changed is told."""
    return of_text(json.dumps(shown, sort_keys=True))


@dataclass
class Heads:
    """Hold what every head of a model does, and where those of circuits attend to on some prompts.

    Attributes:
        table: a row per head, see ``acdc.analysis.head_table``.
        attention: see ``acdc.analysis.head_patterns``; None where it was not asked for.
    """

    table: pd.DataFrame
    attention: dict[str, Any] | None = None

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the table's rows by head; what is empty in the table is left out."""
        records = self.table.to_dict("records")
        known = [{str(key): value for key, value in row.items() if not pd.isna(value)} for row in records]
        return {row["head"]: row for row in known}

    def name(self, head: str) -> str:
        """Return the name that is proposed for a head; ``NONE`` where none is or the head is unknown."""
        return str(self.rows.get(head, {}).get("name", NONE))

    def save(self, table: Path, attention: Path | None = None) -> None:
        """Write the table and, where a path is given, the attention."""
        write_table(self.table, table)
        if attention:
            shown = self.attention or {}
            write_json({**shown, "sha256": sha256_of(shown)}, attention)

    @classmethod
    def load(cls, table: Path, attention: Path | None = None) -> Heads:
        """Read what ``save`` wrote. Raises InputError where a file is no such thing."""
        found = None
        if attention:
            with reading(attention, "make it again by `acdc heads`"):
                found = json.loads(attention.read_text(encoding="utf-8"))
                if found.pop("sha256") != sha256_of(found):
                    raise ValueError("it was changed since acdc wrote it")
        made = cls(read_table(table), found)
        with using(table):
            made.table[["head", "name", "circuits"]]  # what a page and a drawing read
        return made
