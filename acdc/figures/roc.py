"""Draw ROC curves of the recovery of known circuits, in the layout of the paper's figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from acdc.analysis.published import as_published
from acdc.analysis.recovery import pessimistic_auc, roc_curve
from acdc.catalogue import LEVELS, METRICS, label
from acdc.errors import InputError
from acdc.figures.layout import (
    MANY,
    chance_handle,
    in_order,
    method_handles,
    published_handle,
    published_look,
    refuse_not_finite,
    used,
)
from acdc.figures.style import CHANCE_DASH, DASHES, GREY, INK, PAGE, look, style

COLUMNS, SIDE, BESIDE, ROW_HEIGHT = 4, 1.4, 1.05, 1.85  # panels; inches, of a panel, of the areas beside it, of a row
PUBLISHED = 7.5
"""The size of the circles of the paper's points, in points."""
OWN = "own"
"""The name in the paper's points for a metric that is the task's own."""
PLACE = ["task", "model", "ablation"]
PANEL = [*PLACE, "beside"]
"""The columns whose values make a panel; ``beside`` is the metric in its title."""


def roc(table: pd.DataFrame, published: pd.DataFrame, level: str) -> Figure:
    """Draw one panel per task, model, ablation and metric, with a curve per method.

    A metric that the paper measures on every task stands dashed beside the task's own, where that was searched by too.

    A curve is the lowest staircase through the points that no other beats, whose area is the paper's AUC. All points
    are marked, beaten ones too, the darker the higher the threshold, or the fewer edges or nodes are kept. The paper's
    own points stand beside ours, where it publishes some. Of a task with several known circuits the first one in the
    table counts.

    Args:
        table: recovery.csv.
        published: acdc/assets/published/roc_points.csv.
        level: one of the catalogue's.

    Raises:
        InputError: no row of that level, or a rate that is NaN.
    """
    table = table[table["level"] == level]
    if table.empty:
        raise InputError(f"no row of level {level}")
    for rate in ("tpr", "fpr"):
        refuse_not_finite(table[rate])
    panels = list(of_panels(table))
    with style():
        figure, grid = canvas(len(panels))
        for axes, (title, rows) in zip(grid, panels, strict=True):
            draw_panel(axes, rows, published, level)
            axes.set_title(title, fontsize=6.5)
        figure.suptitle(f"Recovery of known circuits: {label(level)}")
        figure.supxlabel("false positive rate", y=0.62 / figure.get_figheight(), fontsize=8)
        figure.supylabel("true positive rate", fontsize=8)
        add_legend(figure, pd.concat([rows for _, rows in panels]), level)
    return figure


def canvas(n_panels: int) -> tuple[Figure, list[Axes]]:
    """Make a figure of square panels, with room for areas beside each."""
    columns = min(n_panels, COLUMNS)
    rows = -(-n_panels // COLUMNS)
    width, height = max(PAGE / 2, 0.6 + (SIDE + BESIDE) * columns), 1.35 + ROW_HEIGHT * rows
    figure = Figure(figsize=(width, height))
    margins = {"left": 0.55 / width, "right": 1 - BESIDE / width, "bottom": 1.0 / height, "top": 1 - 0.85 / height}
    figure.subplots_adjust(**margins, hspace=0.55, wspace=BESIDE / SIDE)
    axes = used(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat, n_panels)
    for above in axes[-columns:]:
        above.tick_params(labelbottom=True)
    return figure, axes


# What a panel is of.


def of_panels(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield a panel's title and its rows of the first known circuit, with the columns beside and dash."""
    table = table.assign(beside=beside(table))
    for _, rows in table.groupby(PANEL, sort=False):
        first = rows.iloc[0]
        rows = rows[(rows["known"] == first["known"]) & (rows["known_of"] == first["known_of"])]
        others = [metric for metric in dict.fromkeys(rows["metric"]) if metric != first["beside"]]
        order = {metric: i for i, metric in enumerate([first["beside"], *others])}
        yield title(first), rows.assign(dash=rows["metric"].map(order).clip(upper=len(DASHES) - 1))


def beside(table: pd.DataFrame) -> pd.Series:
    """Return for each row the metric that names its panel: its own or, for a metric of every task, the task's own."""
    of_every_task = [metric.name for metric in METRICS.values() if metric.published not in ("", OWN)]
    is_own = ~table["metric"].isin(of_every_task)
    own = table[is_own].drop_duplicates(PLACE)[[*PLACE, "metric"]].rename(columns={"metric": "own"})
    named = table[PLACE].merge(own, "left").set_index(table.index)["own"]
    return table["metric"].where(is_own, named.fillna(table["metric"]))


def title(row: pd.Series) -> str:
    """Return a panel's title: the task, the model where its name says more, ablation, metric and known circuit."""
    task, model = row["task"], row["model"]
    on_model = "" if task.startswith(model) else f" on {model}"
    if model.startswith(task):
        on_model = model.removeprefix(task).replace("_", " ")
    known = row["known"] if row["known_of"] == model else f"{row['known']} (trained)"
    return f"{label(task)}{on_model}\n{label(row['ablation'])}, {label(row['beside'])}\nknown: {known}"


# Drawing.


def draw_panel(axes: Axes, rows: pd.DataFrame, published: pd.DataFrame, level: str) -> None:
    """Draw the curves of one panel, and their areas beside it."""
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=CHANCE_DASH, zorder=1)
    draw_published(axes, rows, published, level)
    areas = []
    curves = rows.groupby(["method", "metric"], sort=False)
    for above, ((method, _), points) in zip(reversed(range(len(curves))), curves, strict=True):
        color, marker = look(str(method))
        pairs = list(zip(points["fpr"], points["tpr"], strict=True))
        # A curve below others is wider, so that one that they cover is seen.
        stairs: dict[str, Any] = {
            "drawstyle": "steps-post",
            "linestyle": DASHES[points["dash"].iloc[0]],
            "linewidth": min(1 + 0.5 * above, 2.2),
        }
        axes.plot(*zip(*roc_curve(pairs), strict=True), color=color, zorder=3, **stairs)
        draw_points(axes, points, color, marker)
        of_dash = " (dashed)" if points["dash"].iloc[0] else ""
        areas.append((f"{label(str(method))}{of_dash} {pessimistic_auc(pairs):.3f}", color))
    write_areas(axes, [("AUC", INK), *areas])


def write_areas(axes: Axes, areas: list[tuple[str, str]]) -> None:
    """Write areas under curves, with their colours, beside the panel: there they cover no curve."""
    for i, (text, color) in enumerate(areas):
        axes.text(1.07, 0.97 - 0.11 * i, text, transform=axes.transAxes, va="top", color=color, fontsize=6)


def draw_points(axes: Axes, points: pd.DataFrame, color: str, marker: str) -> None:
    """Mark a curve's circuits, the darker the smaller they are; as dots where they are many."""
    where: dict[str, Any] = {"x": points["fpr"], "y": points["tpr"], "clip_on": False, "zorder": 4}
    if len(points) > MANY:
        axes.scatter(**where, color=color, s=3, marker=marker, linewidths=0)
    else:
        looks: dict[str, Any] = {
            "cmap": shades(color),
            "vmin": 0,
            "vmax": 1,
            "s": 12,
            "marker": marker,
            "linewidths": 0.5,
        }
        axes.scatter(**where, c=strictness(points), edgecolors=color, **looks)


def strictness(points: pd.DataFrame) -> np.ndarray:
    """Return from 0 at a curve's loosest circuit to 1 at its strictest.

    A higher threshold or regularisation is stricter; fewer edges or nodes are.
    """
    value = pd.to_numeric(points["value"], errors="coerce")
    level = value.where(~points["size_by"].isin(["n_edges", "n_nodes"]), -value)
    rank = np.argsort(np.argsort(level, kind="stable"))
    return rank / max(len(rank) - 1, 1)


def shades(color: str) -> Colormap:
    """Return shades of one colour, from nearly white to nearly black."""
    return LinearSegmentedColormap.from_list(color, ["#FFFFFF", color, INK])


def draw_published(axes: Axes, rows: pd.DataFrame, published: pd.DataFrame, level: str) -> None:
    """Draw the paper's points of the same task, metric, ablation and method, where it has them at this level."""
    first, name = rows.iloc[0], LEVELS[level].published
    if not name or first["known"] != "published" or first["known_of"] != first["model"]:
        return
    points = published.merge(as_published(rows).drop_duplicates())
    where: dict[str, Any] = {"clip_on": False, "zorder": 5}
    axes.plot(points[f"{name}_fpr"], points[f"{name}_tpr"], **published_look(PUBLISHED), **where)


# The legend.


def add_legend(figure: Figure, rows: pd.DataFrame, level: str) -> None:
    """Add one legend for all panels."""
    handles: list = method_handles(in_order(rows["method"]))
    for i in sorted(set(rows["dash"]) - {0}):
        metrics = " or ".join(map(label, dict.fromkeys(rows.loc[rows["dash"] == i, "metric"])))
        handles.append(Line2D([], [], color=GREY, linestyle=DASHES[i], label=f"by {metrics}"))
    by_size = tuple(
        Line2D([], [], linestyle="", marker="o", color=shades(GREY)(shade), markeredgecolor=GREY)
        for shade in (0, 0.5, 1)
    )
    handles.append(by_size)
    if LEVELS[level].published:
        handles.append(published_handle("published points", PUBLISHED))
    handles.append(chance_handle())
    figure.legend(
        handles=handles,
        labels=[h.get_label() if h is not by_size else "larger to smaller circuits" for h in handles],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        loc="lower center",
        ncols=5 if figure.get_figwidth() > PAGE - 1 else 3,
        columnspacing=1.2,
    )
