"""Test where the nodes and arrows of a drawing are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc.figures.places import NODE_HEIGHT, NODE_WIDTH, SLOT, Box, apart, arrange, arrow_path, n_faults
from acdc.graph import Circuit, Graph


@given(st.lists(st.floats(-1, 6), min_size=1, max_size=10))
def test_nodes_of_a_row_keep_their_order_a_slot_apart_and_inside(wanted):
    places = apart(np.array(wanted), 5.0)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= SLOT - 1e-9).all()
    assert places.min() >= SLOT / 2 - 1e-9 and places.max() <= 5 - SLOT / 2 + 1e-9


@pytest.mark.parametrize("has_mlp", [True, False])
def test_layers_are_above_each_other_and_no_node_covers_another(has_mlp):
    circuit = Circuit.full(Graph(n_layers=4, n_heads=9, n_kv_heads=3, has_mlp=has_mlp))
    links = [(edge.sender, edge.receiver.owner) for edge in circuit.edges if edge.kind == "addition"]
    boxes = arrange(circuit, links).boxes
    for sender, receiver in links:
        assert boxes[sender].y < boxes[receiver].y
    rows = [(box.x, box.y, box.width, box.height) for box in boxes.values()]
    for i, (x, y, width, height) in enumerate(rows):
        for x2, y2, width2, height2 in rows[:i]:
            assert abs(x - x2) >= (width + width2) / 2 - 1e-9 or abs(y - y2) >= (height + height2) / 2 - 1e-9


def test_an_arrow_bows_past_a_node_in_its_way():
    sender, receiver, between = Box(2, 0), Box(2, 2), np.array([[2.0, 1.0]])
    straight = arrow_path(sender, receiver, 0.0, np.empty((0, 2)), 4.0)
    bowed = arrow_path(sender, receiver, 0.0, between, 4.0)
    assert n_faults(straight, between, 4.0) == 1 and n_faults(bowed, between, 4.0) == 0
    for path in (straight, bowed):
        assert path.vertices[0].tolist() == [2, NODE_HEIGHT / 2] and path.vertices[-1].tolist() == [
            2,
            2 - NODE_HEIGHT / 2,
        ]


def test_an_arrow_into_its_own_layers_mlp_enters_from_the_side():
    head, mlp = Box(1, 0), Box(2, 0.2)
    path = arrow_path(head, mlp, 0.0, np.empty((0, 2)), 4.0)
    assert path.vertices[-1].tolist() == pytest.approx([2 - NODE_WIDTH / 2, 0.2])
