"""Read and write tables as CSV, and JSON, so that texts stay as they are and changed files are detected.

The last column of a table that acdc writes is ``check``. In every row it has the number of rows and the beginning of
the SHA-256 of the table without this column. So a reader detects a table that was changed or cut, even at the end of a
row. Pandas reads the tables as they are. A table without the column was written by others and is not checked.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from acdc.errors import InputError, reading
from acdc.files import write_text
from acdc.fingerprint import of_text

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TEXTS = (
    *("study", "task", "model", "metric", "ablation", "method", "size_by", "value", "origin", "known_of"),
    *("sender", "receiver", "kind"),
)
"""Columns whose entries stay texts: a threshold of 1e-3 is not 0.001 in a path, and a model may be called NA."""
CHECK = "check"
"""The column by which a changed or cut table is detected."""
CHECKED = re.compile(r",(\d+)-[0-9a-f]{8}$")
"""The pattern of the end of a row with an entry in that column."""
COMMENTS = re.compile(r"\A(?:#.*\n)+")
AGAIN = "make it again"


def read_table(path: Path | Traversable) -> pd.DataFrame:
    """Read one table, without the comments (lines with #) at its beginning; only empty entries are missing.

    Raises:
        InputError: the file is no table, or it has the column ``check`` and is not as acdc wrote it.
    """
    with reading(path, AGAIN):
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode().replace("\r\n", "\n")
        if "\0" in text or not text.strip():
            raise ValueError("it has no text" if not text.strip() else "it has bytes that are no text")
        if "\n" not in text:
            raise ValueError("its only line is cut")
        text = COMMENTS.sub("", text)
        check(text, path)
        return parsed(text).drop(columns=CHECK, errors="ignore")


def parsed(text: str) -> pd.DataFrame:
    """Return the table that a text in CSV states; raise ValueError if rows are longer than the header."""
    table = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""])
    if not isinstance(table.index, pd.RangeIndex):  # if all rows are longer, their first entries become labels
        raise ValueError("its rows have more entries than its header")
    if len(table.columns) < 2:
        raise ValueError("it has one column")
    return table


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Read tables as one; a column that a table lacks is empty in its rows."""
    return pd.concat([read_table(path) for path in paths], ignore_index=True)


@contextmanager
def using(*paths: Path) -> Iterator[None]:
    """Name the tables in errors of the code that computes with them, see ``reading``."""
    named = f"one of the tables {', '.join(map(str, paths))}" if len(paths) > 1 else str(paths[0])
    try:
        with reading(named, AGAIN):
            yield
    except InputError as error:
        if any(str(path) in str(error) for path in paths):
            raise
        raise InputError(f"{named}: {error}") from error


def write_table(rows: pd.DataFrame | Iterable[dict[str, Any]], path: Path) -> None:
    """Write a table with the column ``check`` (unless it has no rows), the same bytes on every machine."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    if len(frame):
        frame = frame.assign(**{CHECK: checked(as_csv(frame), len(frame))})
    write_text(as_csv(frame), path)


def as_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV."""
    return frame.to_csv(index=False, lineterminator="\n")


def checked(text: str, n_rows: int) -> str:
    """Return the entry of the column ``check`` for a table without that column."""
    return f"{n_rows}-{of_text(text)[:8]}"


def check(text: str, path: Path | Traversable) -> None:
    """Check that a table with the column ``check`` is as acdc wrote it; raise InputError if not.

    Args:
        text: the text of the file, with \n as line ends.
    """
    header, _, rows = text.rstrip("\n").partition("\n")
    last = CHECKED.search(rows or header)
    if not last and not header.endswith(f",{CHECK}"):
        return
    remedy = f"{AGAIN} or, if you changed it yourself, leave out its column {CHECK}"
    if not last or not header.endswith(f",{CHECK}"):
        raise InputError(f"{path} is cut or was changed since acdc wrote it: {remedy}")
    entry, n_rows = last[0], int(last[1])
    found = rows.count(f"{entry}\n") + 1
    plain = f"{header}\n{rows}\n".replace(f",{CHECK}\n", "\n", 1).replace(f"{entry}\n", "\n")
    if found != n_rows:
        raise InputError(f"{path} has {found} of its {n_rows} rows: {remedy}")
    if checked(plain, n_rows) != entry.removeprefix(","):
        raise InputError(f"{path} was changed since acdc wrote it: {remedy}")


def write_json(data: Any, path: Path) -> None:
    """Write JSON with sorted keys."""
    write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", path)
