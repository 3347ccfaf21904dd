"""Hold measurements of attention heads, as tables, pages and drawings show them; torch is not needed."""

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
"""The name of a head for which no rule holds."""


def sha256_of(shown: dict[str, Any]) -> str:
    """Return the SHA-256 of attention patterns, which reveals later changes."""
    return of_text(json.dumps(shown, sort_keys=True))


@dataclass
class Heads:
    """Hold the measurements of every head of a model, and attention patterns of some heads.

    Attributes:
        table: a row per head, see ``acdc.analysis.head_table``.
        attention: the patterns of ``acdc.analysis.head_patterns``; None if they were not asked for.
    """

    table: pd.DataFrame
    attention: dict[str, Any] | None = None

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the table by head, without empty entries."""
        records = self.table.to_dict("records")
        known = [{str(key): value for key, value in row.items() if not pd.isna(value)} for row in records]
        return {row["head"]: row for row in known}

    def name(self, head: str) -> str:
        """Return the name proposed for a head; ``NONE`` if none is proposed or the head is unknown."""
        return str(self.rows.get(head, {}).get("name", NONE))

    def save(self, table: Path, attention: Path | None = None) -> None:
        """Write the table and, if a path is given, the attention patterns."""
        write_table(self.table, table)
        if attention:
            shown = self.attention or {}
            write_json({**shown, "sha256": sha256_of(shown)}, attention)

    @classmethod
    def load(cls, table: Path, attention: Path | None = None) -> Heads:
        """Read the table and the attention patterns that ``save`` wrote; raise InputError for any other file."""
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
