"""Test confusion counts and areas under ROC curves, by hand and by their laws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acdc import tasks
from acdc.analysis.recovery import (
    COLUMNS,
    Confusion,
    confusion,
    edge_confusion,
    node_confusion,
    original_node_confusion,
    original_nodes,
    pessimistic_auc,
    recovery_rows,
    roc_curve,
    trapezoid_auc,
)
from acdc.catalogue import LEVELS
from acdc.errors import InputError
from acdc.found import Found
from acdc.graph import Circuit, Edge, EdgeScores, Graph
from acdc.methods.driver import sizes_of

GRAPH = Graph(n_layers=1, n_heads=2, n_kv_heads=2)  # 2 * 3 ports and the MLP read embed, ...


def circuit(*edges: str) -> Circuit:
    """Return the circuit of edges that are written ``sender>receiver``; a port alone is its direct edge."""
    ends = ([GRAPH.node(name) for name in edge.split(">")] for edge in edges)
    return Circuit.from_edges(GRAPH, [Edge(e[0], e[-1], "addition" if len(e) == 2 else "direct") for e in ends])


KNOWN = circuit("embed>a0.h0.q", "a0.h0.q", "a0.h0>m0", "m0>logits")
FOUND = circuit("embed>a0.h0.q", "a0.h0>m0", "embed>logits", "a0.h1>logits", "a0.h1.v")


def test_counts_and_rates_are_those_by_hand():
    counts = confusion({1, 2, 3, 4}, {3, 4, 5}, 10)
    assert counts == Confusion(tp=2, fp=2, fn=1, tn=5)
    assert (counts.tpr, counts.fpr, counts.precision) == (2 / 3, 2 / 7, 1 / 2)
    assert counts.row() == {"tp": 2, "fp": 2, "fn": 1, "tn": 5, "tpr": 2 / 3, "fpr": 2 / 7, "precision": 1 / 2}


def test_edges_are_counted_with_direct_ones():
    # embed -> 6 ports, mlp, logits; two heads -> mlp, logits; mlp -> logits; 6 direct.
    assert GRAPH.n_edges == 8 + 4 + 1 + 6
    assert edge_confusion(FOUND, KNOWN) == Confusion(tp=2, fp=3, fn=2, tn=12)


def test_nodes_are_heads_mlps_embedding_and_logits():
    assert node_confusion(FOUND, circuit("m0>logits")) == Confusion(tp=1, fp=3, fn=1, tn=0)


def test_nothing_found_has_no_precision():
    assert edge_confusion(Circuit.empty(GRAPH), KNOWN).precision is None
    assert edge_confusion(Circuit.empty(GRAPH), KNOWN).tpr == 0


def test_known_circuit_found_exactly_is_perfect():
    counts = edge_confusion(KNOWN, KNOWN)
    assert (counts.tpr, counts.fpr, counts.precision) == (1, 0, 1)


@pytest.mark.parametrize("known", [Circuit.empty(GRAPH), Circuit.full(GRAPH)])
@pytest.mark.parametrize("level", LEVELS)
def test_known_circuit_of_nothing_or_everything_is_refused(level, known):
    with pytest.raises(InputError, match="the known circuit has"):
        LEVELS[level].load()(FOUND, known)


def test_original_nodes_are_hook_points_and_an_mlps_two_are_one():
    found = original_nodes(circuit("embed>a0.h0.q", "a0.h0.q", "a0.h0>m0", "m0>logits"))
    assert found == {
        ("blocks.0.hook_resid_pre", (None,)),
        ("blocks.0.hook_q_input", (None, None, 0)),
        ("blocks.0.attn.hook_q", (None, None, 0)),
        ("blocks.0.attn.hook_result", (None, None, 0)),
        ("blocks.0.hook_mlp_out", (None,)),
        ("blocks.0.hook_resid_post", (None,)),
    }
    # Two ports' inputs and outputs, two heads, embedding, MLP, logits.
    assert original_node_confusion(FOUND, KNOWN) == Confusion(tp=5, fp=3, fn=1, tn=2 * 6 + 2 + 3 - 9)


@pytest.mark.parametrize("model", ("tracr_reverse", "tracr_reverse_reset"))
def test_every_known_circuit_and_level_is_a_row_under_the_found_ones_own_name(model):
    """A reset network's circuits are compared with the trained model's."""
    graph = Graph(4, 1, 1, split_embed=True)
    settings = {"task": "tracr_reverse", "model": model, "metric": "l2", "ablation": "zero", "method": "acdc"}
    result = {"final_metric": 0.5, "evaluations": 3, "converged": True, "origin": "found"}
    found = Found(settings | {"size_by": "threshold", "value": "0.1"}, Circuit.full(graph), result)
    known = tasks.known_circuits("tracr_reverse", "tracr_reverse")
    rows = list(recovery_rows(found, known, "tracr_reverse"))
    assert [(row["known"], row["level"]) for row in rows] == list(product(("published", "compiled"), LEVELS))
    assert [*rows[0], "test_metric"] == COLUMNS
    for row in rows:
        assert (row["model"], row["known_of"], row["value"]) == (model, "tracr_reverse", "0.1")
        assert row["tpr"] == 1 and (row["n_edges"], row["final_metric"]) == (graph.n_edges, 0.5)


# ROC curves

rates = st.floats(0, 1)
points = st.lists(st.tuples(rates, rates), max_size=12)
ends = {(0.0, 0.0), (1.0, 1.0)}


@pytest.mark.parametrize(
    ("found", "pessimistic", "trapezoid"),
    [
        ([], 0, 0.5),
        ([(0.0, 1.0)], 1, 1),
        ([(1.0, 0.0)], 0, 0),
        ([(0.0, 0.2)], 0.2, 0.6),
        ([(0.5, 0.5)], 0.25, 0.5),
        ([(0.5, 0.5), (0.5, 0.25)], 0.25, 0.4375),
        ([(0.5, 0.5), (0.6, 0.25)], 0.25, 0.5),
        ([(0.25, 0.5), (0.5, 0.75)], 0.75 * 0.5 + 0.5 * 0.25, 0.0625 + 0.15625 + 0.4375),
    ],
)
def test_areas_by_hand(found, pessimistic, trapezoid):
    assert pessimistic_auc(found) == pytest.approx(pessimistic)
    assert trapezoid_auc(found) == pytest.approx(trapezoid)


@given(points)
def test_areas_are_bounded_and_the_staircase_is_below_the_trapezoid(found):
    assert 0 <= pessimistic_auc(found) <= trapezoid_auc(found) <= 1


@given(points)
@example([(1.0, 0.0)])
@example([(0.5, 0.25), (0.5, 0.5), (0.75, 0.5), (0.75, 0.25)])
def test_curve_never_falls_and_has_the_points_that_nothing_beats(found):
    curve = roc_curve(found)
    assert curve == sorted(curve) and ends <= set(curve)
    assert all(a[1] <= b[1] for a, b in zip(curve, curve[1:], strict=False))
    unbeaten = {p for p in found if not any(q[0] < p[0] and q[1] > p[1] for q in found)}
    assert set(curve) == unbeaten | ends


@given(points, st.randoms())
def test_order_and_repetition_of_points_change_nothing(found, random):
    shuffled = random.sample(found, len(found)) + found
    assert (pessimistic_auc(shuffled), trapezoid_auc(shuffled)) == (pessimistic_auc(found), trapezoid_auc(found))


@given(points, st.tuples(rates, rates))
def test_one_more_point_never_makes_the_staircase_lower(found, point):
    assert pessimistic_auc([*found, point]) >= pessimistic_auc(found) - 1e-12


def points_of(score: np.ndarray, known: Circuit) -> list[tuple[float, float]]:
    """Return FPR and TPR of a circuit for each value of the scores: of all edges that score that much or more."""
    values = np.unique(score[GRAPH.exists])
    counts = [confusion(kept(score >= value), kept(known.present), int(GRAPH.exists.sum())) for value in values]
    return [(c.fpr, c.tpr) for c in counts]


def kept(mask: np.ndarray) -> set:
    return set(zip(*np.nonzero(mask & GRAPH.exists), strict=True))


@given(st.integers(0, 2**32 - 1))
def test_areas_depend_on_the_order_of_scores_alone(seed):
    score = np.random.default_rng(seed).integers(0, 5, GRAPH.exists.shape).astype(float)
    for transformed in (np.exp(score), 3 * score - 7, score**3):
        assert points_of(transformed, KNOWN) == points_of(score, KNOWN)


@given(st.integers(0, 2**32 - 1))
def test_trapezoid_is_the_share_of_pairs_in_the_right_order_ties_half(seed):
    score = np.random.default_rng(seed).integers(0, 4, GRAPH.exists.shape).astype(float)
    positive, negative = score[KNOWN.present], score[GRAPH.exists & ~KNOWN.present]
    pairs = np.sign(positive[:, None] - negative[None])
    assert trapezoid_auc(points_of(score, KNOWN)) == pytest.approx((pairs.mean() + 1) / 2)


def test_a_constant_score_is_chance_by_trapezoid_and_nothing_by_the_pessimistic_rule():
    found = points_of(np.zeros(GRAPH.exists.shape), KNOWN)
    assert (trapezoid_auc(found), pessimistic_auc(found)) == (0.5, 0)


def test_random_scores_are_chance_on_average():
    """The pessimistic curve waits at every step for all that is not known, so that its area is smaller."""
    areas = []
    for seed in range(500):
        found = points_of(np.random.default_rng(seed).random(GRAPH.exists.shape), KNOWN)
        areas.append((trapezoid_auc(found), pessimistic_auc(found)))
    trapezoid, pessimistic = np.mean(areas, 0)
    assert trapezoid == pytest.approx(0.5, abs=0.03)
    assert pessimistic <= trapezoid


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        pessimistic_auc([(0.5, float("nan"))])


@pytest.mark.parametrize("seed", range(5))
def test_area_of_circuits_of_every_size_is_how_often_a_known_edge_is_kept_longer(seed):
    """AUROC is that by definition, over all pairs of a known and another edge, of which ties count half."""
    rng, graph = np.random.default_rng(seed), Graph(2, 2, 2)
    score = np.where(graph.exists, rng.integers(12, size=graph.exists.shape), np.nan)
    known = Circuit(graph, graph.exists & (rng.random(graph.exists.shape) < 0.3), np.zeros_like(graph.has_direct))
    scores = EdgeScores(graph, score)
    circuits = [scores.top(n) for n in sizes_of(scores, [])]
    confusions = [edge_confusion(circuit, known) for circuit in circuits]
    first = {edge: i for i, circuit in reversed(list(enumerate(circuits))) for edge in circuit.edges}
    others = [edge for edge in Circuit.full(graph).edges if edge not in set(known.edges)]
    pairs = [np.sign(first[other] - first[edge]) for edge in known.edges for other in others]
    expected = np.mean([(1 + sign) / 2 for sign in pairs])
    assert trapezoid_auc([(counts.fpr, counts.tpr) for counts in confusions]) == pytest.approx(expected)
