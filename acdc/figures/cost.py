"""Draw the cost of finding circuits against their quality."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acdc.catalogue import COMPARED
from acdc.errors import InputError
from acdc.figures.layout import (
    RANDOM,
    hollow_handle,
    in_order,
    is_compared,
    method_handles,
    name_outer_axes,
    panels,
    refuse_not_finite,
    title,
)
from acdc.figures.style import GREY, LEVEL_DASH, PAGE, look, style
from acdc.found import SEARCH

COLUMNS, ROW_HEIGHT = 3, 1.75  # panels, inches
GOODNESS = {"faithful": "1 - gap", "auc": "AUC of edges"}
UNITS = {"seconds": "seconds (one thread)", "evaluations": "runs of the model"}
LOWEST = -0.1
"""Worse is drawn as an arrow at the edge."""


def cost(methods: pd.DataFrame, by: str) -> Figure:
    """Draw one panel per search: a point per method, its cost (log scale) against how good its circuits are.

    A cost is that of all circuits of a method. How good they are is told by the area under the ROC curve of edges where
    a circuit is known, and by 1 - the gap on held-out prompts where none is. A method with circuits that have not
    converged is hollow. Random circuits, which cost nothing to find, are a line.

    Args:
        methods: a study's methods.csv.
        by: ``seconds`` or ``evaluations``.

    Raises:
        InputError: no search was done by enough methods, a method's cost is missing, or ``by`` is something else.
    """
    if by not in UNITS:
        raise InputError(f"a cost is {' or '.join(UNITS)}, not {by}")
    shown = sorted(of_searches(methods, by), key=lambda panel: list(GOODNESS).index(panel[1]))
    if not shown:
        raise InputError(f"no search was done by {COMPARED} methods: there is nothing to compare")
    with style():
        columns, rows = min(len(shown), COLUMNS), -(-len(shown) // COLUMNS)
        size = (PAGE * max(columns, 2) / COLUMNS, 0.9 + ROW_HEIGHT * rows)
        figure, grid = panels(len(shown), columns, size, shared=True)
        for axes, (labels, measure, points) in zip(grid, shown, strict=True):
            draw_panel(axes, points, by, measure)
            axes.set_title(title(labels))
            axes.set_ylabel(GOODNESS[measure])
        costs = pd.concat([points[by] for *_, points in shown])
        for axes in grid[-COLUMNS:]:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if costs.max() < 100 * costs.min() else (1,)))
            axes.tick_params(labelbottom=True)
        name_outer_axes(grid, x=UNITS[by])
        add_legend(figure, pd.concat([points for *_, points in shown]))
    return figure


def of_searches(methods: pd.DataFrame, by: str) -> Iterator[tuple[dict[str, str], str, pd.DataFrame]]:
    """Yield labels, measure and rows of every panel. A search whose metric is constant has none.

    The measure is the area where the search has one, for recovering a known circuit is a harder test than keeping the
    metric.
    """
    for values, rows in methods.groupby(SEARCH, sort=False):
        found = rows[is_compared(rows["method"])]
        if len(found) < COMPARED or rows["is_constant"].any():
            continue
        refuse_not_finite(rows["gap"])
        missing = found[~(found[by] > 0)]
        if len(missing):
            raise InputError(f"{missing['method'].iloc[0]} on {values[0]}: its {by} are missing")
        rows = pd.concat([found, rows[rows["method"] == RANDOM]]).assign(faithful=lambda rows: 1 - rows["gap"])
        measure = "auc" if "auc" in rows and rows["auc"].notna().any() else "faithful"
        yield dict(zip(SEARCH, map(str, values), strict=True)), measure, rows[rows[measure].notna()]


def draw_panel(axes: Axes, rows: pd.DataFrame, by: str, measure: str) -> None:
    """Draw the panel of one search by one measure."""
    for row in rows.to_dict("records"):
        if row["method"] == RANDOM:
            axes.axhline(max(row[measure], LOWEST), color=GREY, linestyle=LEVEL_DASH, linewidth=0.8, zorder=1)
            continue
        color, marker = look(row["method"])
        beyond = row[measure] < LOWEST
        axes.plot(
            row[by], max(row[measure], LOWEST), color=color, marker="v" if beyond else marker, linestyle="",
            markersize=5.5, markerfacecolor="white" if beyond or row["n_not_converged"] > 0 else color, clip_on=False,
            zorder=3,
        )  # fmt: skip
    axes.set(xscale="log", ylim=(LOWEST, 1.05), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)
    axes.axhline(1, color=GREY, linewidth=0.4, zorder=0)


def add_legend(figure: Figure, rows: pd.DataFrame) -> None:
    """Add one legend for all panels."""
    found = rows[rows["method"] != RANDOM]
    handles = method_handles(in_order(found["method"]), linestyle="")
    if (found["n_not_converged"] > 0).any():
        handles.append(hollow_handle("not all converged"))
    if len(found) < len(rows):
        handles.append(Line2D([], [], color=GREY, linestyle=LEVEL_DASH, linewidth=0.8, label="random circuits"))
    one_row = sum(len(str(h.get_label())) + 6 for h in handles) < 14 * figure.get_figwidth()
    columns = len(handles) if one_row else -(-len(handles) // 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.2, handletextpad=0.4)
