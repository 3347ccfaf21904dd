"""One look for all figures, and the one way to save them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

# Okabe & Ito (2008): told apart under the common colour-vision deficiencies.
BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#1A1A1A", "#6E6E6E", "#F2F2F2"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY)

METHODS = ("acdc", "sp", "hisp", "eap", "eap_ig")
MARKERS = ("o", "s", "^", "D", "v")

COLUMN, PAGE = 3.4, 7.0  # inches: one column and the full width of a two-column page

RC = {
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
    "svg.hashsalt": "acdc",  # without it the element ids of an SVG are random
}

# What would put the date or the library's version into the file.
NO_METADATA = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}


def look(method: str) -> tuple[str, str]:
    """Colour and marker of a method, the same in all figures; random circuits, and what is new, are grey."""
    if method not in METHODS:
        return GREY, "X"
    i = METHODS.index(method)
    return PALETTE[i], MARKERS[i]


def style() -> AbstractContextManager[None]:
    """The look of every figure, for use in a ``with`` statement; the caller's settings come back after it."""
    return matplotlib.rc_context(RC)


def save(figure: Figure, paths: Iterable[Path | str]) -> None:
    """Write ``figure`` to every path, the same bytes on every run; the format is the path's suffix.

    Raises:
        ValueError: a suffix other than .pdf, .svg and .png; nothing is written then.
    """
    paths = [Path(path) for path in paths]
    for path in paths:
        if path.suffix not in NO_METADATA:
            raise ValueError(f"{path}: figures are saved as {', '.join(NO_METADATA)}")
    with style():
        for path in paths:
            figure.savefig(path, metadata=NO_METADATA[path.suffix])
