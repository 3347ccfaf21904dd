"""Test the masked forward pass, and the first-order effects that are taken of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from acdc.data import Dataset
from acdc.engine.masked import Mask, MaskedModel, masked_models
from acdc.engine.model import Engine
from acdc.exchange import Layout
from acdc.graph import Circuit, EdgeScores, Node
from acdc.methods import eap as of_eap
from acdc.methods import gradients
from acdc.methods.eap import eap, eap_ig, eap_ig_activations, inputs_between, outputs_between, parts_of
from acdc.methods.gim import GimModel, gim
from acdc.methods.relp import RelpModel, relp
from acdc.metrics import L2, KLDivergence, LogitDifference, MetricKind
from acdc.models.convert import weights_of
from tests import mib
from tests.originals import vector_bridge, vector_inputs
from tests.small_models import LEARNED_POSITIONS, SETUPS, bridge, double_engine, engine, prompts, random_circuit
from tests.vector_files import VECTORS, read_vectors

setups = pytest.mark.parametrize(("kind", "ablation"), SETUPS)


def masked(kind: str, ablation: str, split_embed: bool = False, dtype: torch.dtype = torch.float32) -> MaskedModel:
    return MaskedModel(
        weights_of(bridge(kind)).to("cpu", dtype), prompts(True), ablation=ablation, split_embed=split_embed
    )


@pytest.mark.parametrize(
    ("kind", "ablation", "split_embed"),
    [(*setup, split) for setup in SETUPS for split in (False, True) if not split or setup[0] in LEARNED_POSITIONS],
)
def test_masks_of_ones_and_zeros_are_circuits(kind, ablation, split_embed):
    model, fast = masked(kind, ablation, split_embed), engine(kind, ablation, split_embed, several=True)
    circuits = [Circuit.full(fast.graph), Circuit.empty(fast.graph)]
    for circuit in (*circuits, *(random_circuit(fast.graph, seed, 0.6, 0.8) for seed in range(3))):
        found = model.logits(Mask.of(circuit, model.weights.embed))
        torch.testing.assert_close(found, fast.circuit_logits(circuit), atol=1e-4, rtol=0)


def edge_scores(model: MaskedModel, kind: MetricKind, steps: int) -> EdgeScores:
    """Return scores by integrated gradients that end at the clean inputs; one step makes them EAP's."""
    return of_eap.edge_scores(model, kind, inputs_between(model, steps, "clean"))


def nudged(model: MaskedModel, sender: int, receiver: int, by: float) -> float:
    """Return the logit difference with one edge's share changed."""
    mask = Mask.of(Circuit.full(model.graph), model.weights.embed)
    mask.present[sender, receiver] += by
    metric = model.metric(LogitDifference)
    with torch.no_grad():
        return model.value(metric, model.logits(mask)).item()


@setups
def test_eap_is_the_slope_of_removing_each_edge(kind, ablation):
    model = masked(kind, ablation, dtype=torch.float64)
    scores, step = edge_scores(model, LogitDifference, 1).score, 1e-5
    edges = np.argwhere(model.graph.exists)
    for sender, receiver in edges[:: max(1, len(edges) // 20)]:
        slope = (nudged(model, sender, receiver, -step) - nudged(model, sender, receiver, step)) / (2 * step)
        assert scores[sender, receiver] == pytest.approx(slope, abs=1e-6, rel=1e-5)
    assert np.isnan(scores[~model.graph.exists]).all() and np.nanmax(np.abs(scores)) > 0.01


def test_eap_is_autocircuits():
    """The signs are the same: AutoCircuit's mask is 1 where an edge is corrupted, and the loss is this one."""
    case = "tiny3l_mlp"
    clean, corrupted = (vector_inputs(case)[name] for name in ("clean", "corrupted"))
    scored = torch.zeros_like(clean, dtype=torch.bool)
    scored[:, -1] = True
    dataset = Dataset(clean, corrupted, scored, {"correct": clean[:, 0], "incorrect": clean[:, 1]})
    model = MaskedModel(weights_of(vector_bridge(case)), dataset, ablation="corrupted")
    found, graph = edge_scores(model, LogitDifference, 1).score, model.graph
    expected = load_file(VECTORS / case / "autocircuit_eap_scores.safetensors")
    compared = 0
    for r, receiver in enumerate(graph.receivers):
        theirs = expected[receiver.receiver_hook]
        theirs = theirs[receiver.head] if receiver.head is not None else theirs
        ours = found[: len(theirs), r]
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5, rtol=1e-4, err_msg=receiver.name)
        assert not graph.exists[len(theirs) :, r].any()
        compared += len(theirs)
    assert compared == graph.exists.sum()


def test_eap_is_one_step_of_integrated_gradients():
    setup = engine("llama", several=True)
    found, expected = eap(setup, LogitDifference), eap_ig(setup, LogitDifference, ig_steps=1, ig_ends="clean")
    np.testing.assert_array_equal(found.scores.score, expected.scores.score)
    assert (found.evaluations, expected.evaluations) == (1, 1)


@pytest.mark.parametrize("kind", ("gpt2", "pythia", "shortformer"))
def test_integrated_gradients_of_the_embeddings_edges_add_up_to_what_all_of_them_do(kind):
    """This is completeness: along the path, what leaves the embeddings makes all of the difference."""
    model = masked(kind, "corrupted", dtype=torch.float64)
    metric = model.metric(LogitDifference)
    with torch.no_grad():
        ends = [
            model.value(
                metric,
                model.logits(Mask.of(Circuit.full(model.graph), model.weights.embed), {0: share * model.changes[:1]}),
            )
            for share in (1, 0)
        ]
    few, more = (np.nansum(edge_scores(model, LogitDifference, steps).score[0]) for steps in (30, 60))
    # The error of a sum of rectangles is halved by twice as many.
    assert 2 * more - few == pytest.approx((ends[1] - ends[0]).item(), rel=0.01)


def test_integrated_gradients_differ_from_eap_and_take_the_kl_divergence():
    model = masked("layer_norm", "corrupted")
    plain, integrated = (edge_scores(model, LogitDifference, steps) for steps in (1, 5))
    assert np.nanmax(np.abs(plain.score - integrated.score)) > 0.01
    assert np.nanmax(np.abs(edge_scores(model, KLDivergence, 5).score)) > 0.01


@pytest.mark.parametrize("kind", (KLDivergence, L2))
def test_a_distance_from_the_model_has_no_slope_at_the_model(kind):
    nothing = edge_scores(masked("gpt2", "corrupted", dtype=torch.float64), kind, 1)
    assert np.nanmax(np.abs(nothing.score)) < 1e-12


def test_an_edge_that_carries_no_difference_has_no_effect():
    """Under corrupted ablation, position embeddings are the same in both runs."""
    model = masked("gpt2", "corrupted", split_embed=True)
    scores = edge_scores(model, LogitDifference, 1)
    position = scores.graph.sender_index[Node(-1, "pos_embed")]
    assert np.nanmax(np.abs(scores.score[position])) == 0


@pytest.mark.parametrize("at_once", (1, 3, 100))
@pytest.mark.parametrize("ablation", ("corrupted", "mean"))
def test_scores_are_the_same_however_many_prompts_are_taken_at_once(monkeypatch, ablation, at_once):
    monkeypatch.setattr(gradients, "PROMPTS_AT_ONCE", at_once)
    setup = double_engine("llama", ablation)
    found = eap_ig(setup, LogitDifference, ig_steps=3, ig_ends="clean").scores
    expected = edge_scores(masked("llama", ablation, dtype=torch.float64), LogitDifference, 3)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-10)


# The authors' own code: tests/vectors/mib/README.md.

VARIANTS = {
    "EAP": eap,
    "EAP-IG-inputs": partial(eap_ig, ig_steps=5, ig_ends="ablated"),
    "EAP-IG-activations": partial(eap_ig_activations, ig_steps=5),
    "clean-corrupted": partial(eap_ig, ig_steps=1, ig_ends="both"),
    "GIM": gim,
    "RelP": relp,
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", mib.SHAPES)
def test_scores_are_the_authors(name, variant):
    setup, expected = mib.setup(name), read_vectors("mib")[name][variant]["edges"]
    scores = VARIANTS[variant](setup, LogitDifference).scores.score
    places = Layout.of(setup.graph).places()
    assert places.keys() == expected.keys()
    if (name, variant) == ("llama_grouped", "EAP-IG-activations"):
        scores[0, : setup.graph.n_ports] = without_the_embeddings(setup)[0, : setup.graph.n_ports]
    # Their sum over prompts is divided by their number twice: the metric is a mean already.
    found = {edge: scores[sender, receiver] / len(setup.dataset) for edge, (sender, receiver) in places.items()}
    assert found == pytest.approx(expected, abs=1e-5 * max(map(abs, expected.values())))


def without_the_embeddings(setup: Engine) -> np.ndarray:
    """Return scores by integrated gradients of activations, less those gradients at which the embeddings are mixed.

    The authors' code takes none of these at the first layer's ports, where nothing but the embeddings comes before.
    """
    (model,) = masked_models(setup, len(setup.dataset))
    parts = list(parts_of(setup.graph))
    runs = outputs_between(model, parts[1:], 5)
    return of_eap.edge_scores(model, LogitDifference, runs).score * (len(parts) - 1) / len(parts)


@pytest.mark.parametrize(("kind", "method"), [(GimModel, gim), (RelpModel, relp)])
def test_modified_gradients_change_no_value(kind, method):
    setup = mib.setup("llama_grouped")
    (plain,), (modified,) = (masked_models(setup, 9, one) for one in (MaskedModel, kind))
    mask = Mask.of(Circuit.full(setup.graph), setup.weights.embed)
    torch.testing.assert_close(modified.logits(mask), plain.logits(mask), atol=1e-5, rtol=0)
    scores = [found(setup, LogitDifference).scores.score for found in (method, eap)]
    assert not np.allclose(*scores, equal_nan=True)
