"""Find circuits in transformers: see README.md, docs/python.md and ``acdc --help``.

A notebook needs ``load_model``, ``prompts`` (or ``task_prompts``), ``find`` and ``load``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acdc.api import find, load, load_model, metric, prompts, task_prompts
    from acdc.data import Dataset
    from acdc.errors import InputError
    from acdc.found import Found, Sweep
    from acdc.graph import Circuit, Edge, Graph, Node
    from acdc.models.model import Model

__version__ = "0.1.0"
# fmt: off
__all__ = [
    "load_model", "prompts", "task_prompts", "find", "metric", "load",
    "Found", "Sweep", "Circuit", "Edge", "Node", "Graph", "Dataset", "Model", "InputError",
]
# fmt: on

HOMES = {
    **dict.fromkeys(("Circuit", "Edge", "Graph", "Node"), "graph"),
    **dict.fromkeys(("Found", "Sweep"), "found"),
    **{"Dataset": "data", "InputError": "errors", "Model": "models.model"},
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import acdc`` alone does not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'acdc' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"acdc.{HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
