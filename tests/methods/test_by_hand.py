"""Test every method on a model that can be solved by hand.

One position, so that a head attends to itself, and no norm: the model is linear. The residual stream's first dimension
is 1 on the clean prompt and -1 on the corrupted one. Both heads write a multiple of it there, 3 and 0.5 times, and the
logit difference is minus what arrives: -4.5, or 4.5 where nothing is left of the clean prompt. To remove something
costs twice its multiple, and queries and keys do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.engine.weights import Block, Weights
from acdc.graph import Graph
from acdc.methods.acdc_fast import acdc_fast
from acdc.methods.driver import Scored
from acdc.methods.eap import eap, eap_ig
from acdc.methods.edge_pruning import EdgePruning
from acdc.methods.hisp import hisp
from acdc.methods.sp import Sp
from acdc.metrics import LogitDifference
from acdc.models.architecture import Architecture
from tests.search import finished

MULTIPLES = (3.0, 0.5)
EFFECTS = {
    "embed -> logits": 2,
    "a0.h0 -> logits": 6,
    "a0.h1 -> logits": 1,
    "embed -> a0.h0.v": 6,
    "embed -> a0.h1.v": 1,
}


def weights() -> Weights:
    architecture = Architecture(
        n_layers=1, d_model=2, n_heads=2, n_kv_heads=2, d_head=1, d_mlp=0, d_vocab=4, n_ctx=1, norm="none", eps=1e-5,
        positions="learned", activation=None, gated=False, parallel=False, causal=True,
    )  # fmt: skip
    embed, unembed = torch.zeros(4, 2), torch.zeros(2, 4)
    embed[0, 0], embed[1, 0], unembed[0, 2] = 1, -1, 1
    out = torch.tensor([[[multiple, 0.0]] for multiple in MULTIPLES])
    block = Block(None, None, torch.tensor([[1.0], [0.0]]).repeat(6, 1, 1), torch.zeros(6, 1), out, torch.zeros(2))
    made = Weights(architecture, embed, torch.zeros(1, 2), [block], None, None, unembed, None)
    return made.to("cpu", torch.float64)


def dataset() -> Dataset:
    targets = {"correct": torch.tensor([2]), "incorrect": torch.tensor([3])}
    return Dataset(torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[True]]), targets)


@pytest.fixture
def engine() -> Engine:
    return Engine(weights(), dataset(), ablation="corrupted")


def effect(graph: Graph, sender: int, receiver: int) -> float:
    return EFFECTS.get(f"{graph.senders[sender].name} -> {graph.receivers[receiver].name}", 0)


@pytest.mark.parametrize("method", [eap, partial(eap_ig, ig_steps=3, ig_ends="clean")], ids=("eap", "eap_ig"))
def test_scores_of_edges_are_what_their_removal_costs(engine, method: Callable[..., Scored]):
    found = method(engine, LogitDifference).scores
    for s, r in np.argwhere(engine.graph.exists):
        assert found.score[s, r] == pytest.approx(effect(engine.graph, s, r))


def test_hisp_is_the_cost_of_a_value_as_a_share_of_its_layers(engine):
    found = hisp(engine, LogitDifference).scores
    expected = {"a0.h0.v": 6 / 37**0.5, "a0.h1.v": 1 / 37**0.5}
    for node, value in zip(engine.graph.receivers[:-1], found.values, strict=True):
        assert value == pytest.approx(expected.get(node.name, 0))


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        (0.5, [*EFFECTS, "a0.h0.v (direct)", "a0.h1.v (direct)"]),
        (1.5, ["embed -> logits", "a0.h0 -> logits", "embed -> a0.h0.v", "a0.h0.v (direct)"]),
        (3.0, ["a0.h0 -> logits", "embed -> a0.h0.v", "a0.h0.v (direct)"]),
        (6.5, []),
    ],
)
def test_acdc_keeps_what_costs_the_threshold(engine, threshold, kept):
    found = acdc_fast(engine, LogitDifference, threshold)
    assert {edge.name for edge in found.circuit.edges} == set(kept)
    spared = sum(EFFECTS[name] for name in kept if name.endswith("logits"))
    assert found.metric == pytest.approx(4.5 - spared)


@pytest.mark.parametrize(
    ("regularisation", "kept"), [(3.0, {"a0.h0.v", "a0.h1.v"}), (60.0, {"a0.h0.v"}), (1000.0, set())]
)
def test_sp_keeps_a_node_while_it_saves_more_than_its_regularisation(engine, regularisation, kept):
    """Six nodes in three groups of two have a sixth of the regularisation each. At the first score, 1.6, a step up
    raises the expected share by 0.14 and the chance to be above 0 by 0.037: 6 x 0.14 is more than 60 / 6 x 0.037 and
    less than 1000 / 6 x 0.037, and 1 x 0.14 lies between 3 and 60 in the same way.
    """
    found = Sp(engine, LogitDifference, regularisation, steps=200, learning_rate=0.2, prompts_per_step=1, seed=0)
    finished(found)
    assert {engine.graph.receivers[r].name for r in np.flatnonzero(found.scores.score > 0)} == kept


def test_edge_pruning_keeps_the_edges_that_cost_the_most(engine):
    """It may keep three of nine edges, and any other three leave a worse metric."""
    settings = {"steps": 1500, "learning_rate": 0.8, "multiplier_learning_rate": 0.1, "warmup": 0.07, "seed": 0}
    found = EdgePruning(engine, LogitDifference, 2 / 3, **settings, target_warmup=0.83, prompts_per_step=1)
    finished(found)
    assert {edge.name for edge in found.circuit.edges if edge.kind == "addition"} == {
        "embed -> logits",
        "a0.h0 -> logits",
        "embed -> a0.h0.v",
    }
    assert found.converged
