"""Give all figures one look, and one way to be saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from acdc.catalogue import METHODS
from acdc.errors import InputError

# Okabe & Ito (2008): told apart under the common colour-vision deficiencies.
BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#1A1A1A", "#6E6E6E", "#F2F2F2"

SPARE_COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY, "#332288", "#882255", "#8C6D31", "#117733", "#3B528B")
SPARE_MARKERS = ("o", "s", "^", "D", "v", "P", "p", "h", "<", ">", "d", "H")
"""What methods without a look of their own get: those that nobody declares, one after the other."""
UNKNOWN = (GREY, "X")
"""The look of what the catalogue has not, such as circuits of another tool."""
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
LEVEL_DASH: Any = (0, (3, 2))
CHANCE_DASH: Any = (0, (1, 2))

COLUMN, PAGE = 3.4, 7.0  # inches: one column and the full width of a two-column page

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the same glyphs on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.titlesize": 9,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # Type 3 fonts are refused by many publishers
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "acdc.figures",  # without it the element ids of an SVG are random
}

# What would put the date or the library's version into the file.
NO_METADATA = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}


def look(method: str) -> tuple[str, str]:
    """Return a method's colour and marker, the same in all figures.

    They are the catalogue's. A method that declares none has the next spare ones, in the catalogue's order; a name that
    the catalogue has not is grey.
    """
    return looks().get(method, UNKNOWN)


def looks() -> dict[str, tuple[str, str]]:
    """Return the colour and marker of every method of the catalogue."""
    declared = METHODS.entries.values()
    colors = spare(SPARE_COLORS, [method.color for method in declared])
    markers = spare(SPARE_MARKERS, [method.marker for method in declared])
    return {method.name: (method.color or next(colors), method.marker or next(markers)) for method in declared}


def spare(all_of_them: tuple[str, ...], taken: list[str]) -> Iterator[str]:
    """Yield what nobody has taken, from the start again at its end."""
    return cycle([one for one in all_of_them if one not in taken])


def style() -> AbstractContextManager[None]:
    """Return the look of every figure for a ``with`` statement, after which the caller's settings come back."""
    return matplotlib.rc_context(RC)


def save(figure: Figure, paths: Iterable[Path | str]) -> None:
    """Write a figure to every path, the same bytes on every run; the format is the path's suffix.

    Raises:
        InputError: a suffix other than .pdf, .svg and .png; nothing is written then.
    """
    files = [Path(path) for path in paths]
    for path in files:
        if path.suffix not in NO_METADATA:
            raise InputError(f"{path}: figures are saved as {', '.join(NO_METADATA)}")
    with style():
        for path in files:
            figure.savefig(path, metadata=NO_METADATA[path.suffix])
