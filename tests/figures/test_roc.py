"""Test ROC curves: they are the staircases whose areas the tables have, with the paper's points beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acdc.analysis.published import CURVE
from acdc.errors import InputError
from acdc.figures.roc import roc
from acdc.figures.style import GREY, look

POINTS = pd.DataFrame(
    [["reverse", "own", "corrupted", "acdc", 0.1, 3, 0.0, 0.25, 0.0, 0.5]],
    columns=["task", "metric", "ablation", "method", "score", "n_edges", "edge_fpr", "edge_tpr"]
    + ["node_fpr", "node_tpr"],
)


def recovery(*curves: dict) -> pd.DataFrame:
    rows = []
    for curve in curves:
        usual = {"task": "reverse", "model": "reverse", "metric": "l2", "ablation": "corrupted", "method": "acdc"}
        labels = {**usual, "known": "published", "level": "edge", "size_by": "threshold", **curve}
        labels = {"known_of": labels["model"], **labels}
        points = labels.pop("points", [(0.0, 0.5), (0.25, 0.75), (0.5, 0.6)])
        values = labels.pop("values", ["0.3", "0.2", "0.1"])
        named = zip(values, points, strict=False)
        rows += [{**labels, "value": value, "fpr": fpr, "tpr": tpr} for value, (fpr, tpr) in named]
    return pd.DataFrame(rows)[[*CURVE, "size_by", "value", "fpr", "tpr"]]


def panel(figure: Figure, row: int = 0, column: int = 0):
    return next(
        axes
        for axes in figure.axes
        if (spec := axes.get_subplotspec()).rowspan.start == row and spec.colspan.start == column
    )


def stairs_of(axes: Axes) -> list:
    return [found for found in axes.get_lines() if found.get_drawstyle() == "steps-post"]


def marked(axes) -> list[list[float]]:
    """Return the points that are marked: the paper's, then ours."""
    published = [found.get_xydata().tolist() for found in axes.get_lines() if found.get_linestyle() == "None"]
    return published + [np.asarray(found.get_offsets()).tolist() for found in axes.collections]


def test_roc_draws_the_staircase_that_is_the_area_and_marks_every_point():
    axes = panel(roc(recovery({}), POINTS, "edge"))
    (stairs,) = (found for found in axes.get_lines() if found.get_drawstyle() == "steps-post")
    assert stairs.get_xydata().tolist() == [[0, 0], [0, 0.5], [0.25, 0.75], [1, 1]]
    assert [[0, 0.5], [0.25, 0.75], [0.5, 0.6]] in marked(axes)
    assert "ACDC 0.688" in [text.get_text() for text in axes.texts]  # 0.5 + 0.75 * 0.25


@pytest.mark.parametrize(
    ("curve", "level", "expected"),
    [
        ({}, "edge", [[0, 0.25]]),
        ({"level": "original_node"}, "original_node", [[0, 0.5]]),
        ({"task": "reverse_paper", "ablation": "corrupted_permuted"}, "edge", [[0, 0.25]]),
        ({"ablation": "zero"}, "edge", []),
        ({"level": "node"}, "node", None),
        ({"known": "compiled"}, "edge", None),
        ({"model": "reset", "known_of": "reverse"}, "edge", None),
    ],
)
def test_roc_shows_the_papers_points_where_there_are_some(curve, level, expected):
    ours, *theirs = reversed(marked(panel(roc(recovery(curve), POINTS, level))))
    assert theirs == ([] if expected is None else [expected])


def test_roc_has_a_panel_for_everything_that_was_run():
    table = recovery(
        {},
        {"ablation": "zero"},
        {"ablation": "zero", "metric": "output_difference"},
        {"model": "reverse_reset", "known_of": "reverse"},
        {"task": "sort", "model": "m", "known": "compiled", "metric": "kl_divergence"},
        {"task": "sort", "model": "m", "known": "compiled", "ablation": "zero"},
    )
    figure = roc(table, POINTS, "edge")
    assert [axes.get_title() for axes in figure.axes] == [
        "reverse\ncorrupted, L2\nknown: published",
        "reverse\nzero, L2\nknown: published",
        "reverse\nzero, output difference\nknown: published",
        "reverse reset\ncorrupted, L2\nknown: published (trained)",
        "sort on m\ncorrupted, KL divergence\nknown: compiled",
        "sort on m\nzero, L2\nknown: compiled",
    ]


def test_roc_takes_the_first_known_circuit_and_a_color_for_every_method_and_a_dash_for_kl(texts):
    table = recovery({}, {"known": "compiled", "points": [(0.9, 0.9)]}, {"metric": "kl_divergence"}, {"method": "eap"})
    figure = roc(table, POINTS, "edge")
    axes = panel(figure)
    assert [0.9, 0.9] not in sum(marked(axes), [])
    stairs = stairs_of(axes)
    assert len(stairs) == 3 and {found.get_color() for found in stairs} == {look("acdc")[0], look("eap")[0]}
    assert sum(found.get_linestyle() == "--" for found in stairs) == 1
    assert "by KL divergence" in texts(figure)


def test_kl_divergence_alone_is_not_dashed(texts):
    figure = roc(recovery({"metric": "kl_divergence"}), POINTS, "edge")
    assert [found.get_linestyle() for found in stairs_of(panel(figure))] == ["-"]
    assert "by KL divergence" not in texts(figure)


@pytest.mark.parametrize(
    ("size_by", "values"),
    [
        ("threshold", ["1e-1", "0.02", "0.3"]),
        ("regularisation", ["10", "2", "100"]),
        ("patience", ["10", "2", "100"]),
        ("n_edges", ["9", "10", "3"]),
        ("n_nodes", ["9", "10", "3"]),
    ],
)
def test_roc_shades_points_the_darker_the_stricter(size_by, values):
    (points,) = panel(roc(recovery({"size_by": size_by, "values": values}), POINTS, "edge")).collections
    assert points.get_array().tolist() == [0.5, 0.0, 1.0]
    middle, low, high = points.to_rgba(points.get_array())[:, :3].sum(1)
    assert low > middle > high


def test_extensions_have_panels_labels_and_looks(extend, texts):
    extend("a", 'METHOD = Method(name="sixth", label="Sixth", kind="search", sized_by="patience")')
    extend("b", 'METRIC = Metric(name="walk", label="walk", unit="miles", is_distance=True)')
    extend("c", 'ABLATION = AblationEntry(name="noise", label="Noise", run="noisy run")')
    own = {"method": "sixth", "metric": "walk", "ablation": "noise", "size_by": "patience"}
    figure = roc(recovery({}, {**own, "known": "compiled"}), POINTS, "edge")
    assert "Noise, walk" in figure.axes[1].get_title() and "Sixth" in texts(figure)
    (stairs,) = stairs_of(figure.axes[1])
    assert stairs.get_color() == look("sixth")[0] not in (GREY, look("acdc")[0])


def test_roc_refuses_nan_and_a_level_that_is_not_there():
    with pytest.raises(InputError, match="tpr"):
        roc(recovery({"points": [(0.1, np.nan)]}), POINTS, "edge")
    with pytest.raises(InputError, match="no row of level node"):
        roc(recovery({}), POINTS, "node")
