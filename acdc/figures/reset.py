"""Draw trained models beside their reset networks, in which there is nothing to find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from acdc.catalogue import label
from acdc.errors import InputError
from acdc.figures.layout import chance_handle, in_order, published_handle, published_look, refuse_not_finite
from acdc.figures.style import CHANCE_DASH, COLUMN, GREY, look, style

KEYS = ["task", "metric", "ablation"]
PUBLISHED = 10
"""The size of the circles of the paper's areas, in points."""


def trained_and_reset(auc: pd.DataFrame, pairs: Mapping[str, str]) -> Figure:
    """Draw areas under ROC curves of edges: a line per method from its reset network's to the trained model's.

    There is one panel per task, metric and ablation that both were run on; of several known circuits the first counts.

    Args:
        auc: a study's auc.csv.
        pairs: names of reset networks, and of the models that they were made of.

    Raises:
        InputError: no method was run on a reset network and its model, or an area is NaN.
    """
    panels = list(of_pairs(auc[auc["level"] == "edge"], pairs))
    if not panels:
        raise InputError("no method was run on both a reset network and the model that it was made of")
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
    """Yield titles of the panels and, by method, the columns auc, auc_reset and published."""
    order = {method: i for i, method in enumerate(in_order(edges["method"]))}
    for reset, trained in pairs.items():
        of_trained = edges[edges["known_of"] == trained]
        on_reset = of_trained[of_trained["model"] == reset]
        for values, found in on_reset.groupby(KEYS, sort=False):
            same = (of_trained[KEYS] == list(values)).all(axis=1) & (of_trained["model"] == trained)
            rows = first_known(found, of_trained[same])
            if len(rows):
                refuse_not_finite(rows["auc"])
                refuse_not_finite(rows["auc_reset"])
                task, metric, ablation = map(label, map(str, values))
                title = f"{task}: {metric}, {ablation} ablation"
                yield title, rows.sort_values("method", key=lambda names: names.map(order))


def first_known(found: pd.DataFrame, of_trained: pd.DataFrame) -> pd.DataFrame:
    """Return the trained model's areas against the first known circuit, with those of the reset network."""
    known = found["known"].iloc[0]
    reset, trained = (rows[rows["known"] == known] for rows in (found, of_trained))
    return trained.merge(reset[["method", "auc"]], on="method", suffixes=("", "_reset"))


def draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the panel of one search, with a line per method."""
    for y, row in enumerate(rows.to_dict("records")):
        color, marker = look(row["method"])
        axes.plot([row["auc_reset"], row["auc"]], [y, y], color=color, zorder=2)
        if not np.isnan(row["published"]):
            axes.plot(row["published"], y, **published_look(PUBLISHED))
        # The reset one is smaller, so that both are seen where they are the same.
        axes.plot(row["auc"], y, marker, color=color, markersize=7, clip_on=False, zorder=3)
        looks: dict[str, Any] = {"color": color, "markerfacecolor": "white", "markersize": 4}
        axes.plot(row["auc_reset"], y, marker, **looks, clip_on=False, zorder=4)
    axes.axvline(0.5, color=GREY, linewidth=0.6, linestyle=CHANCE_DASH, zorder=1)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), [label(method) for method in rows["method"]])


def add_legend(figure: Figure, has_published: bool) -> None:
    """Add one legend for all panels."""
    dot: dict[str, Any] = {"color": GREY, "linestyle": "", "marker": "o"}
    handles = [
        Line2D([], [], **dot, markersize=7, label="trained model"),
        Line2D([], [], **dot, markersize=4, markerfacecolor="white", label="reset network"),
    ]
    handles += [published_handle("published (trained)", PUBLISHED)] if has_published else []
    figure.legend(handles=[*handles, chance_handle()], loc="outside lower center", ncols=2)
