"""A trace reads as the original's log does."""

from __future__ import annotations

import pandas as pd
import pytest

from acdc.graph import Graph
from acdc.methods.acdc import Tried
from acdc.trace import original_lines

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
