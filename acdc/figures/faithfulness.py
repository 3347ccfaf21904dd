"""Draw faithfulness over circuits' sizes, all methods in one figure (Mueller et al. 2025, MIB)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acdc.analysis.faithfulness import faithfulness, is_constant, searches
from acdc.catalogue import COMPARED
from acdc.errors import InputError
from acdc.figures.layout import (
    MANY,
    RANDOM,
    REACHING,
    canvas,
    draw_random,
    hollow_handle,
    in_order,
    is_compared,
    method_handles,
    name_outer_axes,
    not_converged,
    of_one_size,
    refuse_not_finite,
    title,
)
from acdc.figures.style import GREY, INK, LEVEL_DASH, PAGE, look, style
from acdc.found import CONTROL

LOWEST, HIGHEST = -0.5, 1.6
"""Shares beyond are drawn as arrows at the edge. A panel whose shares stay far within is cut to them."""
SEEN = 0.01
"""A difference of shares that can be seen."""
MARGIN = 0.12
"""The room that a panel has above and below its shares."""


def curves(evaluation: pd.DataFrame) -> Figure:
    """Draw one panel for every search by several methods: share of all edges (log scale) against faithfulness.

    Only edges that reach the logits count: others do nothing. A method is a line; its circuits that have not converged
    are hollow. Random circuits are a median with a band from the worst to the best seed. Circuits without an edge that
    counts are not drawn: they keep 0.

    Args:
        evaluation: a study's circuits and controls, evaluation.csv.

    Raises:
        InputError: no search has enough methods, or a value is NaN.
    """
    panels = list(of_searches(evaluation))
    if not panels:
        raise InputError(f"no search was done by {COMPARED} methods: there is nothing to compare")
    with style():
        figure, grid = canvas(len(panels))
        for axes, (labels, rows) in zip(grid, panels, strict=True):
            draw_panel(axes, rows)
            axes.set_title(title(labels))
        name_outer_axes(grid, x="edges that reach the logits, of all", y="share of the metric kept")
        add_legend(figure, pd.concat([rows for _, rows in panels]))
    return figure


def of_searches(evaluation: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield the labels of every search that has a panel, and its circuits and random ones.

    Rows have the columns ``size`` (edges that reach the logits, in percent of all) and ``kept``. A search whose metric
    is the same with all edges and with none has no panel.
    """
    for labels, found, controls in searches(evaluation):
        ends = controls.drop_duplicates("method").set_index("method")
        metric, n_edges = labels["metric"], float(ends[REACHING]["full"])
        full, empty = float(ends[metric]["full"]), float(ends[metric]["empty"])
        found = found[is_compared(found["method"])]
        random = of_one_size(controls[controls["method"] == RANDOM].assign(size=lambda rows: rows[REACHING]))
        rows = pd.concat([found.assign(size=found[REACHING]), random])
        refuse_not_finite(rows[metric])
        if found["method"].nunique() >= COMPARED and not is_constant(full, empty):
            kept = faithfulness(rows[metric].to_numpy(), empty, full)
            rows = rows.assign(size=100 * rows["size"] / n_edges, kept=kept)
            yield labels, rows[rows["size"] > 0]


def draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the panel of one search."""
    is_random = rows["origin"] == CONTROL
    random = rows[is_random]
    draw_random(axes, random.assign(y=random["kept"].clip(LOWEST, HIGHEST)), "-")
    for method, of_method in rows[~is_random].groupby("method", sort=False):
        draw_method(axes, of_method.sort_values("size", kind="stable"), *look(str(method)))
    axes.axhline(1, color=INK, linewidth=0.8, zorder=1)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=LEVEL_DASH, zorder=1)
    low, high = max(LOWEST, min(0, rows["kept"].min()) - MARGIN), min(HIGHEST, max(1, rows["kept"].max()) + MARGIN)
    axes.set(xscale="log", xlim=(rows["size"].min() / 1.5, 130), ylim=(low, high))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}%"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_method(axes: Axes, rows: pd.DataFrame, color: str, marker: str) -> None:
    """Draw one method's circuits: a line, their markers, and arrows at the edge for those beyond it.

    Of many circuits only those have a marker at which the line turns.
    """
    axes.plot(rows["size"], rows["kept"], color=color, zorder=3)
    inside, unfinished = rows["kept"].between(LOWEST, HIGHEST), not_converged(rows)
    markers: dict[str, Any] = {"color": color, "linestyle": "", "zorder": 4, "markersize": 2 if len(rows) > MANY else 4}
    marked = inside & (turns(rows["kept"]) if len(rows) > MANY else True)
    for which, face in ((marked & ~unfinished, color), (marked & unfinished, "white")):
        axes.plot(rows.loc[which, "size"], rows.loc[which, "kept"], marker=marker, markerfacecolor=face, **markers)
    for beyond, edge, arrow in ((rows["kept"] > HIGHEST, HIGHEST, "^"), (rows["kept"] < LOWEST, LOWEST, "v")):
        far = rows[beyond].assign(kept=edge)
        if len(far):  # a line without a point, not clipped, counts as one in the corner of the figure
            axes.plot(far["size"], far["kept"], marker=arrow, markerfacecolor="white", clip_on=False, **markers)


def turns(kept: pd.Series) -> pd.Series:
    """Return which circuits have another share than a neighbour, and the first and the last circuit."""
    return (kept.diff().abs() > SEEN) | (kept.diff(-1).abs() > SEEN) | kept.index.isin(kept.index[[0, -1]])


def add_legend(figure: Figure, rows: pd.DataFrame) -> None:
    """Add one legend for all panels."""
    handles = method_handles(in_order(rows.loc[rows["origin"] != CONTROL, "method"]))
    if not_converged(rows).any():
        handles.append(hollow_handle("not converged"))
    if (rows["origin"] == CONTROL).any():
        handles.append(Line2D([], [], color=GREY, label="random (median and range)"))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, label="the model"))
    handles.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=LEVEL_DASH, label="no edges"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if figure.get_figwidth() >= PAGE else 2)
