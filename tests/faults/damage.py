"""Damage a file as disks, transfers, editors and people do."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
"""Damage a file in place."""


def of_bytes(change: Callable[[bytes], bytes]) -> Damage:
    """Return the damage that changes a file's bytes. It makes a new file, for the old one may have other links."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(change(data))

    return damage


def of_text(change: Callable[[str], str]) -> Damage:
    """Return the damage that changes a file's text."""
    return of_bytes(lambda data: change(data.decode()).encode())


def folder_instead(path: Path) -> None:
    """Put a folder in the file's place."""
    path.unlink()
    path.mkdir()


def flipped(data: bytes, where: float, bit: int = 0) -> bytes:
    """Return the bytes with one bit flipped, at this share of their length."""
    at = min(len(data) - 1, int(where * len(data)))
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def noise(data: bytes) -> bytes:
    """Return as many random bytes, the same each time."""
    return random.Random(len(data)).randbytes(len(data))


WHOLE: dict[str, Damage] = {
    "empty": of_bytes(lambda data: b""),
    "cut in half": of_bytes(lambda data: data[: len(data) // 2]),
    "without its last bytes": of_bytes(lambda data: data[:-3]),
    "zeros": of_bytes(lambda data: bytes(len(data))),
    "99 zeros": of_bytes(lambda data: bytes(99)),
    "noise": of_bytes(noise),
    "another text": of_bytes(lambda data: b"This is something else.\nIt has two lines.\n"),
    "a folder": folder_instead,
    "missing": lambda path: path.unlink(),
}
"""Damage to any file."""
FLIPS: dict[str, Damage] = {
    f"a bit flipped at {where}": of_bytes(lambda data, where=where: flipped(data, where)) for where in (0.1, 0.5, 0.9)
}
"""Damage to a file of which something tells whether a byte changed."""
TEXT: dict[str, Damage] = {
    "latin-1": of_bytes(lambda data: data.replace(b"a", "é".encode("latin-1"), 1)),
    "a byte order mark": of_bytes(lambda data: b"\xef\xbb\xbf" + data),
    "UTF-16": of_bytes(lambda data: data.decode().encode("utf-16")),
    "CRLF": of_bytes(lambda data: data.replace(b"\n", b"\r\n")),
}
"""Damage to a text."""


# Tables.


def of_rows(change: Callable[[list[list[str]]], list[list[str]]]) -> Damage:
    """Return the damage that changes the rows of a CSV file, of which the first is its header."""

    def changed(text: str) -> str:
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows(change(list(csv.reader(io.StringIO(text)))))
        return written.getvalue()

    return of_text(changed)


def with_number(entry: str) -> Callable[[list[list[str]]], list[list[str]]]:
    """Return the change of one number of a table's second row: of the last that has a column after it."""

    def change(rows: list[list[str]]) -> list[list[str]]:
        row = rows[min(2, len(rows) - 1)]
        numbers = [i for i, text in enumerate(row[:-1]) if text.replace(".", "").replace("-", "").isdigit()]
        row[numbers[-1] if numbers else 0] = entry
        return rows

    return change


CUT: dict[str, Damage] = {
    "the last row cut": of_rows(lambda rows: rows[:-1]),
    "the header alone": of_rows(lambda rows: rows[:1]),
    "a row dropped": of_rows(lambda rows: rows[:1] + rows[2:]),
    "no header": of_rows(lambda rows: rows[1:]),
}
NUMBERS: dict[str, Damage] = {
    f"a number is {entry}": of_rows(with_number(entry)) for entry in ("nan", "inf", "1e400", "-7", "9" * 30, "x", "")
}
ROWS: dict[str, Damage] = {
    **CUT,
    **NUMBERS,
    "a row twice": of_rows(lambda rows: [*rows, rows[-1]]),
    "two rows the other way round": of_rows(lambda rows: [rows[0], *rows[:0:-1]]),
    "a column dropped": of_rows(lambda rows: [row[1:] for row in rows]),
    "the last but one column dropped": of_rows(lambda rows: [row[:-2] + row[-1:] for row in rows]),
    "a column renamed": of_rows(lambda rows: [[f"{rows[0][0]}_", *rows[0][1:]], *rows[1:]]),
    "an entry more": of_rows(lambda rows: [rows[0], *([*row, "1"] for row in rows[1:])]),
}
"""Damage to a table that acdc wrote."""


# JSON.


def places(data: Any, at: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every entry of a JSON file; of a list, only those of the first two."""
    entries = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, entry in entries:
        yield (*at, key)
        yield from places(entry, (*at, key))


def with_entry(data: Any, at: tuple, entry: Any) -> Any:
    """Return the data with another entry at a path, or without the entry where the other one is ``...``."""
    changed = copy.deepcopy(data)
    there = changed
    for key in at[:-1]:
        there = there[key]
    if entry is ...:
        del there[at[-1]]
    else:
        there[at[-1]] = entry
    return changed


def at_share(share: float, entry: Any) -> Damage:
    """Return the damage that changes the entry at this share of all entries of a JSON file."""

    def changed(text: str) -> str:
        data = json.loads(text)
        paths = list(places(data))
        return json.dumps(with_entry(data, paths[min(len(paths) - 1, int(share * len(paths)))], entry))

    return of_text(changed)


def inserted(text: str) -> str:
    """Return JSON with another key in its first object."""
    return text.replace("{", '{"more": 1,', 1)


ENTRIES: dict[str, Any] = {
    **{"a list": [1], "an object": {"a": 1}, "a text": "x", "null": None, "true": True, "gone": ...},
    **{"nan": float("nan"), "infinite": float("inf"), "negative": -1, "huge": 10**30, "half": 0.5},
}
JSON: dict[str, Damage] = {
    f"the entry at {share} is {name}": at_share(share, entry)
    for i, (name, entry) in enumerate(ENTRIES.items())
    for share in ((0, 0.2, 0.4)[i % 3], (0.6, 0.8, 0.99)[i % 3])
}
NESTED: dict[str, Damage] = {
    "nested deeply": of_bytes(lambda data: b"[" * 100_000 + b"]" * 100_000),
    "a list": of_bytes(lambda data: b"[]"),
    "an object": of_bytes(lambda data: b"{}"),
    "a number": of_bytes(lambda data: b"1e400"),
    "null": of_bytes(lambda data: b"null"),
}
"""Other JSON in place of a file's."""
MORE: dict[str, Damage] = {"a key more": of_text(inserted)}


def copied(source: Path, folder: Path) -> Path:
    """Copy a folder as links to the same bytes, of which damage makes new files."""
    return Path(shutil.copytree(source, folder, copy_function=lambda a, b: Path(b).hardlink_to(a)))
