"""ROC curves: how much of the known circuits found ones recover, in the layout of the paper's figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from acdc.figures.pareto import DASHES, MARKERS, pretty, refuse_not_finite
from acdc.figures.style import GREY, INK, PAGE, PALE, PALETTE, style
from acdc.published import LEVELS, as_published
from acdc.recovery import pessimistic_auc, roc_curve

ABLATIONS = {
    "corrupted": "corrupted",
    "corrupted_permuted": "corrupted,\npositions permuted",
    "zero": "zero",
}
"""In the order of the figure's rows."""
MANY = 25
"""Points of a curve from which on they are dots."""
LEVEL_NAMES = {"edge": "edges", "node": "nodes", "original_node": "nodes as the paper counts them"}
COLUMN_WIDTH, ROW_HEIGHT = 1.5, 1.45  # inches


def roc(table: pd.DataFrame, published: pd.DataFrame, level: str) -> Figure:
    """One panel per task (and model) and ablation; a curve per method, dashed where it went by KL divergence.

    A curve is the lowest staircase through the points that no other beats, whose area is the paper's AUC; all
    points are marked, beaten ones too. The paper's own points of ACDC stand beside ours, where it publishes some.
    Of a task with several known circuits the first one in the table counts.

    Args:
        table: recovery.csv.
        published: data/published/roc_points.csv.
        level: one of recovery.csv's.

    Raises:
        ValueError: no row of that level, or a rate that is NaN.
    """
    table = table[table["level"] == level]
    if table.empty:
        raise ValueError(f"no row of level {level}")
    for rate in ("tpr", "fpr"):
        refuse_not_finite(table[rate])
    tasks = list(dict.fromkeys(zip(table["task"], table["model"], strict=True)))
    rows = [ablation for ablation in ABLATIONS if ablation in set(table["ablation"])]
    methods = list(dict.fromkeys(table["method"]))
    with style():
        size = max(PAGE / 2, 0.6 + COLUMN_WIDTH * len(tasks)), 1 + ROW_HEIGHT * len(rows)
        figure = Figure(figsize=size)
        figure.subplots_adjust(
            left=0.95 / size[0], bottom=0.8 / size[1], top=1 - 0.75 / size[1], right=1 - 0.2 / size[0]
        )
        grid = figure.subplots(len(rows), len(tasks), squeeze=False, sharex=True, sharey=True)
        for line, ablation in zip(grid, rows, strict=True):
            for axes, task in zip(line, tasks, strict=True):
                draw_panel(axes, panel_rows(table, *task, ablation), published, level, methods)
            line[0].set_ylabel(f"{ABLATIONS[ablation]}\n\ntrue positive rate", linespacing=1.1)
        for axes, (task, model) in zip(grid[0], tasks, strict=True):
            axes.set_title(title(table, task, model))
        for axes in grid[-1]:
            axes.set_xlabel("false positive rate")
        figure.suptitle(f"Recovery of known circuits: {LEVEL_NAMES[level]}")
        add_legend(figure, methods, "kl_divergence" in set(table["metric"]), level)
    return figure


def panel_rows(table: pd.DataFrame, task: str, model: str, ablation: str) -> pd.DataFrame:
    """Of the first known circuit."""
    rows = table[(table["task"] == task) & (table["model"] == model)]
    return rows[(rows["ablation"] == ablation) & (rows["known"] == rows["known"].iloc[0])]


def title(table: pd.DataFrame, task: str, model: str) -> str:
    known = table.loc[(table["task"] == task) & (table["model"] == model), "known"].iloc[0]
    of_model = "" if task.startswith(model) else f" on {model}"
    return f"{pretty(task)}{of_model}\nknown: {known}"


def draw_panel(axes: Axes, rows: pd.DataFrame, published: pd.DataFrame, level: str, methods: list[str]) -> None:
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    if rows.empty:
        axes.set_facecolor(PALE)
        axes.text(0.5, 0.5, "not run", ha="center", va="center", color=GREY)
        return
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    draw_published(axes, rows, published, level)
    areas = []
    for (method, metric), points in rows.groupby(["method", "metric"], sort=False):
        color, marker, dash = look(methods, method, metric)
        pairs = list(zip(points["fpr"], points["tpr"], strict=True))
        axes.plot(*zip(*roc_curve(pairs), strict=True), color=color, linestyle=dash, drawstyle="steps-post", zorder=3)
        axes.plot(
            points["fpr"], points["tpr"], color=color, linestyle="", marker=marker, clip_on=False, zorder=4,
            markersize=2 if len(points) > MANY else 4, markeredgecolor="white",
            markeredgewidth=0 if len(points) > MANY else 0.4,
        )  # fmt: skip
        areas.append((pessimistic_auc(pairs), color))
    for i, (area, color) in enumerate(reversed(areas)):
        axes.text(
            0.97, 0.05 + 0.13 * i, f"AUC {area:.3f}", ha="right", color=color, fontsize=7, zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
        )  # fmt: skip


def look(methods: list[str], method: str, metric: str) -> tuple[str, str, str | tuple]:
    """A colour for every method; marker and dash for KL divergence are others than for a task's own metric."""
    by_kl = int(metric == "kl_divergence")
    return PALETTE[methods.index(method) % len(PALETTE)], MARKERS[by_kl], DASHES[by_kl]


def draw_published(axes: Axes, rows: pd.DataFrame, published: pd.DataFrame, level: str) -> None:
    """The paper's points of the same task, metric, ablation and method, where it has them at this level."""
    if level not in LEVELS or rows["known"].iloc[0] != "published":
        return
    keys = as_published(rows).drop_duplicates()
    points = published.merge(keys)
    name = LEVELS[level]
    axes.plot(
        points[f"{name}_fpr"], points[f"{name}_tpr"], linestyle="", marker="o", markersize=7.5, color=INK,
        markerfacecolor="none", markeredgewidth=0.8, clip_on=False, zorder=5,
    )  # fmt: skip


def add_legend(figure: Figure, methods: list[str], by_kl: bool, level: str) -> None:
    handles = [
        Line2D([], [], color=look(methods, method, "")[0], marker=MARKERS[0], label=pretty(method))
        for method in methods
    ]
    if by_kl:
        handles.append(Line2D([], [], color=GREY, marker=MARKERS[1], linestyle=DASHES[1], label="by KL divergence"))
    if level in LEVELS:
        handles.append(
            Line2D([], [], color=INK, linestyle="", marker="o", markersize=7.5, markerfacecolor="none",
                   label="published points")
        )  # fmt: skip
    handles.append(Line2D([], [], color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), label="chance"))
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles) if figure.get_figwidth() > PAGE else 3,
        columnspacing=1.2,
    )
