"""What finding circuits costs against how good they are."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from acdc.analysis.faithfulness import SEARCH
from acdc.figures.faithfulness import FEWEST
from acdc.figures.pareto import pretty
from acdc.figures.style import GREY, METHODS, PAGE, look, style

COLUMNS, ROW_HEIGHT = 3, 1.75  # panels, inches
GOODNESS = {"faithful": "1 - CMD", "auc": "AUC of edges"}
UNITS = {"seconds": "seconds (one thread)", "evaluations": "runs of the model"}
LOWEST = -0.1
"""Worse is drawn as an arrow at the edge."""


def cost(methods: pd.DataFrame, by: str) -> Figure:
    """One panel per search and measure: a point per method, its cost for all circuits (log scale) against the measure.

    Measures are 1 - CMD, on held-out prompts, and the area under the ROC curve of edges where a circuit is known. A
    method with circuits that have not converged is hollow. Random circuits, which cost nothing to find, are a line.

    Args:
        methods: a study's methods.csv.
        by: ``seconds`` or ``evaluations``.

    Raises:
        ValueError: no search was done by three methods, a method's cost is missing, or ``by`` is something else.
    """
    if by not in UNITS:
        raise ValueError(f"a cost is {' or '.join(UNITS)}, not {by}")
    panels = list(of_searches(methods, by))
    if not panels:
        raise ValueError(f"no search was done by {FEWEST} methods: there is nothing to compare")
    with style():
        figure, grid = canvas(len(panels))
        for axes, (labels, measure, rows) in zip(grid, panels, strict=True):
            draw_panel(axes, rows, by, measure)
            axes.set_title(f"{pretty(labels['task'])}\n{pretty(labels['metric'])}, {pretty(labels['ablation'])}")
            axes.set_ylabel(GOODNESS[measure])
        for axes in grid[-COLUMNS:]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(f"{UNITS[by]},\nall circuits of a method")
        add_legend(figure, pd.concat([rows for *_, rows in panels]))
    return figure


def of_searches(methods: pd.DataFrame, by: str) -> Iterator[tuple[dict[str, str], str, pd.DataFrame]]:
    """Labels, measure and rows of every panel."""
    for values, rows in methods.groupby(SEARCH, sort=False):
        found = rows[rows["method"] != "random"]
        if len(found) < FEWEST or rows["cmd"].isna().any():
            continue
        missing = found[~(found[by] > 0)]
        if len(missing):
            raise ValueError(f"{missing['method'].iloc[0]} on {values[0]}: its {by} are missing")
        rows = rows.assign(faithful=1 - rows["cmd"])
        for measure in GOODNESS:
            if measure in rows and rows[measure].notna().any():
                yield dict(zip(SEARCH, values, strict=True)), measure, rows[rows[measure].notna()]


def canvas(n_panels: int) -> tuple[Figure, list[Axes]]:
    columns = min(n_panels, COLUMNS)
    rows = -(-n_panels // COLUMNS)
    figure = Figure(figsize=(PAGE * max(columns, 2) / COLUMNS, 0.9 + ROW_HEIGHT * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for unused in axes[n_panels:]:
        unused.remove()
    return figure, axes[:n_panels]


def draw_panel(axes: Axes, rows: pd.DataFrame, by: str, measure: str) -> None:
    for row in rows.to_dict("records"):
        if row["method"] == "random":
            axes.axhline(max(row[measure], LOWEST), color=GREY, linestyle=(0, (3, 2)), linewidth=0.8, zorder=1)
            continue
        color, marker = look(row["method"])
        beyond = row[measure] < LOWEST
        axes.plot(
            row[by], max(row[measure], LOWEST), color=color, marker="v" if beyond else marker, linestyle="",
            markersize=5.5, markerfacecolor="white" if beyond or row["note"] != "-" else color, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set(xscale="log", ylim=(LOWEST, 1.05), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)
    axes.axhline(1, color=GREY, linewidth=0.4, zorder=0)


def add_legend(figure: Figure, rows: pd.DataFrame) -> None:
    methods = [method for method in METHODS if method in set(rows["method"])]
    handles = [Line2D([], [], color=look(m)[0], marker=look(m)[1], linestyle="", label=pretty(m)) for m in methods]
    if (rows.loc[rows["method"] != "random", "note"] != "-").any():
        looks = {"color": GREY, "marker": "s", "markerfacecolor": "white", "linestyle": ""}
        handles.append(Line2D([], [], **looks, label="not all converged"))
    handles.append(Line2D([], [], color=GREY, linestyle=(0, (3, 2)), linewidth=0.8, label="random circuits"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2, handletextpad=0.4)
