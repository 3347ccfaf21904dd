"""Test the overlaps of circuits found on resampled prompts."""

from __future__ import annotations

import pytest

from acdc.analysis.stability import edge_overlap, node_overlap, stability_rows
from acdc.graph import Circuit, Edge, Graph

GRAPH = Graph(1, 2, 2, has_mlp=False)


def circuit(*names: str) -> Circuit:
    """Return the circuit of edges such as "embed a0.h0.q"; one word is a port's direct edge."""
    edges = [tuple(map(GRAPH.node, name.split())) for name in names]
    return Circuit.from_edges(GRAPH, [Edge(e[0], e[-1], "addition" if len(e) == 2 else "direct") for e in edges])


def test_edges_in_both_as_a_share_of_those_in_either():
    a = circuit("a0.h0 logits", "embed a0.h0.v", "a0.h0.v")
    b = circuit("a0.h0 logits", "embed a0.h1.v", "a0.h1.v", "a0.h0.v")
    assert edge_overlap(a, b) == edge_overlap(b, a) == 2 / 5
    assert edge_overlap(a, a) == 1
    assert edge_overlap(a, circuit("a0.h1 logits")) == 0


def test_nodes_are_components():
    a, b = circuit("a0.h0 logits", "embed a0.h0.v"), circuit("a0.h0 logits", "a0.h1 logits", "embed a0.h0.q")
    assert node_overlap(a, b) == 3 / 4


def test_two_empty_circuits_are_the_same():
    empty = Circuit.empty(GRAPH)
    assert edge_overlap(empty, empty) == node_overlap(empty, empty) == 1
    assert edge_overlap(empty, circuit("a0.h0 logits")) == 0


def test_mean_and_interval_of_all_pairs():
    circuits = [circuit("a0.h0 logits"), circuit("a0.h0 logits", "a0.h1 logits"), circuit("a0.h1 logits")]
    edge, node = stability_rows({("threshold", "0.1"): circuits})
    assert edge["jaccard"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert (edge["jaccard_low"], edge["jaccard_high"]) == pytest.approx((0.025, 0.5))
    assert (edge["size_by"], edge["value"], edge["level"], edge["n_resamples"]) == ("threshold", "0.1", "edge", 3)
    assert edge["mean_edges"] == pytest.approx(4 / 3)
    assert node["jaccard"] == pytest.approx((2 / 3 + 1 / 3 + 2 / 3) / 3)
