"""Areas by hand, and a table of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc.analysis.faithfulness import CONSTANT, areas, faithfulness, faithfulness_table

numbers = st.floats(-3, 3)


@pytest.mark.parametrize(
    ("size", "faithful", "cpr", "cmd"),
    [
        ([], [], 0.5, 0.5),
        ([0.5], [0.5], 0.5, 0.5),
        ([0.0], [1.0], 1, 0),
        ([0.5, 0.25], [1.0, 1.0], 0.125 + 0.75, 0.125),
        ([0.5], [2.0], 0.5 + 0.75, 0.5 + 0.25),
        ([0.5], [-1.0], -0.25, 1.25),
    ],
)
def test_areas_by_hand(size, faithful, cpr, cmd):
    assert areas(np.array(size), np.array(faithful)) == pytest.approx((cpr, cmd))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_areas_add_up_to_1_where_nothing_is_more_than_faithful(points):
    size, faithful = np.array(points).reshape(-1, 2).T
    assert sum(areas(size, faithful)) == pytest.approx(1)


@given(numbers, numbers.filter(lambda x: abs(x) > 0.1))
def test_ends_are_0_and_1_whatever_the_metric(empty, span):
    full = empty + span
    np.testing.assert_allclose(faithfulness(np.array([empty, full]), empty, full), [0, 1], atol=1e-12)


def evaluation(full: float = 0.0) -> pd.DataFrame:
    """Of 10 edges: two circuits of ACDC, and three of random edges by two seeds."""
    rows = [("-", "full", "-", 10, full), ("-", "empty", "-", 0, 4.0)]
    rows += [("-", "random", "seed 0", 5, 4.0), ("-", "random", "seed 1", 5, 2.0), ("-", "random", "seed 1", 10, 0.0)]
    rows += [("kl_divergence", "acdc", "0.1", 5, 0.0), ("kl_divergence", "acdc", "1", 2, 2.0)]
    table = pd.DataFrame(rows, columns=["metric", "method", "setting", "n_edges", "kl_divergence"])
    return table.assign(task="ioi", model="tiny", ablation="corrupted", note="-")


def test_every_method_has_a_row_beside_random_circuits():
    table = faithfulness_table(evaluation()).set_index("method")
    assert set(table.index) == {"acdc", "random"}
    assert table.loc["acdc", ["n_circuits", "cpr", "cmd"]].tolist() == pytest.approx([2, 0.05 + 0.225 + 0.5, 0.225])
    assert table.loc["random", ["n_circuits", "cpr", "cmd"]].tolist() == pytest.approx([3, 0.375, 0.625])


def test_other_tasks_and_ablations_keep_to_themselves():
    other = evaluation().assign(ablation="zero", kl_divergence=lambda t: t.kl_divergence * 2 + 1)
    table = faithfulness_table(pd.concat([evaluation(), other, evaluation().assign(task="months")]))
    assert len(table) == 6 and table.groupby("method")[["cpr", "cmd"]].nunique().eq(1).all(axis=None)


def test_a_metric_without_a_difference_is_said_to_have_none():
    table = faithfulness_table(evaluation(full=4.0))
    assert table[["cpr", "cmd"]].isna().all(axis=None) and set(table.note) == {CONSTANT}


def test_circuits_that_have_a_note_are_counted():
    table = faithfulness_table(evaluation().assign(note=["-"] * 5 + ["not converged", "-"])).set_index("method")
    assert table.note.to_dict() == {"acdc": "1 not converged", "random": "-"}
