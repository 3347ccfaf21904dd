"""Confusion counts, by hand."""

from __future__ import annotations

import pytest

from acdc.graph import Circuit, Edge, Graph
from acdc.recovery import Confusion, confusion, edge_confusion, node_confusion

GRAPH = Graph(n_layers=1, n_heads=2, n_kv_heads=2)  # 2 * 3 ports and the MLP read embed, ...


def circuit(*edges: str) -> Circuit:
    """``sender>receiver``; a port alone is its direct edge."""
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
@pytest.mark.parametrize("count", [edge_confusion, node_confusion])
def test_known_circuit_of_nothing_or_everything_is_refused(count, known):
    with pytest.raises(ValueError, match="the known circuit has"):
        count(FOUND, known)
