"""Test the text of a trace: it reads as the original's log does."""

from __future__ import annotations

import pandas as pd
import pytest

from acdc.graph import Edge, Graph
from acdc.methods.acdc import Tried
from acdc.trace import effects_of, key_of, original_lines

GRAPH = Graph(n_layers=3, n_heads=4, n_kv_heads=4)


@pytest.mark.parametrize(
    ("row", "connection", "decision"),
    [
        (Tried("logits", "m2", "addition", 0.0, 0.31, 0.31, False), "blocks.2.hook_mlp_out [:]", "keeping"),
        (Tried("m2", "a2.h3", "addition", 0.0, 0.31, 0.31, True), "blocks.2.attn.hook_result [:, :, 3]", "removing"),
        (Tried("a1.h2.v", "a1.h2.v", "direct", 0.0, 0.31, 0.31, True), "blocks.1.hook_v_input [:, :, 2]", "removing"),
        (Tried("a0.h0.q", "embed", "addition", 0.0, 0.31, 0.31, False), "blocks.0.hook_resid_pre [:]", "keeping"),
    ],
)
def test_two_lines_per_tried_edge_as_the_original_prints_them(row, connection, decision):
    assert list(original_lines(pd.DataFrame([row]), GRAPH)) == [
        f"Metric after removing connection to {connection} is 0.31 (and current metric 0.0)",
        f"Result is 0.31...so {decision} connection",
    ]


def test_lines_keep_the_order_of_the_trace():
    trace = pd.DataFrame([Tried("logits", f"m{i}", "addition", 0.0, i / 4, i / 4, False) for i in (2, 0, 1)])
    lines = list(original_lines(trace, GRAPH))
    assert [line.split(" ")[5] for line in lines[::2]] == [f"blocks.{i}.hook_mlp_out" for i in (2, 0, 1)]


def test_effects_are_found_by_their_edge():
    rows = [
        Tried("logits", "m2", "addition", 0.0, 0.25, 0.25, False),
        Tried("a1.h2.v", "a1.h2.v", "direct", 0, 2, 2, True),
    ]
    effects = effects_of(pd.DataFrame(rows))
    port = GRAPH.node("a1.h2.v")
    assert effects[key_of(Edge(GRAPH.node("m2"), GRAPH.node("logits")))] == 0.25
    assert effects[key_of(Edge(port, port, "direct"))] == 2


def test_a_trace_of_training_has_no_effects():
    assert effects_of(pd.DataFrame({"step": [0], "loss": [1.0]})) == {}
