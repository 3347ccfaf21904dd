"""Find circuits in transformers: see README.md and ``python -m acdc --help``.

``acdc.load_model``, ``acdc.text``, ``acdc.find`` and ``acdc.load`` are all that a notebook needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acdc.api import Model, find, load, load_model, prompts
    from acdc.found import Found
    from acdc.graph import Circuit, Edge, Graph, Node

__version__ = "0.1.0"
__all__ = ["Circuit", "Edge", "Found", "Graph", "Model", "Node", "find", "load", "load_model", "prompts"]

HOMES = {"Circuit": "graph", "Edge": "graph", "Graph": "graph", "Node": "graph", "Found": "found"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that ``import acdc`` alone does not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'acdc' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"acdc.{HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
