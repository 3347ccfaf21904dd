"""Define the look of all figures, and save them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from acdc.catalogue import METHODS
from acdc.errors import InputError
from acdc.files import whole

# Okabe & Ito (2008): told apart under the common colour-vision deficiencies.
BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#1A1A1A", "#6E6E6E", "#F2F2F2"

# Tol (2021), "muted" and "light".
MUTED = ("#332288", "#882255", "#117733", "#44AA99", "#999933", "#AA4499", "#88CCEE", "#CC6677", "#DDCC77")
LIGHT = ("#EE8866", "#77AADD")
SPARE_COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY, *MUTED, *LIGHT)
SPARE_MARKERS = ("o", "s", "^", "D", "v", "P", "p", "h", "<", ">", "d", "*", "H")
"""The markers of methods that declare none, one after the other, as the colours above."""
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
    found, spare = {}, spare_looks()
    for method in METHODS.entries.values():
        color, marker = ("", "") if method.color and method.marker else next(spare)
        found[method.name] = (method.color or color, method.marker or marker)
    return found


def spare_looks() -> Iterator[tuple[str, str]]:
    """Yield unused looks: unused colours first with unused markers, then with all other markers."""
    declared = METHODS.entries.values()
    colors = [color for color in SPARE_COLORS if color not in {method.color for method in declared}]
    markers = sorted(SPARE_MARKERS, key={method.marker for method in declared}.__contains__)  # those not taken first
    return cycle(
        (color, markers[(i + turn) % len(markers)]) for turn in range(len(markers)) for i, color in enumerate(colors)
    )


def style() -> AbstractContextManager[None]:
    """Return a context manager that gives figures their look, and then restores the caller's settings."""
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
            drawn = io.BytesIO()  # matplotlib does not end well where the disk is full
            figure.savefig(drawn, format=path.suffix.removeprefix("."), metadata=NO_METADATA[path.suffix])
            if path.suffix == ".png":
                drawn = in_few_colors(drawn)
            with whole(path) as partial:
                partial.write_bytes(drawn.getbuffer())


def in_few_colors(png: io.BytesIO) -> io.BytesIO:
    """Return a PNG in 256 colours: a third of the bytes, and nobody sees the difference of figures with ten."""
    drawn, smaller = Image.open(png), io.BytesIO()
    few = drawn.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(smaller, "PNG", optimize=True, dpi=drawn.info["dpi"])
    return smaller
