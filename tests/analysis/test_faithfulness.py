"""Test the area under faithfulness, by hand and by its laws, and the table of areas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc.analysis.faithfulness import areas, faithfulness, faithfulness_table
from acdc.found import CONTROL, FOUND
from acdc.tables import read_table

numbers = st.floats(-3, 3)


@pytest.mark.parametrize(
    ("size", "faithful", "area", "gap"),
    [
        ([], [], 0.5, 0.5),
        ([0.5], [0.5], 0.5, 0.5),
        ([0.0], [1.0], 1, 0),
        ([0.5, 0.25], [1.0, 1.0], 0.125 + 0.75, 0.125),
        ([0.5], [2.0], 0.5 + 0.75, 0.5 + 0.25),
        ([0.5], [-1.0], -0.25, 1.25),
    ],
)
def test_areas_by_hand(size, faithful, area, gap):
    assert areas(np.array(size), np.array(faithful)) == pytest.approx((area, gap))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_areas_add_up_to_1_where_nothing_is_more_than_faithful(points):
    size, faithful = np.array(points).reshape(-1, 2).T
    assert sum(areas(size, faithful)) == pytest.approx(1)


@given(numbers, numbers.filter(lambda x: abs(x) > 0.1))
def test_ends_are_0_and_1_whatever_the_metric(empty, span):
    full = empty + span
    np.testing.assert_allclose(faithfulness(np.array([empty, full]), empty, full), [0, 1], atol=1e-12)


def evaluation(full: float = 0.0) -> pd.DataFrame:
    """Return an evaluation on a graph of 10 edges: two circuits of ACDC, and three random ones of two seeds."""
    rows = [("full", None, 10, full), ("empty", None, 0, 4.0)]
    rows += [("random", 0, 5, 4.0), ("random", 1, 5, 2.0), ("random", 1, 10, 0.0)]
    controls = pd.DataFrame(rows, columns=["method", "seed", "n_edges", "kl_divergence"]).assign(origin=CONTROL)
    rows = [("acdc", "threshold", "0.1", 5, 0.0, True), ("acdc", "threshold", "1", 2, 2.0, True)]
    found = pd.DataFrame(rows, columns=["method", "size_by", "value", "n_edges", "kl_divergence", "converged"])
    table = pd.concat([controls, found.assign(origin=FOUND, metric="kl_divergence")], ignore_index=True)
    return table.assign(task="ioi", model="tiny", ablation="corrupted")


def test_every_method_has_a_row_beside_random_circuits():
    table = faithfulness_table(evaluation()).set_index("method")
    assert set(table.index) == {"acdc", "random"}
    assert table.loc["acdc", ["n_circuits", "area", "gap"]].tolist() == pytest.approx([2, 0.05 + 0.225 + 0.5, 0.225])
    assert table.loc["random", ["n_circuits", "area", "gap"]].tolist() == pytest.approx([3, 0.375, 0.625])


def test_other_tasks_and_ablations_keep_to_themselves():
    other = evaluation().assign(ablation="zero", kl_divergence=lambda t: t.kl_divergence * 2 + 1)
    table = faithfulness_table(pd.concat([evaluation(), other, evaluation().assign(task="months")]))
    assert len(table) == 6 and table.groupby("method")[["area", "gap"]].nunique().eq(1).all(axis=None)


def test_a_metric_without_a_difference_is_said_to_have_none():
    table = faithfulness_table(evaluation(full=4.0))
    assert table[["area", "gap"]].isna().all(axis=None) and table["is_constant"].all()
    assert not faithfulness_table(evaluation())["is_constant"].any()


@pytest.mark.parametrize("empty", (None, np.nan, ""))
def test_circuits_that_have_not_converged_are_counted(empty, tmp_path):
    """Whether a circuit has converged is not known of controls and of some imported circuits."""
    table = evaluation()
    table["converged"] = [empty] * 5 + [False, True]
    rows = faithfulness_table(table).set_index("method")
    assert rows["n_not_converged"].to_dict() == {"acdc": 1, "random": 0}
    table.to_csv(tmp_path / "evaluation.csv", index=False)
    again = faithfulness_table(read_table(tmp_path / "evaluation.csv")).set_index("method")
    assert again["n_not_converged"].to_dict() == {"acdc": 1, "random": 0}
