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
    for name in acdc.__all__:  # they are loaded when they are asked for, and pdoc does not ask
        setattr(acdc, name, getattr(acdc, name))
    pages = ["acdc", *(f"acdc.{name}" for name in MODULES)]
    for name in walk_specs(pages):
        import_module(name)
    for named in tuple.__subclasses__():
        if hasattr(named, "_fields"):  # a NamedTuple's constructor says that it is of a module that does not exist
            named.__new__.__module__ = named.__module__
    pdoc.render.configure(
        docformat="google", include_undocumented=False, show_source=False, template_directory=DOCS / "templates"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*pages, output_directory=folder)


if __name__ == "__main__":
    write(DOCS / "api")
    print("Open docs/api/acdc.html in a browser.")
