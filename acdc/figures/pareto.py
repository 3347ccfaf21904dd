"""How small a circuit is against how much of the model's behaviour it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator
from matplotlib.transforms import Bbox, blended_transform_factory

from acdc.figures.style import COLUMN, GREY, INK, PAGE, look, style

KEYS = ("task", "model", "metric", "ablation", "method", "setting", "n_edges", "n_nodes")
BASELINES = ("random", "full", "empty")
NAMES = {"kl_divergence": "KL divergence", "logit_difference": "logit difference", "l2": "L2", "acdc": "ACDC"}
NAMES |= {"eap": "EAP", "eap_ig": "EAP-IG", "hisp": "HISP", "sp": "SP"}
ABLATED_RUN = {"corrupted": "corrupted\nrun", "corrupted_permuted": "permuted\nrun"}
ABLATED_RUN |= {"zero": "zero-ablated\nrun", "mean": "mean-ablated\nrun"}
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))
LABEL_OFFSETS = ((0, 5), (0, -5), (5, 0), (-5, 0), (5, 5), (5, -5), (-5, 5), (-5, -5))  # points


def pareto(table: pd.DataFrame) -> Figure:
    """One panel per metric: number of edges (log scale) against the metric on held-out prompts.

    Every search is one line, its points labelled with their thresholds where there is room; random circuits
    are one line with a band from the worst to the best seed; the model and its ablated run are labelled
    levels. ``kl_divergence`` is drawn in nats, ``logit_difference`` as the fraction of the model's that is
    kept (in logits where the model itself prefers the incorrect answers: a fraction of that means nothing),
    any other metric as it is.

    Args:
        table: evaluation.csv of one model and task, a row per circuit. Columns task, model, metric (that the
            search minimised, or "-"), ablation, method ("random", "full", "empty" or a search such as
            "acdc"), setting (threshold or seed, text), n_edges and n_nodes (counts); every further column is
            a metric on held-out prompts, in the form in which it is minimised.

    Raises:
        ValueError: NaN or infinity (naming column and row), a missing column, no metric, more than one model
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
        thresholded = [s for s in series if s.method == "acdc"]
        for axes, metric, level in zip(panels, metrics, levels, strict=True):
            spread(level)
            if thresholded:
                label_thresholds(axes, thresholded, drawn_values(table, metric))
    return figure


def check(table: pd.DataFrame) -> list[str]:
    """The metric columns of a table that can be drawn; see ``pareto`` for what is raised."""
    if missing := [key for key in KEYS if key not in table]:
        raise ValueError(f"no column {', '.join(missing)}")
    metrics = list(table.columns[table.columns.get_loc("n_nodes") + 1 :])
    if not metrics:
        raise ValueError("no metric: no column comes after n_nodes")
    for column in table:
        refuse_not_finite(table[column])
    for column in ("task", "model"):
        if table[column].nunique() != 1:
            raise ValueError(f"one {column} a figure, not {sorted(table[column].unique())}")
    for metric in metrics:
        if (n := table.loc[table["method"] == "full", metric].nunique()) != 1:
            raise ValueError(f"the full graph must have one value of {metric}, not {n}")
    return metrics


def refuse_not_finite(column: pd.Series) -> None:
    bad = column.isna()
    if pd.api.types.is_numeric_dtype(column):
        bad |= np.isinf(column)
    if bad.any():
        row = bad.idxmax()
        raise ValueError(f"column {column.name}, row {row}: {column[row]} cannot be drawn")


@dataclass(frozen=True)
class Search:
    """A line of the figure: the circuits of one method, searched metric and ablation, and its look."""

    method: str
    label: str
    rows: pd.DataFrame
    color: str
    marker: str
    face: str
    dash: str | tuple

    @property
    def look(self) -> dict[str, Any]:
        looks = {"color": self.color, "marker": self.marker, "markerfacecolor": self.face, "linestyle": self.dash}
        return looks | {"label": self.label}


def searches(table: pd.DataFrame) -> list[Search]:
    found = table[~table["method"].isin(BASELINES)]
    metrics = list(dict.fromkeys(found["metric"]))
    ablations = ablations_of(table)
    lines = []
    for (method, metric, ablation), rows in found.groupby(["method", "metric", "ablation"], sort=False):
        verb = "minimising" if method == "acdc" else "by"
        label = f"{pretty(method)} {verb} {pretty(metric)}" if metric != "-" else pretty(method)
        label += f", {ablation} ablation" if len(ablations) > 1 else ""
        dash = dash_of(ablation, ablations)
        rows = rows.sort_values("n_edges", kind="stable")
        color, marker = look(method)
        face = color if metric == metrics[0] else "white"
        lines.append(Search(method, label, rows, color, marker, face, dash))
    return lines


def ablations_of(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table.loc[table["method"] != "full", "ablation"]))  # the whole model ablates nothing


def dash_of(ablation: str, ablations: list[str]) -> str | tuple:
    return DASHES[ablations.index(ablation) % len(DASHES)]


def pretty(name: str) -> str:
    return NAMES.get(name, name.replace("_", " "))


def canvas(n_panels: int) -> tuple[Figure, list[Axes]]:
    columns = min(n_panels, 2)
    rows = -(-n_panels // 2)
    width = PAGE if columns == 2 else COLUMN + 0.6
    figure = Figure(figsize=(width, 0.7 + 2.5 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[n_panels:]:
        unused.remove()
    return figure, axes[:n_panels]


def draw_panel(axes: Axes, table: pd.DataFrame, series: list[Search], metric: str) -> list[Annotation]:
    """Returns the labels of the levels, which may need moving apart."""
    shown = table.assign(y=drawn_values(table, metric))
    for ablation, rows in shown[shown["method"] == "random"].groupby("ablation", sort=False):
        draw_random(axes, rows, dash_of(ablation, ablations_of(table)))
    for s in series:
        y = shown.loc[s.rows.index, "y"]
        axes.plot(s.rows["n_edges"], y, **s.look, zorder=3)
    scale_edges(axes, table)
    axes.set_ylabel(y_label(table, metric))
    axes.margins(y=0.1)
    return draw_levels(axes, shown)


def drawn_values(table: pd.DataFrame, metric: str) -> pd.Series:
    if metric != "logit_difference":
        return table[metric]
    if prefers_incorrect(table):
        return -table[metric]
    return table[metric] / full_value(table, metric)


def y_label(table: pd.DataFrame, metric: str) -> str:
    if metric == "kl_divergence":
        return "KL divergence\nfrom the model (nats)"
    if metric != "logit_difference":
        return f"{pretty(metric)}\n(lower is better)"
    if prefers_incorrect(table):
        return "logit difference (the model\nprefers the incorrect answers)"
    return "fraction of the model's\nlogit difference kept"


def full_value(table: pd.DataFrame, metric: str) -> float:
    return float(table.loc[table["method"] == "full", metric].iloc[0])


def prefers_incorrect(table: pd.DataFrame) -> bool:
    """The minimised form is minus the logit difference, so a model that does the task has a negative value."""
    return full_value(table, "logit_difference") >= 0


def draw_random(axes: Axes, rows: pd.DataFrame, dash: str | tuple) -> None:
    # Circuits of one rank in their seeds differ by a few direct edges: they share an abscissa.
    rank = rows.groupby("setting")["n_edges"].rank(method="first")
    rows = rows.assign(n_edges=rows["n_edges"].groupby(rank).transform("median"))
    bars = rows["n_edges"].nunique() == 1  # a band over a single abscissa has no area
    sns.lineplot(
        rows, x="n_edges", y="y", ax=axes, color=GREY, linestyle=dash, marker="o" if bars else "", markeredgewidth=0,
        estimator="median", errorbar=("pi", 100), err_style="bars" if bars else "band", legend=False, zorder=2,
    )  # fmt: skip


def draw_levels(axes: Axes, shown: pd.DataFrame) -> list[Annotation]:
    """Horizontal lines for the model and its ablated runs, labelled right of the panel, clear of the data."""
    levels = [("model", INK, "-", shown.loc[shown["method"] == "full", "y"].iloc[0])]
    for ablation, rows in shown[shown["method"] == "empty"].groupby("ablation", sort=False):
        levels.append((ABLATED_RUN.get(ablation, f"{ablation} run"), GREY, (0, (3, 2)), rows["y"].iloc[0]))
    place = blended_transform_factory(axes.transAxes, axes.transData)
    labels = []
    for label, color, dash, y in levels:
        axes.axhline(y, color=color, linestyle=dash, linewidth=0.8, zorder=1)
        labels.append(axes.annotate(label, (1, y), xycoords=place, xytext=(3, 0), textcoords="offset points",
                                    va="center", color=color, fontsize=7))  # fmt: skip
    return labels


def scale_edges(axes: Axes, table: pd.DataFrame) -> None:
    full = int(table.loc[table["method"] == "full", "n_edges"].iloc[0])
    edges = table.loc[~table["method"].isin(["full", "empty"]), "n_edges"]
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
    axes.set_xlabel(f"edges in the circuit (of {full:,})")


def add_legend(figure: Figure, table: pd.DataFrame, series: list[Search]) -> None:
    handles = [Line2D([], [], **s.look) for s in series]
    random = table[table["method"] == "random"]
    if len(random):
        n = random["setting"].nunique()
        label = f"random circuits (median and range of {n} seeds)" if n > 1 else "random circuits (one seed)"
        handles.append(Line2D([], [], color=GREY, label=label))
    if not handles:
        return
    title = "numbers at the points: threshold" if any(s.method == "acdc" for s in series) else None
    fits_one_row = len(handles) <= 3 and sum(len(h.get_label()) for h in handles) < 115
    columns = 1 if figure.get_figwidth() < PAGE else len(handles) if fits_one_row else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title, handlelength=2.6)


def freeze(figure: Figure) -> None:
    """Lay out once: labels are placed by where things are, and a second layout would move those."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def spread(labels: list[Annotation]) -> None:
    """Move labels of levels that are close to each other up, so that none covers another."""
    below = None
    for label in sorted(labels, key=lambda a: a.xy[1]):
        box = label.get_window_extent()
        if below is not None and box.y0 < below:
            shift = below - box.y0
            label.set_position((3, shift * 72 / label.figure.dpi))
            box = box.translated(0, shift)
        below = box.y1


def label_thresholds(axes: Axes, series: list[Search], y: pd.Series) -> None:
    """Write thresholds beside their points, the extreme ones first, and leave out those that find no room."""
    rows = pd.concat([s.rows.assign(y=y, color=s.color) for s in series], ignore_index=True)
    points = axes.transData.transform(rows[["n_edges", "y"]])
    taken = [marker_box(point, axes.figure.dpi) for point in points]
    ends = rows.groupby("color")["n_edges"].agg(["idxmin", "idxmax"]).to_numpy().ravel()
    for i in dict.fromkeys([*ends, *rows.index]):
        if box := label_point(axes, rows.loc[i], points, i, taken):
            taken.append(box)


def marker_box(point: np.ndarray, dpi: float) -> Bbox:
    return Bbox([point - 2.5 * dpi / 72, point + 2.5 * dpi / 72])


def label_point(axes: Axes, row: pd.Series, points: np.ndarray, own: int, taken: list[Bbox]) -> Bbox | None:
    """A label at the first offset where it covers nothing and is nearest to its own point, or none and None."""
    for dx, dy in LABEL_OFFSETS:
        label = axes.annotate(
            row["setting"], (row["n_edges"], row["y"]), xytext=(dx, dy), textcoords="offset points", fontsize=6,
            ha=("center", "left", "right")[np.sign(dx)], va=("center", "bottom", "top")[np.sign(dy)],
            color=row["color"], zorder=4,
        )  # fmt: skip
        box = label.get_window_extent().padded(1)
        distance = np.hypot(*(points - np.clip(points, box.min, box.max)).T)
        if distance.argmin() == own and is_free(axes, box, taken):
            return box
        label.remove()
    return None


def is_free(axes: Axes, box: Bbox, taken: list[Bbox]) -> bool:
    if box.count_overlaps(taken) or not axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1:
        return False
    if not axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1:
        return False
    paths = (line.get_path().transformed(line.get_transform()) for line in axes.get_lines())
    return not any(path.intersects_bbox(box, filled=False) for path in paths)
