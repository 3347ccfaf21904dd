"""Trained models beside their reset networks, in which there is nothing to find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from acdc.figures.pareto import pretty, refuse_not_finite
from acdc.figures.style import COLUMN, GREY, INK, METHODS, look, style

TRAINED = " (trained)"
"""What ends the name of a known circuit where it is that of the model that a reset network was made of."""
KEYS = ["task", "metric", "ablation"]


def trained_and_reset(auc: pd.DataFrame, pairs: Mapping[str, str]) -> Figure:
    """Areas under ROC curves of edges: a line per method from its reset network's to the trained model's.

    One panel per task, metric and ablation that both were run on; of several known circuits the first counts.

    Args:
        auc: a study's auc.csv.
        pairs: names of reset networks, and of the models that they were made of.

    Raises:
        ValueError: no method was run on a reset network and its model, or an area is NaN.
    """
    panels = list(of_pairs(auc[auc["level"] == "edge"], pairs))
    if not panels:
        raise ValueError("no method was run on both a reset network and the model that it was made of")
    heights = [len(rows) for _, rows in panels]
    with style():
        figure = Figure(figsize=(COLUMN + 0.6, 0.9 + sum(0.45 + 0.22 * n for n in heights)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=[n + 0.6 for n in heights])
        for axes, (title, rows) in zip(grid.flat, panels, strict=True):
            draw_panel(axes, rows)
            axes.set_title(title)
        grid.flat[-1].set_xlabel("AUC of edges against the trained model's circuit")
        add_legend(figure, any(rows["published"].notna().any() for _, rows in panels))
    return figure


def of_pairs(edges: pd.DataFrame, pairs: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Titles of the panels and, by method, the columns trained, reset and published."""
    for reset, trained in pairs.items():
        for values, found in edges[edges["model"] == reset].groupby(KEYS, sort=False):
            first = found["known"].iloc[0]
            found = found[found["known"] == first]
            same = np.logical_and.reduce([edges[key] == value for key, value in zip(KEYS, values, strict=True)])
            known = edges["known"] == first.removesuffix(TRAINED)
            of_trained = edges[same & (edges["model"] == trained) & known]
            rows = of_trained.merge(found[["method", "auc"]], on="method", suffixes=("", "_reset"))
            if len(rows):
                refuse_not_finite(rows["auc"])
                refuse_not_finite(rows["auc_reset"])
                order = {method: i for i, method in enumerate((*METHODS, "random"))}
                task, metric, ablation = map(pretty, values)
                yield f"{task}: {metric}, {ablation} ablation", rows.sort_values("method", key=lambda m: m.map(order))


def draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    for y, row in enumerate(rows.to_dict("records")):
        color, marker = look(row["method"])
        axes.plot([row["auc_reset"], row["auc"]], [y, y], color=color, zorder=2)
        if not np.isnan(row["published"]):
            axes.plot(row["published"], y, "o", color=INK, markersize=10, markerfacecolor="none", markeredgewidth=0.8)
        # The reset one is smaller, so that both are seen where they are the same.
        axes.plot(row["auc"], y, marker, color=color, markersize=7, clip_on=False, zorder=3)
        looks = {"color": color, "markerfacecolor": "white", "markersize": 4}
        axes.plot(row["auc_reset"], y, marker, **looks, clip_on=False, zorder=4)
    axes.axvline(0.5, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), [pretty(method) for method in rows["method"]])


def add_legend(figure: Figure, has_published: bool) -> None:
    dot = {"color": GREY, "linestyle": "", "marker": "o"}
    handles = [
        Line2D([], [], **dot, markersize=7, label="trained model"),
        Line2D([], [], **dot, markersize=4, markerfacecolor="white", label="reset network"),
    ]
    if has_published:
        looks = {"color": INK, "linestyle": "", "marker": "o", "markersize": 10, "markerfacecolor": "none"}
        handles.append(Line2D([], [], **looks, markeredgewidth=0.8, label="published (trained)"))
    handles.append(Line2D([], [], color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), label="chance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
