"""Draw the sizes of circuits against how much of the model's behaviour they keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator
from matplotlib.transforms import Bbox, blended_transform_factory

from acdc.catalogue import ABLATIONS, METRICS, label
from acdc.errors import InputError
from acdc.figures.layout import MANY, RANDOM, REACHING, canvas, draw_random, refuse_not_finite
from acdc.figures.style import DASHES, GREY, INK, LEVEL_DASH, PAGE, look, style
from acdc.found import CONTROL, COUNTS, LABELS, PRUNED, SIZE

KEYS = (*LABELS, *SIZE, "origin", "seed", REACHING)
"""Columns that the figure needs."""
NO_METRICS = {*KEYS, *COUNTS, PRUNED, "converged"}
"""Every other column is a metric."""
FILLS = (("full", False), ("full", True), ("bottom", False), ("left", False))
"""The fills of markers, for the first minimised metric, the second and so on: the filled part, and whether in white."""
AXIS = 30
"""Characters that fit beside an axis."""
LABEL_OFFSETS = ((0, 5), (0, -5), (5, 0), (-5, 0), (5, 5), (5, -5), (-5, 5), (-5, -5))  # points


def pareto(table: pd.DataFrame) -> Figure:
    """Draw one panel per metric: edges that reach the logits (log scale) against the metric on held-out prompts.

    Every search by a method is one line. Where its circuits were found one value at a time, such as a threshold, the
    values stand at the points that have room for them, with their unit where searches by several metrics have some.
    Random circuits are one line with a band from the worst to the best seed. The model and its ablated run are labelled
    levels. The catalogue says which metrics are drawn as the share of the model's value that is kept; they are drawn in
    their unit where the model's own value is of the wrong sign, for a share of that means nothing. Any other metric is
    drawn as it is minimised.

    Args:
        table: evaluations of one task's circuits on one model, and its controls: a row per circuit, with the columns
            of ``KEYS``. Every column that is no label is a metric on held-out prompts, in the form in which it is
            minimised.

    Raises:
        InputError: NaN or infinity (the message names column and row), a missing column, no metric, more than one model
            or task, no row or more than one value of the full graph.
    """
    metrics = check(table)
    series = searches(table)
    with style():
        figure, panels = canvas(len(metrics))
        levels = [draw_panel(axes, table, series, metric) for axes, metric in zip(panels, metrics, strict=True)]
        figure.suptitle(f"{table['task'].iloc[0]} on {table['model'].iloc[0]}")
        add_legend(figure, table, series)
        freeze(figure)
        for axes, metric, level in zip(panels, metrics, levels, strict=True):
            spread(level)
            label_values(axes, with_units([s for s in series if s.has_values]), drawn_values(table, metric))
    return figure


# The table.


def check(table: pd.DataFrame) -> list[str]:
    """Return the metric columns of a table that can be drawn; see ``pareto`` for what is raised."""
    if missing := [key for key in KEYS if key not in table]:
        raise InputError(f"no column {', '.join(missing)}")
    metrics = [str(column) for column in table if column not in NO_METRICS]
    if not metrics:
        raise InputError("no metric: every column is a label")
    for column in ("task", "model", "ablation", "method", "origin", REACHING, *metrics):
        refuse_not_finite(table[column])
    for column in ("metric", *SIZE):
        refuse_not_finite(table.loc[table["origin"] != CONTROL, column])
    for column in ("task", "model"):
        if table[column].nunique() != 1:
            raise InputError(f"one {column} a figure, not {sorted(table[column].unique())}")
    for metric in metrics:
        if (n := controls(table, "full")[metric].nunique()) != 1:
            raise InputError(f"the full graph must have one value of {metric}, not {n}")
    return metrics


def controls(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the rows of one control, such as the full graph."""
    return table[(table["origin"] == CONTROL) & (table["method"] == method)]


@dataclass(frozen=True)
class Search:
    """Hold a line of the figure: one method's circuits by one metric under one ablation, and its look."""

    label: str
    size_by: str
    rows: pd.DataFrame
    color: str
    look: dict[str, Any]

    @property
    def has_values(self) -> bool:
        """Return whether values are written at the points; counts of edges or nodes are on the axis already."""
        return self.size_by not in COUNTS


def searches(table: pd.DataFrame) -> list[Search]:
    """Return a line for every method, minimised metric and ablation, without controls."""
    found = table[table["origin"] != CONTROL]
    metrics, ablations = list(dict.fromkeys(found["metric"])), ablations_of(table)
    lines = []
    for key, rows in found.groupby(["method", "metric", "ablation"], sort=False):
        method, metric, ablation = map(str, key)
        text = f"{label(method)} by {label(metric)}"
        text += f", {label(ablation)} ablation" if len(ablations) > 1 else ""
        color, marker = look(method)
        looks = {"color": color, "marker": marker, "linestyle": dash_of(ablation, ablations), "label": text}
        looks |= fill(color, metrics.index(metric))
        rows = rows.sort_values(REACHING, kind="stable")
        lines.append(Search(text, rows["size_by"].iloc[0], rows, color, looks))
    return lines


def fill(color: str, i: int) -> dict[str, Any]:
    """Return the fill of markers for the i-th minimised metric."""
    style, is_white = FILLS[i % len(FILLS)]
    return {"fillstyle": style, "markerfacecolor": "white" if is_white else color, "markerfacecoloralt": "white"}


def ablations_of(table: pd.DataFrame) -> list[str]:
    """Return the ablations in a table, without that of the whole model, which has none."""
    return list(dict.fromkeys(table.loc[table["method"] != "full", "ablation"]))


def dash_of(ablation: str, ablations: list[str]) -> Any:
    """Return the dash of an ablation's lines."""
    return DASHES[ablations.index(ablation) % len(DASHES)]


# Metrics.


def drawn_values(table: pd.DataFrame, metric: str) -> pd.Series:
    """Return the values of a metric to draw, see ``pareto``."""
    if not is_share(metric):
        return table[metric]
    full = full_value(table, metric)
    return table[metric] / full if full < 0 else -table[metric]


def y_label(table: pd.DataFrame, metric: str) -> str:
    """Return the name of a metric's axis, with its unit."""
    text = label(metric)
    in_unit = text if metric not in METRICS or not METRICS[metric].unit else f"{text} ({METRICS[metric].unit})"
    if is_share(metric):
        if full_value(table, metric) < 0:
            return broken("share of the model's", f"{text} kept")
        return broken(f"{in_unit},", "below 0 in the model itself")
    if metric in METRICS and METRICS[metric].is_distance:
        return broken(text, f"from the model{in_unit.removeprefix(text)}")
    return broken(f"{in_unit},", "lower is better")


def broken(first: str, second: str) -> str:
    """Join two parts of a label, on two lines where one would be longer than an axis."""
    return f"{first} {second}" if len(first) + len(second) < AXIS else f"{first}\n{second}"


def is_share(metric: str) -> bool:
    """Return whether a metric is drawn as the share of the model's value."""
    return metric in METRICS and METRICS[metric].as_share


def full_value(table: pd.DataFrame, metric: str) -> float:
    """Return the whole model's value in the minimised form: negative where the model does the task."""
    return float(controls(table, "full")[metric].iloc[0])


# Drawing.


def draw_panel(axes: Axes, table: pd.DataFrame, series: list[Search], metric: str) -> list[Annotation]:
    """Draw one metric; return the labels of the levels, which may need moving apart."""
    shown = table.assign(y=drawn_values(table, metric))
    for ablation, rows in controls(shown, RANDOM).groupby("ablation", sort=False):
        draw_random(axes, rows.assign(size=rows[REACHING]), dash_of(str(ablation), ablations_of(table)))
    for s in series:
        size = 1.5 if len(s.rows) > MANY else None
        axes.plot(s.rows[REACHING], shown.loc[s.rows.index, "y"], **s.look, markersize=size, zorder=3)
    scale_edges(axes, table)
    axes.set_ylabel(y_label(table, metric))
    axes.margins(y=0.1)
    return draw_levels(axes, shown)


def draw_levels(axes: Axes, shown: pd.DataFrame) -> list[Annotation]:
    """Draw horizontal lines for the model and its ablated runs, labelled right of the panel, clear of the data."""
    levels = [("model", INK, "-", controls(shown, "full")["y"].iloc[0])]
    for ablation, rows in controls(shown, "empty").groupby("ablation", sort=False):
        name = str(ablation)
        run = ABLATIONS[name].run if name in ABLATIONS else f"{label(name)} run"
        levels.append((run, GREY, LEVEL_DASH, rows["y"].iloc[0]))
    place = blended_transform_factory(axes.transAxes, axes.transData)
    labels = []
    for text, color, dash, y in levels:
        axes.axhline(y, color=color, linestyle=dash, linewidth=0.8, zorder=1)
        labels.append(axes.annotate(text, (1, y), xycoords=place, xytext=(3, 0), textcoords="offset points",
                                    va="center", color=color, fontsize=7))  # fmt: skip
    return labels


def scale_edges(axes: Axes, table: pd.DataFrame) -> None:
    """Scale the axis of edges: logarithmic, and linear below 1 where a circuit has no edge."""
    full = int(controls(table, "full")[REACHING].iloc[0])
    is_level = (table["origin"] == CONTROL) & (table["method"] != RANDOM)
    edges = table.loc[~is_level, REACHING]
    low, high = (edges.min(), edges.max()) if len(edges) else (1, full)
    ratio = high / max(low, 1)
    beyond = max(ratio**0.1, 1.3 if ratio > 3 else 2.5)  # room for the labels of the outermost points
    subs = (1, 2, 5) if ratio < 100 else (1,)
    if low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / beyond, high * beyond)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
    else:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.4, max(high, 1) * beyond)
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"edges that reach the logits (of {full:,})")


def add_legend(figure: Figure, table: pd.DataFrame, series: list[Search]) -> None:
    """Add one legend for all panels."""
    handles = [Line2D([], [], **s.look) for s in series]
    if n := controls(table, RANDOM)["seed"].nunique():
        text = f"random circuits (median and range of {n} seeds)" if n > 1 else "random circuits (one seed)"
        handles.append(Line2D([], [], color=GREY, label=text))
    if not handles:
        return
    fits_one_row = len(handles) <= 3 and sum(len(str(h.get_label())) for h in handles) < 115
    columns = 1 if figure.get_figwidth() < PAGE else len(handles) if fits_one_row else 2
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, title=legend_title(series), handlelength=2.6
    )


def legend_title(series: list[Search]) -> str | None:
    """Return the title for the numbers at the points, such as "threshold"; None if there are none."""
    sizes = dict.fromkeys(label(s.size_by) for s in series if s.has_values)
    return f"numbers at the points: {', '.join(sizes)}" if sizes else None


def freeze(figure: Figure) -> None:
    """Lay out the figure once and for all, since labels depend on the positions of other parts."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def spread(labels: list[Annotation]) -> None:
    """Move labels of levels that are close to each other up, so that none covers another."""
    below = None
    for text in sorted(labels, key=lambda a: a.xy[1]):
        box = text.get_window_extent()
        if below is not None and box.y0 < below:
            shift = below - box.y0
            text.set_position((3, shift * 72 / text.figure.dpi))
            box = box.translated(0, shift)
        below = box.y1


def with_units(series: list[Search]) -> list[Search]:
    """Return searches whose values have units, such as 0.1 nats, if their metrics have different units."""
    metrics = {str(s.rows["metric"].iloc[0]) for s in series}
    units = {metric: METRICS[metric].unit if metric in METRICS else "" for metric in metrics}
    if len(set(units.values())) < 2:
        return series
    text = {metric: f" {unit or label(metric)}" for metric, unit in units.items()}
    return [replace(s, rows=s.rows.assign(value=s.rows["value"] + s.rows["metric"].map(text))) for s in series]


def label_values(axes: Axes, series: list[Search], y: pd.Series) -> None:
    """Write values beside their points, the extreme ones first, and leave out those that find no room."""
    if not series:
        return
    rows = pd.concat([s.rows.assign(y=y, color=s.color, line=s.label) for s in series], ignore_index=True)
    points = axes.transData.transform(rows[[REACHING, "y"]])
    taken = [marker_box(point, axes.figure.dpi) for point in points]
    ends = rows.groupby("line", sort=False)[REACHING].agg(["idxmin", "idxmax"]).to_numpy().ravel()
    for i in dict.fromkeys([*ends, *rows.index]):
        if box := label_point(axes, rows.loc[i], points, i, taken):
            taken.append(box)


def marker_box(point: np.ndarray, dpi: float) -> Bbox:
    """Return the box that a marker covers, in pixels."""
    return Bbox([point - 2.5 * dpi / 72, point + 2.5 * dpi / 72])


def label_point(axes: Axes, row: pd.Series, points: np.ndarray, own: int, taken: list[Bbox]) -> Bbox | None:
    """Write a value at the first free place that is nearest to its own point; return None if there is none."""
    for dx, dy in LABEL_OFFSETS:
        text = axes.annotate(
            row["value"], (row[REACHING], row["y"]), xytext=(dx, dy), textcoords="offset points", fontsize=6,
            ha=("center", "left", "right")[np.sign(dx)], va=("center", "bottom", "top")[np.sign(dy)],
            color=row["color"], zorder=4,
        )  # fmt: skip
        box = text.get_window_extent().padded(1)
        distance = np.hypot(*(points - np.clip(points, box.min, box.max)).T)
        if distance.argmin() == own and is_free(axes, box, taken):
            return box
        text.remove()
    return None


def is_free(axes: Axes, box: Bbox, taken: list[Bbox]) -> bool:
    """Return whether a box is inside the panel and covers neither labels nor lines."""
    if box.count_overlaps(taken) or not axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1:
        return False
    if not axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1:
        return False
    paths = (line.get_path().transformed(line.get_transform()) for line in axes.get_lines())
    return not any(path.intersects_bbox(box, filled=False) for path in paths)
