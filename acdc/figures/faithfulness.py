"""How much of the metric circuits keep over their sizes, all methods in one figure (Mueller et al. 2025, MIB)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acdc.analysis.faithfulness import SEARCH, faithfulness, is_constant
from acdc.figures.pareto import BASELINES, canvas, draw_random, pretty, refuse_not_finite
from acdc.figures.roc import MANY
from acdc.figures.style import GREY, INK, METHODS, PAGE, look, style

FEWEST = 3
"""Methods that a search needs for a panel: fewer are no comparison."""
LOWEST, HIGHEST = -0.5, 1.6
"""Shares beyond are drawn as arrows at the edge."""


def curves(evaluation: pd.DataFrame) -> Figure:
    """One panel for every search by several methods: share of all edges (log scale) against faithfulness.

    A line per method; SP's circuits that have not converged are hollow. Random circuits are a median with a band from
    the worst to the best seed. Circuits without an edge are not drawn: they keep 0.

    Args:
        evaluation: a study's circuits and controls, evaluation.csv.

    Raises:
        ValueError: no search has three methods, or a value is NaN.
    """
    panels = list(of_searches(evaluation))
    if not panels:
        raise ValueError(f"no search was done by {FEWEST} methods: there is nothing to compare")
    with style():
        figure, grid = canvas(len(panels))
        for axes, (labels, rows) in zip(grid, panels, strict=True):
            draw_panel(axes, rows)
            axes.set_title(f"{pretty(labels['task'])}, {pretty(labels['metric'])}, {pretty(labels['ablation'])}")
        add_legend(figure, pd.concat([rows for _, rows in panels]))
    return figure


def of_searches(evaluation: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Labels of every search that has a panel, and its circuits and random ones with ``size`` (percent) and ``kept``.

    A search whose metric is the same with all edges and with none has none.
    """
    is_control = evaluation["metric"] == "-"
    for values, found in evaluation[~is_control & ~evaluation["method"].isin(BASELINES)].groupby(SEARCH, sort=False):
        labels = dict(zip(SEARCH, values, strict=True))
        same = [evaluation[key] == labels[key] for key in ("task", "model", "ablation")]
        controls = evaluation[np.logical_and.reduce([is_control, *same])]
        ends = controls.drop_duplicates("method").set_index("method")
        rows = pd.concat([found, controls[controls["method"] == "random"]])
        metric, full, empty = labels["metric"], ends.loc["full"], ends.loc["empty"]
        refuse_not_finite(rows[metric])
        if found["method"].nunique() >= FEWEST and not is_constant(full[metric], empty[metric]):
            kept = faithfulness(rows[metric].to_numpy(), empty[metric], full[metric])
            rows = rows.assign(size=100 * rows["n_edges"] / full["n_edges"], kept=kept)
            yield labels, rows[rows["n_edges"] > 0]


def draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    random = rows[rows["method"] == "random"]
    draw_random(axes, random.assign(n_edges=random["size"], y=random["kept"].clip(LOWEST, HIGHEST)), "-")
    for method, of_method in rows[rows["method"] != "random"].groupby("method", sort=False):
        draw_method(axes, of_method.sort_values("size", kind="stable"), *look(method))
    axes.axhline(1, color=INK, linewidth=0.8, zorder=1)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    axes.set(xscale="log", xlim=(rows["size"].min() / 1.5, 130), ylim=(LOWEST, HIGHEST))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}%"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="share of all edges", ylabel="share of the metric kept")


def draw_method(axes: Axes, rows: pd.DataFrame, color: str, marker: str) -> None:
    axes.plot(rows["size"], rows["kept"], color=color, zorder=3)
    inside, settled = rows["kept"].between(LOWEST, HIGHEST), rows["note"] != "not converged"
    markers = {"color": color, "linestyle": "", "zorder": 4, "markersize": 2 if len(rows) > MANY else 4}
    for which, face in ((inside & settled, color), (inside & ~settled, "white")):
        axes.plot("size", "kept", data=rows[which], marker=marker, markerfacecolor=face, **markers)
    for beyond, edge, arrow in ((rows["kept"] > HIGHEST, HIGHEST, "^"), (rows["kept"] < LOWEST, LOWEST, "v")):
        far = rows[beyond].assign(kept=edge)
        if len(far):  # a line without a point, not clipped, counts as one in the corner of the figure
            axes.plot("size", "kept", data=far, marker=arrow, markerfacecolor="white", clip_on=False, **markers)


def add_legend(figure: Figure, rows: pd.DataFrame) -> None:
    methods = [method for method in METHODS if method in set(rows["method"])]
    handles = [Line2D([], [], color=look(m)[0], marker=look(m)[1], label=pretty(m)) for m in methods]
    if (rows["note"] == "not converged").any():
        color, marker = look("sp")
        looks = {"color": color, "marker": marker, "markerfacecolor": "white"}
        handles.append(Line2D([], [], **looks, label="SP, not converged"))
    handles.append(Line2D([], [], color=GREY, label="random (median and range)"))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, label="the model"))
    handles.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (3, 2)), label="no edges"))
    columns = 4 if figure.get_figwidth() >= PAGE else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
