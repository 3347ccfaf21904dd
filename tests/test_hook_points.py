"""Test docs/hook_points.md: it says what a live model has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from acdc.graph import Graph
from tests.small_models import N_POS, bridge, prompts

GUIDE = (Path(__file__).parent.parent / "docs/hook_points.md").read_text()
LINES = [line for line in GUIDE.splitlines() if line.startswith("| `blocks.0")]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES]
POINTS = {name.strip("`"): shape.split() for name, _, shape, _ in ROWS}
FLAGS = ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")


def test_the_guide_has_every_hook_point_of_a_block_in_the_order_of_the_search():
    assert len(POINTS) == 22
    assert (list(POINTS)[0], list(POINTS)[-1]) == ("blocks.0.hook_resid_post", "blocks.0.hook_resid_pre")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_shapes_are_those_of_a_live_model(kind):
    model, tokens, config = bridge(kind), prompts(False).clean, bridge(kind).cfg
    sizes = {"prompt": len(tokens), "pos": N_POS, "head": config.n_heads, "d_model": config.d_model, "1": 1}
    sizes |= {"kv_head": config.n_key_value_heads or config.n_heads, "d_head": config.d_head, "d_mlp": config.d_mlp}
    before = {flag: getattr(config, flag) for flag in FLAGS}
    try:
        for flag in FLAGS:
            getattr(model, f"set_{flag}")(True)
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
    finally:
        for flag, value in before.items():
            getattr(model, f"set_{flag}")(value)
    for name, axes in POINTS.items():
        assert tuple(cache[name].shape) == tuple(sizes[axis] for axis in axes), name


def test_nodes_are_at_the_hook_points_that_the_guide_says():
    graph = Graph(1, 2, 2)
    senders, receivers = {n.sender_hook for n in graph.senders}, {n.receiver_hook for n in graph.receivers}
    direct = {n.projection_hook for n in graph.receivers if n.port}
    said = {name.strip("`"): role for name, _, _, role in ROWS}
    assert {name for name, role in said.items() if role.startswith("sender")} == senders
    assert {name for name, role in said.items() if role.startswith("receiver")} == receivers
    assert {name for name, role in said.items() if role.startswith("end of")} == direct


def test_numbers_of_edges_are_those_of_the_graph():
    graph = Graph(12, 12, 12)
    numbers = [int(text.replace(",", "")) for text in re.findall(r"\| (?:[^|]*= )?([\d,]+) \|$", GUIDE, re.MULTILINE)]
    into = [[r for r, node in enumerate(graph.receivers) if kind(node)] for kind in (
        lambda node: node.port, lambda node: node.component == "mlp", lambda node: node.component == "logits"
    )]  # fmt: skip
    counted = [int(graph.exists[:, receivers].sum()) for receivers in into]
    assert numbers == [*counted, sum(counted), int(graph.has_direct.sum()), graph.n_edges]
    assert Graph(30, 9, 3).n_edges == 71_101 and "71,101" in GUIDE
