"""Write docs/api: the reference of what users of the package import or subclass, made of its docstrings.

    make api

The pages need no network: styles, script and search index are in them.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path

import pdoc
import pdoc.render
from pdoc.extract import walk_specs

import acdc

DOCS = Path(__file__).parent
MODULES = (
    "ablation",
    "analysis",
    "catalogue",
    "data",
    "engine.load",
    "engine.model",
    "errors",
    "exchange",
    "found",
    "graph",
    "heads",
    "known",
    "labels",
    "methods",
    "metrics",
    "models.architecture",
    "models.model",
    "prompt_files",
    "reference",
    "tasks",
    "text",
)
"""These have a page, a package with all its modules: what a notebook or an extension meets. The rest serves them."""


def write(folder: Path) -> None:
    """Write the pages.

    Raises:
        UserWarning: pdoc warns of something, such as a type that it cannot resolve.
    """
    pages = ["acdc", *(f"acdc.{name}" for name in MODULES)]
    prepare(pages)
    pdoc.render.configure(
        docformat="google", include_undocumented=False, show_source=False, template_directory=DOCS / "templates"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*pages, output_directory=folder)


def prepare(pages: list[str]) -> None:
    """Load the modules, and put in place what pdoc would not find or would tell wrongly."""
    for name in acdc.__all__:  # acdc loads them when they are asked for, and pdoc does not ask
        setattr(acdc, name, getattr(acdc, name))
    for module in map(import_module, walk_specs(pages)):
        for name, value in [*vars(module).items()]:
            if isinstance(value, Path):  # where it is in a clone, and not on the machine that makes the pages
                setattr(module, name, value.relative_to(DOCS.parent))
    for kind in tuple.__subclasses__():
        if hasattr(kind, "_fields"):  # a NamedTuple's constructor names a module that does not exist
            kind.__new__.__module__ = kind.__module__


if __name__ == "__main__":
    write(DOCS / "api")
    print("Open docs/api/acdc.html in a browser.")
