"""Share parts of several figures: panels, order of methods, random circuits, legends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from acdc.catalogue import METHODS, label
from acdc.errors import InputError
from acdc.figures.style import CHANCE_DASH, COLUMN, GREY, INK, PAGE, look

RANDOM = "random"
"""The method of random circuits, of the controls and of the catalogue."""
REACHING = "n_edges_reaching"
"""The column that is the size of a circuit in figures: edges that do not lead on to the logits do nothing."""
FEW = 4
"""Panels that stand two in a row; of more there are three."""
MANY = 25
"""Points of a curve from which on they are dots."""


# Panels.


def canvas(n_panels: int) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels, two in a row, or three where they are many."""
    columns = min(n_panels, 2 if n_panels <= FEW else 3)
    width = {1: COLUMN + 0.6, 2: PAGE, 3: 1.2 * PAGE}[columns]
    return panels(n_panels, columns, (width, 0.7 + 2.2 * -(-n_panels // columns)))


def panels(n_panels: int, columns: int, size: tuple[float, float], shared: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels, row by row.

    Args:
        size: in inches.
        shared: all panels have the same axes.
    """
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(-(-n_panels // columns), columns, squeeze=False, sharex=shared, sharey=shared)
    return figure, used(grid.flat, n_panels)


def used(grid: Iterable[Axes], n_panels: int) -> list[Axes]:
    """Remove the axes beyond the last panel; return the others."""
    axes = list(grid)
    for unused in axes[n_panels:]:
        unused.remove()
    return axes[:n_panels]


def title(labels: Mapping[str, str]) -> str:
    """Return a panel's title: the task, and the metric and the ablation of its search."""
    return f"{label(labels['task'])}\n{label(labels['metric'])}, {label(labels['ablation'])}"


def name_outer_axes(grid: Sequence[Axes], x: str, y: str | None = None) -> None:
    """Name the axes that all panels have once a column, below it, and once a row, at its left.

    Args:
        y: None leaves the names of the panels as they are.
    """
    columns = next(spec.ncols for axes in grid if (spec := axes.get_gridspec()))
    for i, axes in enumerate(grid):
        axes.set_xlabel(x if i + columns >= len(grid) else "")
        if y is not None:
            axes.set_ylabel(y if i % columns == 0 else "")


# Methods.


def in_order(methods: Iterable[str]) -> list[str]:
    """Return distinct names of methods in the catalogue's order; unknown ones come last."""
    names = list(dict.fromkeys(methods))
    return [name for name in METHODS if name in names] + [name for name in names if name not in METHODS]


def is_compared(methods: pd.Series) -> pd.Series:
    """Return which rows are of methods that use the prompts; the others are controls."""
    blind = [method.name for method in METHODS.values() if not method.uses_prompts]
    return ~methods.isin(blind)


def not_converged(rows: pd.DataFrame) -> pd.Series:
    """Return which circuits are known to come from a search that did not converge."""
    return rows["converged"].astype(str) == "False"


# Random circuits.


def draw_random(axes: Axes, rows: pd.DataFrame, dash: Any) -> None:
    """Draw random circuits as a line at the median with a band from the worst to the best seed.

    Args:
        rows: columns size, y and seed.
    """
    rows = of_one_size(rows)
    bars = rows["size"].nunique() == 1  # a band over a single abscissa has no area
    sns.lineplot(
        rows, x="size", y="y", ax=axes, color=GREY, linestyle=dash, marker="o" if bars else "", markeredgewidth=0,
        estimator="median", errorbar=("pi", 100), err_style="bars" if bars else "band", legend=False, zorder=2,
    )  # fmt: skip


def of_one_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return random circuits with the median of ``size`` over the circuits of one rank in their seeds.

    A seed decides how many edges reach the logits, and how many direct edges there are.
    """
    rank = rows.groupby("seed")["size"].rank(method="first")
    return rows.assign(size=rows["size"].groupby(rank).transform("median"))


# Legends.


def method_handles(methods: Sequence[str], **looks: Any) -> list[Line2D]:
    """Return a legend entry for each method."""
    return [Line2D([], [], color=look(name)[0], marker=look(name)[1], label=label(name), **looks) for name in methods]


def hollow_handle(text: str) -> Line2D:
    """Return the legend entry of hollow markers."""
    return Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="", label=text)


def published_handle(text: str, size: float) -> Line2D:
    """Return the legend entry of the paper's own numbers."""
    return Line2D([], [], **published_look(size), label=text)


def published_look(size: float) -> dict[str, Any]:
    """Return the marker of the paper's own numbers: circles around ours."""
    return {
        "color": INK, "linestyle": "", "marker": "o", "markersize": size, "markerfacecolor": "none",
        "markeredgewidth": 0.8,
    }  # fmt: skip


def chance_handle() -> Line2D:
    """Return the legend entry of the line of chance."""
    return Line2D([], [], color=GREY, linewidth=0.6, linestyle=CHANCE_DASH, label="chance")


# What cannot be drawn.


def refuse_not_finite(column: pd.Series) -> None:
    """Check that a column has no NaN or infinite value; raise InputError that names the row if it has."""
    bad = column.isna()
    if pd.api.types.is_numeric_dtype(column):
        bad |= np.isinf(column)
    if bad.any():
        row, value = next(iter(column[bad].items()))
        raise InputError(f"column {column.name}, row {row}: {value} cannot be drawn")
