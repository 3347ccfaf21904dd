"""Test the curves of faithfulness: they say what circuits keep, at their sizes, and what is beyond the panel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from acdc.errors import InputError
from acdc.figures.faithfulness import curves
from acdc.figures.style import GREY, look


def compared(metric: str = "l2", **kept: list[float]) -> pd.DataFrame:
    """Return an evaluation of methods by what each one's circuits keep of 4 (0 with all edges, 4 with none).

    SP's first circuit has not converged.
    """
    control = {"origin": "control"}
    rows = [
        {**control, "method": "full", "n_edges_reaching": 100, metric: 0.0},
        {**control, "method": "empty", "n_edges_reaching": 0},
    ]
    rows[1][metric] = 4.0
    rows += [
        {**control, "method": "random", "seed": seed, "n_edges_reaching": n, metric: 4.0 - seed}
        for seed in range(2)
        for n in (10, 50)
    ]
    for method, shares in kept.items():
        found = {"origin": "found", "metric": metric, "method": method}
        rows += [
            {**found, "n_edges_reaching": 10 * (i + 1), metric: 4 - 4 * share, "converged": (method, i) != ("sp", 0)}
            for i, share in enumerate(shares)
        ]
    return pd.DataFrame(rows).assign(task="sort", model="m", ablation="zero")


THREE = {"acdc": [0.5, 1.0], "sp": [0.25, 0.5], "eap": [0.0, 3.0, -2.0]}


def lines(axes) -> dict[tuple, str]:
    """Return the colour of every line by its points."""
    return {tuple(map(tuple, found.get_xydata().tolist())): found.get_color() for found in axes.get_lines()}


def test_a_line_for_every_method_from_the_share_of_edges_to_what_is_kept():
    (axes,) = curves(compared(**THREE)).axes
    drawn = lines(axes)
    assert drawn[(10, 0.5), (20, 1)] == look("acdc")[0]
    assert {((10, 0.25), (20, 0.5)), ((10, 0), (20, 3), (30, -2))} <= set(drawn)
    assert drawn[(10, 0.125), (50, 0.125)] == GREY  # random: the median of 0 and 1/4


def test_a_circuit_is_as_large_as_its_edges_that_reach_the_logits():
    """The number of edges that were chosen plays no part. Random circuits of one rank within their seeds are one point,
    at their median.
    """
    table = compared(**THREE).assign(n_edges=77)
    random = table["method"] == "random"
    table.loc[random, "n_edges_reaching"] = [0, 50, 6, 52]
    smallest = table[random].drop_duplicates("seed").assign(n_edges_reaching=0)
    drawn = lines(curves(pd.concat([table, smallest], ignore_index=True)).axes[0])
    assert drawn[(3, 0.125), (51, 0.125)] == GREY  # the smallest of both seeds have no such edge
    assert drawn[(10, 0.5), (20, 1)] == look("acdc")[0]


def test_what_has_not_converged_and_what_is_beyond_the_panel_is_hollow(texts):
    figure = curves(compared(**THREE))
    (axes,) = figure.axes
    hollow = {
        tuple(point): found.get_marker()
        for found in axes.get_lines()
        if found.get_markerfacecolor() == "white"
        for point in found.get_xydata().tolist()
    }
    low, high = axes.get_ylim()
    assert hollow == {(10, 0.25): "s", (20, high): "^", (30, low): "v"}
    assert "not converged" in texts(figure)


def test_of_many_circuits_those_where_the_line_turns_have_a_marker():
    flat = [0.5] * 40 + [0.75] * 40
    (axes,) = curves(compared(**{**THREE, "acdc": flat})).axes
    marked = [line for line in axes.get_lines() if line.get_color() == look("acdc")[0] and line.get_marker() != "None"]
    assert [x for line in marked for x in line.get_xdata()] == [10, 400, 410, 800]


def test_a_panel_is_cut_to_its_shares():
    (axes,) = curves(compared(acdc=[0.5, 1.0], sp=[0.25, 0.5], eap=[0.0, 1.1])).axes
    assert axes.get_ylim() == pytest.approx((-0.12, 1.22))


def test_nobody_knows_of_imported_circuits_whether_they_converged(texts):
    table = compared(acdc=[1.0], eap=[0.5], theirs=[0.25])
    table.loc[table["method"] == "theirs", ["origin", "converged"]] = ["imported", None]
    figure = curves(table)
    assert "not converged" not in texts(figure) and "theirs" in texts(figure)


def test_a_panel_for_every_search_by_three_methods_and_one_colour_for_each():
    months = compared(eap=[0.1], sp=[0.2], hisp=[0.3]).assign(task="months")
    figure = curves(pd.concat([compared(**THREE), compared(acdc=[1.0], sp=[1.0]).assign(task="ioi"), months]))
    assert [axes.get_title() for axes in figure.axes] == ["sort\nL2, zero", "months\nL2, zero"]
    colors = [{line.get_color() for line in axes.get_lines() if line.get_marker() == "s"} for axes in figure.axes]
    assert colors[0] == colors[1] and len(colors[0]) == 1


def test_random_edges_as_a_method_are_no_third_method():
    with pytest.raises(InputError, match="nothing to compare"):
        curves(compared(acdc=[1.0], sp=[1.0], random=[0.5]))


def test_extensions_have_lines_and_labels(extend, texts):
    extend("a", 'METHOD = Method(name="sixth", label="Sixth", kind="score")')
    extend("b", 'METHOD = Method(name="seventh", label="Seventh", kind="search", sized_by="patience")')
    extend("c", 'METRIC = Metric(name="walk", label="a walk", unit="miles", is_distance=True)')
    figure = curves(compared("walk", acdc=[1.0, 0.5], sixth=[0.5, 0.25], seventh=[0.25, 0.125]))
    drawn = lines(figure.axes[0])
    colors = [drawn[(10, 2 * y), (20, y)] for y in (0.5, 0.25, 0.125)]
    assert colors == [look(name)[0] for name in ("acdc", "sixth", "seventh")] and len({*colors, GREY}) == 4
    assert figure.axes[0].get_title() == "sort\na walk, zero" and {"Sixth", "Seventh"} <= set(texts(figure))


def test_nan_and_too_few_methods_are_refused():
    with pytest.raises(InputError, match="l2"):
        curves(compared(acdc=[np.nan], sp=[1.0], eap=[1.0]))
    with pytest.raises(InputError, match="no search was done by 3 methods"):
        curves(compared(acdc=[1.0], sp=[1.0]))
