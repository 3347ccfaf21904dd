"""Test HISP: the importance of heads' ports and of MLPs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acdc.engine.masked import Mask, MaskedModel
from acdc.engine.model import Engine
from acdc.graph import Circuit, Node
from acdc.methods.driver import sizes_of
from acdc.methods.hisp import hisp, slopes
from acdc.metrics import LogitDifference
from tests.small_models import SETUPS, double_weights, engine, prompts


def nudged(model: MaskedModel, receiver: int, by: float) -> float:
    """Return the logit difference with the share of one port's value or one MLP's output changed."""
    mask, node = Mask.of(Circuit.full(model.graph), model.weights.embed), model.graph.receivers[receiver]
    if node.port:
        mask.direct[receiver] += by
    else:
        mask.present[model.graph.sender_index[node]] += by
    with torch.no_grad():
        return model.value(model.metric(LogitDifference), model.logits(mask)).item()


@pytest.mark.parametrize(("kind", "ablation"), SETUPS)
def test_importance_is_the_mean_size_of_each_prompts_slope(kind, ablation):
    dataset, step = prompts(True), 1e-5
    weights = double_weights(kind)
    alone = [MaskedModel(weights, dataset.select(slice(i, i + 1)), ablation=ablation) for i in range(len(dataset))]
    found = slopes(MaskedModel(weights, dataset, ablation=ablation), LogitDifference).score
    for receiver in range(0, len(found) - 1, 3):  # ports of every sort, and MLPs
        sizes = [abs(nudged(model, receiver, step) - nudged(model, receiver, -step)) / (2 * step) for model in alone]
        assert found[receiver] == pytest.approx(np.mean(sizes), abs=1e-6, rel=1e-5)
    assert np.isnan(found[-1]) and np.nanmax(found) > 0.01


def test_each_layers_scores_have_the_norm_1():
    setup = engine("gpt2", "corrupted", several=True)
    scores = hisp(setup, LogitDifference).scores
    layer = np.array([node.layer for node in setup.graph.receivers])
    norms = [np.linalg.norm(scores.score[layer == i]) for i in range(setup.graph.n_layers)]
    np.testing.assert_allclose(norms, 1, rtol=1e-6)


def test_a_layer_without_effect_scores_0_and_not_nan():
    weights = double_weights("gpt2")
    weights.unembed.zero_()
    scores = hisp(Engine(weights, prompts(True), ablation="corrupted"), LogitDifference).scores
    assert (scores.values == 0).all() and len(scores.values) == len(scores.graph.receivers) - 1


def test_best_nodes_keep_all_edges_among_them_up_to_the_whole_graph():
    scores = hisp(engine("gpt2", "corrupted", several=True), LogitDifference).scores
    circuits = [scores.top(n) for n in sizes_of(scores, [])]
    assert circuits[-1].n_edges == scores.graph.n_edges
    sizes = [circuit.n_edges for circuit in circuits]
    assert sizes == sorted(sizes)
    (best,) = scores.top(1).nodes - {Node(-1, "embed"), scores.graph.receivers[-1]}
    assert best == scores.graph.receivers[int(np.nanargmax(scores.score))].owner
