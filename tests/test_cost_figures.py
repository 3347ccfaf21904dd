"""What methods cost against how good they are, and trained models beside their reset networks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from acdc.analysis.published import CURVE
from acdc.figures import cost, save, trained_and_reset
from acdc.figures.style import look

WHERE = {"task": "ioi", "model": "gpt2", "metric": "l2", "ablation": "zero"}
COSTS = [
    {"method": "acdc", "cmd": 0.25, "auc": 0.75, "seconds": 100.0, "evaluations": 4000, "note": "-"},
    {"method": "sp", "cmd": 0.5, "auc": 0.5, "seconds": 20.0, "evaluations": 300, "note": "1 not converged"},
    {"method": "eap", "cmd": 1.5, "auc": 0.25, "seconds": 2.0, "evaluations": 1, "note": "-"},
    {"method": "random", "cmd": 0.875, "auc": np.nan, "seconds": np.nan, "evaluations": np.nan, "note": "-"},
]


def methods(*others: dict) -> pd.DataFrame:
    return pd.DataFrame([{**WHERE, **row} for row in COSTS] + [{**WHERE, **row} for row in others])


def points(axes: Axes) -> dict[tuple[float, float], tuple[str, str, str]]:
    """Colour, marker and face of every point."""
    return {
        tuple(line.get_xydata()[0]): (line.get_color(), line.get_marker(), line.get_markerfacecolor())
        for line in axes.get_lines()
        if line.get_marker() != "None"
    }


@pytest.mark.parametrize("by", ("seconds", "evaluations"))
def test_a_point_is_a_methods_cost_and_what_it_finds(by):
    kept, area = cost(methods(), by).axes
    assert (kept.get_ylabel(), area.get_ylabel()) == ("1 - CMD", "AUC of edges")
    costs = {row["method"]: row[by] for row in COSTS}
    drawn = points(kept)
    assert set(drawn) == {(costs["acdc"], 0.75), (costs["sp"], 0.5), (costs["eap"], -0.1)}
    assert drawn[costs["acdc"], 0.75] == (*look("acdc"), look("acdc")[0])
    assert drawn[costs["sp"], 0.5] == (*look("sp"), "white")  # not all converged
    assert drawn[costs["eap"], -0.1] == (look("eap")[0], "v", "white")  # worse than is drawn
    assert set(points(area)) == {(costs["acdc"], 0.75), (costs["sp"], 0.5), (costs["eap"], 0.25)}


def test_random_circuits_are_a_line_at_what_they_keep():
    (axes, _) = cost(methods(), "seconds").axes
    levels = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert levels == [0.125]


def test_only_what_is_known_has_an_area_and_only_what_is_compared_a_panel():
    table = methods({"method": "acdc", "task": "months", "cmd": 0.1, "seconds": 1.0, "evaluations": 1, "note": "-"})
    assert len(cost(table, "seconds").axes) == 2
    assert len(cost(table.drop(columns="auc"), "seconds").axes) == 1


def test_a_cost_that_is_missing_is_refused_by_name():
    table = methods()
    table.loc[table["method"] == "sp", "seconds"] = np.nan
    with pytest.raises(ValueError, match="sp on ioi: its seconds are missing"):
        cost(table, "seconds")
    with pytest.raises(ValueError, match="seconds or evaluations, not memory"):
        cost(methods(), "memory")
    with pytest.raises(ValueError, match="nothing to compare"):
        cost(methods()[:2], "seconds")


AREAS = [
    ("reverse", "trained", "l2", "zero", "acdc", "published", "edge", 1.0, 0.75),
    ("reverse", "trained", "l2", "zero", "sp", "published", "edge", 0.625, None),
    ("reverse", "trained", "l2", "zero", "acdc", "published", "node", 0.1, None),
    ("reverse", "trained", "l2", "zero", "acdc", "compiled", "edge", 0.2, None),
    ("reverse", "trained", "l2", "corrupted", "acdc", "published", "edge", 0.3, None),
    ("reverse", "reset", "l2", "zero", "acdc", "published (trained)", "edge", 0.5, None),
    ("reverse", "reset", "l2", "zero", "sp", "published (trained)", "edge", 0.25, None),
    ("reverse", "reset", "l2", "zero", "eap", "published (trained)", "edge", 0.25, None),
    ("reverse", "reset", "l2", "zero", "acdc", "compiled (trained)", "edge", 0.6, None),
]
AUC = pd.DataFrame(AREAS, columns=[*CURVE, "auc", "published"])


def test_a_line_leads_from_the_reset_networks_area_to_the_trained_models():
    (axes,) = trained_and_reset(AUC, {"reset": "trained"}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ACDC", "SP"]
    lines = [line.get_xydata().tolist() for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert [[0.5, 0], [1.0, 0]] in lines and [[0.25, 1], [0.625, 1]] in lines
    drawn = points(axes)
    assert same_color(drawn[1.0, 0][2], look("acdc")[0]) and drawn[0.5, 0][2] == "white"
    assert drawn[0.75, 0][2] == "none"  # the paper's
    assert set(drawn) == {(1.0, 0), (0.5, 0), (0.75, 0), (0.625, 1), (0.25, 1)}


def test_pairs_that_were_not_both_run_are_refused():
    with pytest.raises(ValueError, match="both a reset network and the model"):
        trained_and_reset(AUC, {"other": "trained"})


def test_the_same_bytes_twice(tmp_path):
    for name in "ab":
        save(cost(methods(), "seconds"), [tmp_path / f"cost_{name}.pdf"])
        save(trained_and_reset(AUC, {"reset": "trained"}), [tmp_path / f"reset_{name}.pdf"])
    for figure in ("cost", "reset"):
        assert (tmp_path / f"{figure}_a.pdf").read_bytes() == (tmp_path / f"{figure}_b.pdf").read_bytes()
