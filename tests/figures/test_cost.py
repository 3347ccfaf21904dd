"""Test the figure of what methods cost against how good they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from acdc.errors import InputError
from acdc.figures.cost import cost
from acdc.figures.style import GREY, look

WHERE = {"task": "ioi", "model": "gpt2", "metric": "l2", "ablation": "zero", "n_not_converged": 0, "is_constant": False}
COSTS = [
    {"method": "acdc", "gap": 0.25, "auc": 0.75, "seconds": 100.0, "evaluations": 4000},
    {"method": "sp", "gap": 0.5, "auc": 0.5, "seconds": 20.0, "evaluations": 300, "n_not_converged": 1},
    {"method": "eap", "gap": 1.5, "auc": 0.25, "seconds": 2.0, "evaluations": 1},
    {"method": "random", "gap": 0.875, "auc": np.nan, "seconds": np.nan, "evaluations": np.nan},
]


def methods(*others: dict) -> pd.DataFrame:
    return pd.DataFrame([{**WHERE, **row} for row in COSTS] + [{**WHERE, **row} for row in others])


def points(axes: Axes) -> dict[tuple[float, float], tuple[str, str, str]]:
    """Return colour, marker and face of every point."""
    return {
        tuple(line.get_xydata()[0]): (line.get_color(), line.get_marker(), line.get_markerfacecolor())
        for line in axes.get_lines()
        if line.get_marker() != "None"
    }


@pytest.mark.parametrize("by", ("seconds", "evaluations"))
def test_a_point_is_a_methods_cost_and_what_it_finds(by):
    (kept,) = cost(methods().drop(columns="auc"), by).axes
    costs = {row["method"]: row[by] for row in COSTS}
    drawn = points(kept)
    assert set(drawn) == {(costs["acdc"], 0.75), (costs["sp"], 0.5), (costs["eap"], -0.1)}
    assert drawn[costs["acdc"], 0.75] == (*look("acdc"), look("acdc")[0])
    assert drawn[costs["sp"], 0.5] == (*look("sp"), "white")  # not all converged
    assert drawn[costs["eap"], -0.1] == (look("eap")[0], "v", "white")  # worse than is drawn


def test_where_a_circuit_is_known_the_area_says_how_good_a_method_is():
    (axes,) = cost(methods(), "seconds").axes
    assert axes.get_ylabel() == "AUC of edges"
    assert set(points(axes)) == {(100, 0.75), (20, 0.5), (2, 0.25)}


def test_random_circuits_are_a_line_at_what_they_keep():
    (axes,) = cost(methods().drop(columns="auc"), "seconds").axes
    levels = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert levels == [0.125]


def test_only_what_is_compared_has_a_panel():
    table = methods({"method": "acdc", "task": "months", "gap": 0.1, "seconds": 1.0, "evaluations": 1})
    assert len(cost(table, "seconds").axes) == 1


def test_panels_of_one_measure_stand_together_and_outer_axes_have_names():
    others = [{**row, "task": task, "auc": np.nan} for task in ("months", "sort", "reverse") for row in COSTS]
    axes = cost(methods(*others), "seconds").axes
    assert [one.get_ylabel() for one in axes] == ["1 - gap", "1 - gap", "1 - gap", "AUC of edges"]
    assert [one.get_xlabel() for one in axes] == ["", *["seconds (one thread)"] * 3]


def test_a_constant_metric_has_no_panel():
    flat = methods().assign(task="months", gap=np.nan, is_constant=True)
    assert len(cost(pd.concat([methods(), flat]), "seconds").axes) == 1


def test_an_extension_has_a_point_and_a_label(extend, texts):
    extend("a", 'METHOD = Method(name="sixth", label="Sixth", kind="search", sized_by="patience")')
    figure = cost(methods({"method": "sixth", "gap": 0.5, "auc": 0.875, "seconds": 7.0, "evaluations": 1}), "seconds")
    assert points(figure.axes[0])[7, 0.875][:2] == look("sixth") and look("sixth")[0] != GREY
    assert "Sixth" in texts(figure)


def test_a_cost_that_is_missing_is_refused_by_name():
    table = methods()
    table.loc[table["method"] == "sp", "seconds"] = np.nan
    with pytest.raises(InputError, match="sp on ioi: its seconds are missing"):
        cost(table, "seconds")
    with pytest.raises(InputError, match="seconds or evaluations, not memory"):
        cost(methods(), "memory")
    with pytest.raises(InputError, match="nothing to compare"):
        cost(methods()[:2], "seconds")
