"""Look up in the package what a text names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from contextlib import suppress
from functools import cache, reduce
from typing import Any

import acdc

NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
ENDINGS = ("csv", "html", "json", "pth", "py", "safetensors", "sif", "tar")
"""A dotted name that ends so is a file's."""
NO_NAMES = {"a1.h0.q", "a5.h2.k", "metadata.subject"}
"""Two ports of heads and a column of a file."""


@cache
def wholes() -> dict[str, list[Any]]:
    """Return the modules and classes of the package by the last part of their names."""
    found: dict[str, list[Any]] = {"acdc": [acdc]}
    for info in pkgutil.walk_packages(acdc.__path__, "acdc."):
        if info.name != "acdc.__main__":
            module = importlib.import_module(info.name)
            found.setdefault(info.name.rpartition(".")[2], []).append(module)
            for name, kind in inspect.getmembers(module, inspect.isclass):
                found.setdefault(name, []).append(kind)
    return found


def part(whole: Any, name: str) -> Any:
    """Return an attribute or a submodule; None for what only instances have.

    Raises:
        AttributeError: there is none.
    """
    if hasattr(whole, name):
        return getattr(whole, name)
    if inspect.ismodule(whole) and importlib.util.find_spec(f"{whole.__name__}.{name}"):
        return importlib.import_module(f"{whole.__name__}.{name}")
    kinds = [kind for kind in getattr(whole, "__mro__", ()) if kind.__module__.startswith("acdc")]
    if any(re.search(rf"^ +(self\.)?{name}\b.*[:=]", inspect.getsource(kind), re.MULTILINE) for kind in kinds):
        return None
    raise AttributeError(f"{whole} has no {name}")


def thing(dotted: str) -> Any:
    """Return what a dotted name of the package names; raises as ``part`` does."""
    return reduce(part, dotted.split(".")[1:], acdc)


def names_something(dotted: str) -> bool:
    """Return whether a dotted name is of a module or class of the package, or begins with another package."""
    root, *parts = dotted.split(".")
    for whole in wholes().get(root, []):
        with suppress(AttributeError, ModuleNotFoundError):
            reduce(part, parts, whole)
            return True
    return root not in wholes() and importlib.util.find_spec(root) is not None


def is_name(text: str) -> bool:
    """Return whether a text has the form of a dotted name, and not of a file's."""
    return bool(NAME.fullmatch(text)) and text.rpartition(".")[2] not in ENDINGS and text not in NO_NAMES
