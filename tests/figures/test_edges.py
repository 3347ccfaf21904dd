"""Test which edges are shown, and how wide they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc.figures.edges import DECADES, arrow_ends, line_width, strongest
from acdc.graph import Circuit, Edge, Graph

GRAPH = Graph(n_layers=3, n_heads=2, n_kv_heads=1)
FULL = Circuit.full(GRAPH)
EDGES = [edge for edge in FULL.edges if edge.kind == "addition"]
ENDS = {edge: ends for edge in EDGES if (ends := arrow_ends(GRAPH, edge, FULL.nodes))}


@given(n=st.integers(1, len(ENDS)), seed=st.randoms(use_true_random=False))
def test_every_chosen_edge_has_a_way_to_the_logits_among_them(n, seed):
    strengths = {edge: seed.random() for edge in ENDS}
    chosen = strongest(ENDS, strengths, n)
    senders = {edge.sender for edge in chosen}
    assert len(chosen) <= n
    assert all(end.component == "logits" or end in senders for edge in chosen for end in ENDS[edge])
    assert [strengths[edge] for edge in chosen] == sorted((strengths[edge] for edge in chosen), reverse=True)


def test_all_edges_are_chosen_where_there_is_room():
    assert set(strongest(ENDS, dict.fromkeys(ENDS, 1.0), len(ENDS))) == set(ENDS)


def test_a_shared_key_is_read_by_the_heads_of_its_group_that_are_in_the_circuit():
    edge, live = Edge(GRAPH.node("m0"), GRAPH.node("a1.h0.k")), {GRAPH.node("a1.h1"), GRAPH.node("m0")}
    assert arrow_ends(GRAPH, edge, live) == [GRAPH.node("a1.h1")]


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=9))
def test_stronger_effects_are_never_thinner(strengths):
    width = line_width(strengths)
    widths = [width(strength) for strength in sorted(strengths)]
    assert widths == sorted(widths) and all(0.5 <= w <= 2.2001 for w in widths)


def test_effects_that_are_decades_weaker_look_alike():
    width = line_width([1.0, 10.0**-DECADES, 1e-9])
    assert width(1e-9) == width(0.0) == pytest.approx(0.5) and width(0.1) > 0.5
