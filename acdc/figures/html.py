"""Make pages for a browser that need no server, no network and no file beside them, of ``acdc/assets/page``."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe

from acdc.assets import asset
from acdc.errors import reading
from acdc.fingerprint import of_text
from acdc.tables import AGAIN

if TYPE_CHECKING:
    import pandas as pd

LIBRARY = "cytoscape.min.js"
LEFT_OUT = "/* the library */"
"""The placeholder of the library in the pages of a collection, which holds the library once."""
SEAL = "<!-- "
"""The text before a page's SHA-256."""
MOST_ROWS = 400
"""The most rows of a table that a page shows at once: more make a browser slow."""


def text_of(file: str) -> str:
    """Return the text of an asset of pages."""
    return asset("page", file).read_text(encoding="utf-8")


def as_json(data: Any) -> str:
    """Return JSON for a page's script, without the sign by which a name could end or change the script."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def packed(text: str) -> str:
    """Return text compressed by gzip and written in base64, for a page's script; the same bytes on every run."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def filled(template: str, parts: dict[str, str], **texts: str) -> str:
    """Fill a template of ``acdc/assets/page``.

    Args:
        parts: by name, styles, scripts and JSON, which stand in the page as they are.
        texts: by name, titles and other names that people have chosen, which are escaped.
    """
    environment = jinja2.Environment(autoescape=True, keep_trailing_newline=True)
    marked = {name: markupsafe.Markup(part) for name, part in parts.items()}
    return environment.from_string(text_of(template)).render(**marked, **texts)


def sealed(page: str) -> str:
    """Return an interactive page with its SHA-256 in a comment at its end, so that a damaged page is recognised."""
    return f"{page}{SEAL}{of_text(page)} -->\n"


def collection(pages: Sequence[Path], title: str) -> str:
    """Make one page of many interactive pages, with a menu of their titles: they share one copy of the library.

    Args:
        pages: files of pages that ``acdc.figures.page`` made; the first is shown first.

    Raises:
        InputError: a file is no such page, was changed, or is of another version of the package.
    """
    library = text_of(LIBRARY)
    data = {"library": packed(library), "left_out": LEFT_OUT, "pages": [entry(path, library) for path in pages]}
    return filled("collection.html", {"unpack": text_of("unpack.js"), "data": as_json(data)}, title=title)


def entry(path: Path, library: str) -> dict[str, str]:
    """Return a page's title and, without the library, its packed text; see ``collection`` for what is raised."""
    with reading(path, AGAIN, "interactive page as acdc writes it"):
        page, _, seal = path.read_text(encoding="utf-8").rpartition(SEAL)
        if seal != f"{of_text(page)} -->\n":
            raise ValueError("it was cut or changed")
        before, found, after = page.partition(library)
        if not found:
            raise ValueError("it is of another version")
        title = html.unescape(page.partition("<title>")[2].partition("</title>")[0])
        return {"title": title, "page": packed(before + LEFT_OUT + after)}


def table(rows: pd.DataFrame, title: str) -> str:
    """Make a page of a table that can be sorted and searched, with numbers to four digits at least."""
    columns = [[as_text(value) for value in rows[name]] for name in rows]
    lines = json.dumps([list(line) for line in zip(*columns, strict=True)])
    data = {"columns": list(map(str, rows)), "most": MOST_ROWS, "rows": packed(lines)}
    return filled("table.html", {"unpack": text_of("unpack.js"), "data": as_json(data)}, title=title)


def as_text(value: Any) -> str:
    """Return a cell's text; nothing where it has no value."""
    if value is None or value != value:  # NaN is not itself
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)
