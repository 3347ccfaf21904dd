"""ROC curves: how much of the known circuits found ones recover, in the layout of the paper's figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from acdc.analysis.published import LEVELS, as_published
from acdc.analysis.recovery import pessimistic_auc, roc_curve
from acdc.figures.pareto import DASHES, pretty, refuse_not_finite
from acdc.figures.style import GREY, INK, METHODS, PAGE, look, style

ABLATIONS = {
    "corrupted": "corrupted",
    "corrupted_permuted": "corrupted, permuted",
    "zero": "zero",
    "mean": "mean",
}
MANY = 25
"""Points of a curve from which on they are dots."""
LEVEL_NAMES = {"edge": "edges", "node": "nodes", "original_node": "nodes as the paper counts them"}
COLUMNS, SIDE, ROW_HEIGHT = 5, 1.4, 1.85  # panels, inches, inches
PANEL = ["task", "model", "ablation", "by"]
"""What a panel is of; ``by``: the metric, KL divergence beside a metric of the task's own."""


def roc(table: pd.DataFrame, published: pd.DataFrame, level: str) -> Figure:
    """One panel per task, model, ablation and metric; a curve per method, dashed where it went by KL divergence.

    A curve is the lowest staircase through the points that no other beats, whose area is the paper's AUC; all
    points are marked, beaten ones too, the darker the higher the threshold. The paper's own points stand beside ours,
    where it publishes some. Of a task with several known circuits the first one in the table counts.

    Args:
        table: recovery.csv.
        published: acdc/assets/published/roc_points.csv.
        level: one of recovery.csv's.

    Raises:
        ValueError: no row of that level, or a rate that is NaN.
    """
    table = table[table["level"] == level]
    if table.empty:
        raise ValueError(f"no row of level {level}")
    for rate in ("tpr", "fpr"):
        refuse_not_finite(table[rate])
    panels = [(dict(zip(PANEL, key, strict=True)), rows) for key, rows in with_groups(table).groupby(PANEL, sort=False)]
    methods = [method for method in (*METHODS, "random") if method in set(table["method"])]
    with style():
        figure, grid = canvas(len(panels))
        for axes, (labels, rows) in zip(grid, panels, strict=True):
            draw_panel(axes, rows[rows["known"] == rows["known"].iloc[0]], published, level)
            axes.set_title(title(labels, rows["known"].iloc[0]), fontsize=6.5)
        figure.suptitle(f"Recovery of known circuits: {LEVEL_NAMES[level]}")
        figure.supxlabel("false positive rate", y=0.62 / figure.get_figheight(), fontsize=8)
        figure.supylabel("true positive rate", fontsize=8)
        add_legend(figure, methods, "kl_divergence" in set(table["metric"]), level)
    return figure


def canvas(n_panels: int) -> tuple[Figure, list[Axes]]:
    columns = min(n_panels, COLUMNS)
    rows = -(-n_panels // COLUMNS)
    width, height = max(PAGE / 2, 0.6 + SIDE * columns), 1.25 + ROW_HEIGHT * rows
    figure = Figure(figsize=(width, height))
    margins = {"left": 0.55 / width, "right": 1 - 0.1 / width, "bottom": 1.0 / height, "top": 1 - 0.75 / height}
    figure.subplots_adjust(**margins, hspace=0.55)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for unused in axes[n_panels:]:
        unused.remove()
    for above in axes[n_panels - columns : n_panels]:
        above.tick_params(labelbottom=True)
    return figure, axes[:n_panels]


def with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """With the column ``by``."""
    is_own = table["metric"] != "kl_divergence"
    own = table[is_own].drop_duplicates(PANEL[:-1]).set_index(PANEL[:-1])["metric"]
    beside = table.join(own.rename("by"), on=PANEL[:-1])["by"].fillna("kl_divergence")
    return table.assign(by=table["metric"].where(is_own, beside))


def title(labels: dict[str, str], known: str) -> str:
    task, model = labels["task"], labels["model"]
    on_model = "" if task.startswith(model) else f" on {model}"
    if model.startswith(task):
        on_model = model.removeprefix(task).replace("_", " ")
    return f"{pretty(task)}{on_model}\n{ABLATIONS[labels['ablation']]}, {pretty(labels['by'])}\nknown: {known}"


def draw_panel(axes: Axes, rows: pd.DataFrame, published: pd.DataFrame, level: str) -> None:
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    draw_published(axes, rows, published, level)
    areas = []
    curves = rows.groupby(["method", "metric"], sort=False)
    for above, ((method, metric), points) in zip(reversed(range(len(curves))), curves, strict=True):
        color, marker = look(method)
        dash = DASHES[metric == "kl_divergence"]
        pairs = list(zip(points["fpr"], points["tpr"], strict=True))
        # A curve below others is wider, so that one that they cover is seen.
        stairs = {"drawstyle": "steps-post", "linestyle": dash, "linewidth": min(1 + 0.5 * above, 2.2), "zorder": 3}
        axes.plot(*zip(*roc_curve(pairs), strict=True), color=color, **stairs)
        draw_points(axes, points, color, marker)
        areas.append((pessimistic_auc(pairs), color))
    for i, (area, color) in enumerate(reversed(areas)):
        axes.text(
            0.97, 0.05 + 0.1 * i, f"AUC {area:.3f}", ha="right", color=color, fontsize=5.5, zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85},
        )  # fmt: skip


def draw_points(axes: Axes, points: pd.DataFrame, color: str, marker: str) -> None:
    where = {"x": points["fpr"], "y": points["tpr"], "clip_on": False, "zorder": 4}
    if len(points) > MANY:
        axes.scatter(**where, color=color, s=3, marker=marker, linewidths=0)
    else:
        looks = {"cmap": shades(color), "vmin": 0, "vmax": 1, "s": 12, "marker": marker, "linewidths": 0.5}
        axes.scatter(**where, c=strictness(points["threshold"]), edgecolors=color, **looks)


def strictness(thresholds: pd.Series) -> np.ndarray:
    """From 0 at a curve's lowest threshold to 1 at its highest; fewer of the best edges are a higher one."""
    sizes = thresholds.astype(str).str.extract(r"^top (\d+)$")[0].astype(float)
    level = np.where(sizes.isna(), pd.to_numeric(thresholds, errors="coerce"), -sizes)
    rank = np.argsort(np.argsort(level, kind="stable"))
    return rank / max(len(rank) - 1, 1)


def shades(color: str) -> Colormap:
    """Of one colour, from nearly white to nearly black."""
    return LinearSegmentedColormap.from_list(color, ["#FFFFFF", color, INK])


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
        Line2D([], [], color=look(method)[0], marker=look(method)[1], label=pretty(method)) for method in methods
    ]
    if by_kl:
        handles.append(Line2D([], [], color=GREY, linestyle=DASHES[1], label="by KL divergence"))
    by_threshold = tuple(
        Line2D([], [], linestyle="", marker="o", color=shades(GREY)(shade), markeredgecolor=GREY)
        for shade in (0, 0.5, 1)
    )
    handles.append(by_threshold)
    if level in LEVELS:
        handles.append(
            Line2D([], [], color=INK, linestyle="", marker="o", markersize=7.5, markerfacecolor="none",
                   label="published points")
        )  # fmt: skip
    handles.append(Line2D([], [], color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), label="chance"))
    figure.legend(
        handles=handles,
        labels=[h.get_label() if h is not by_threshold else "threshold, low to high" for h in handles],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        loc="lower center",
        ncols=5 if figure.get_figwidth() > PAGE - 1 else 3,
        columnspacing=1.2,
    )
