"""Read and write the files of vectors: what other authors' code computed.

``make.py`` of a folder of vectors writes its file in an environment of its own, where acdc is not installed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"


@cache
def read_vectors(folder: str) -> dict[str, Any]:
    """Return what a folder's ``make.py`` computed."""
    return json.loads(file_of(folder).read_text())


def write_vectors(folder: str, found: dict[str, Any]) -> None:
    """Write what a folder's ``make.py`` computed, with nine digits of every number."""
    file_of(folder).write_text(json.dumps(rounded(found), separators=(",", ":")) + "\n")


def rounded(value: Any) -> Any:
    """Return a value of JSON whose numbers have nine digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return value if isinstance(value, str) else float(f"{value:.9g}")


def file_of(folder: str) -> Path:
    return VECTORS / folder / "vectors.json"
