"""Find the files that ship with the package: word lists, known circuits, published numbers, models, the page."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def asset(*path: str) -> Traversable:
    """Return the path of a file or folder in the package's assets, which need not exist.

    Args:
        path: the parts of the path below ``acdc/assets``, such as ``"words", "names.txt"``.
    """
    return files(__name__).joinpath(*path)
