"""Test Edge Pruning: trained masks of edges are what the authors' trainer makes of the same draws."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from acdc.engine.masked import MaskedModel
from acdc.engine.model import Engine
from acdc.graph import Circuit, Edge
from acdc.methods.edge_pruning import EdgePruning, Step, certain, kept
from acdc.methods.hard_concrete import alike
from acdc.metrics import KLDivergence, LogitDifference, Metric
from tests import edge_pruning, mib
from tests.search import finished
from tests.small_models import SETUPS, double_engine, prompts, random_circuit
from tests.vector_files import read_vectors

ERROR = 1e-7
CHOSEN = {
    "steps": 12,
    "learning_rate": 0.8,
    "multiplier_learning_rate": 0.8,
    "warmup": 0.1,
    "target_warmup": 0.5,
    "prompts_per_step": 3,
    "seed": 0,
}


def search(setup: Engine, kind: type[Metric] = LogitDifference, target: float = 0.5, **settings: Any) -> EdgePruning:
    return EdgePruning(setup, kind, target, **(CHOSEN | settings))


# Beside the authors' trainer.


class Given(EdgePruning):
    """Run Edge Pruning from the scores, and by the draws, that the authors' code was given."""

    def begin(self, run: edge_pruning.Run) -> None:
        edges, nodes = edge_pruning.start(run)
        self.edges.data = torch.tensor(edges[self.graph.exists])
        self.nodes.data = torch.tensor(nodes)

    def noise(self, n: int) -> torch.Tensor:
        edges, nodes = edge_pruning.uniform(self.done)
        return torch.tensor(nodes if n == len(nodes) else edges[self.graph.exists]).logit()


@cache
def ours(name: str) -> EdgePruning:
    run, setup = edge_pruning.RUNS[name], mib.setup("gpt2", split_embed=True)
    double = Engine(setup.weights.to("cpu", torch.float64), setup.dataset, ablation="corrupted", split_embed=True)
    found = Given(
        double,
        KLDivergence,
        run.sparsity_target,
        steps=run.steps,
        learning_rate=run.learning_rate,
        multiplier_learning_rate=run.multiplier_learning_rate,
        warmup=run.warmup_steps / run.steps,
        target_warmup=run.target_steps / run.steps,
        prompts_per_step=mib.N_PROMPTS,
        seed=0,
    )
    found.begin(run)
    return finished(found)


@pytest.fixture(params=edge_pruning.RUNS)
def name(request) -> str:
    return request.param


def test_every_step_has_the_loss_of_the_authors_trainer(name):
    theirs, every = read_vectors("edge_pruning")[name]["steps"], edge_pruning.RUNS[name].every
    for row, step in zip(theirs, ours(name).trace[::every], strict=True):
        for column in ("metric", "sparsity", "target", "loss"):
            assert getattr(step, column) == pytest.approx(row[column], rel=ERROR, abs=ERROR), (step, column)


def test_scores_and_multipliers_end_where_the_authors_end(name):
    theirs, found = read_vectors("edge_pruning")[name], ours(name)
    edges = np.array(theirs["scores"]["edges"])[found.graph.exists]
    np.testing.assert_allclose(found.edges.detach(), edges, atol=ERROR)
    np.testing.assert_allclose(found.nodes.detach(), theirs["scores"]["nodes"], atol=ERROR)
    np.testing.assert_allclose(found.multipliers.detach(), theirs["multipliers"], rtol=ERROR)


def certain_of(found: EdgePruning) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, of edges and of nodes, the masks without draws and which are kept."""
    receiver = np.nonzero(found.graph.exists)[1]
    edge_groups = [np.isin(receiver, group) for group in alike(found.graph.receivers)]
    scores = {"edges": (found.edges, edge_groups), "nodes": (found.nodes, list(alike(found.graph.senders)))}
    return {
        kind: (certain(score.detach().numpy(), groups), kept(score.detach().numpy(), groups))
        for kind, (score, groups) in scores.items()
    }


def test_masks_without_draws_are_the_authors_and_so_are_the_edges_above_their_threshold(name):
    theirs, found, exists = read_vectors("edge_pruning")[name], ours(name), ours(name).graph.exists
    above = {}
    for kind, (masks, own) in certain_of(found).items():
        expected = np.array(theirs["masks"][kind])
        np.testing.assert_allclose(masks, expected[exists] if kind == "edges" else expected, atol=ERROR)
        above[kind] = masks > theirs["thresholds"][kind]
        # As many are kept as masks add up to. Their search for that threshold may end on either side of the next one.
        assert (own != above[kind]).sum() <= 1
    present = np.zeros_like(exists)
    present[exists] = above["edges"]
    circuit = Circuit(found.graph, present & above["nodes"][:, None], np.zeros_like(found.graph.has_direct))
    assert {edge.name for edge in circuit.edges} == set(theirs["circuit"])


# Masks and circuits.


@pytest.mark.parametrize(("kind", "ablation"), SETUPS)
def test_masks_of_ones_and_zeros_are_circuits_and_every_ablation_can_be_trained(kind, ablation):
    setup = double_engine(kind, ablation)
    run, graph = search(setup, KLDivergence), setup.graph
    present = random_circuit(graph, 0, 0.7, 0.9).present
    sent = np.arange(len(graph.senders)) % 4 != 1
    circuit = Circuit(graph, present & sent[:, None], graph.has_direct)
    model = MaskedModel(setup.weights, setup.dataset, ablation=ablation)
    logits = model.logits(run.mask(torch.tensor(present[graph.exists] * 1.0), torch.tensor(sent * 1.0)))
    torch.testing.assert_close(logits, setup.circuit_logits(circuit), atol=1e-9, rtol=0)
    run.edges.data.fill_(1.0)
    run.step()
    assert run.edges.grad.count_nonzero() > len(run.edges) / 4


def test_a_circuit_has_the_kept_edges_of_kept_senders_and_the_direct_edges_that_they_enter():
    run = search(double_engine("attention_only"))
    graph = run.graph
    with torch.no_grad():
        run.edges.fill_(-9)
        run.nodes.fill_(9)
        run.nodes[graph.sender_index[graph.node("a0.h1")]] = -9
        names = [Edge(graph.senders[s], graph.receivers[r]).name for s, r in np.argwhere(graph.exists)]
        wanted = ["embed -> logits", "embed -> a0.h0.v", "a0.h0 -> logits", "a0.h1 -> logits", "embed -> a1.h2.q"]
        for edge in wanted:
            run.edges[names.index(edge)] = 9
    expected = {"embed -> logits", "embed -> a0.h0.v", "a0.h0.v (direct)", "a0.h0 -> logits"}
    assert {edge.name for edge in run.circuit.edges} == {*expected, "embed -> a1.h2.q", "a1.h2.q (direct)"}
    outcome = run.outcome()
    assert {edge.name for edge in outcome.circuit.edges} == expected
    assert outcome.more == {"n_edges_pruned": 2}


def test_as_many_are_kept_as_masks_sum_up_to_and_few_of_a_group_that_is_likely_to_be_0():
    score = np.array([3.0, 0.5, -0.5, -2.0, 8.0, -9.0, 2.0, -1.7])
    share = certain(score, [[0, 1, 2, 3], [4, 5], [6], [7]])
    # P(0) = sigmoid(-score - 2/3 log 11). In the groups it adds up to 0.97, 1, 0.03 and 0.53 masks.
    np.testing.assert_array_equal(share == 0, [False, False, False, True, False, True, False, True])
    np.testing.assert_allclose(share[[0, 2]], 1 / (1 + np.exp(np.array([-3.6, 0.6]))))
    assert share.sum() == pytest.approx(3.89, abs=0.01)
    np.testing.assert_array_equal(kept(score, [[0, 1, 2, 3], [4, 5], [6], [7]]), share > 0.5)


# Training.


def test_nothing_is_ablated_at_the_start_and_all_of_it_by_a_high_target():
    setup = double_engine("attention_only")
    assert search(setup).circuit == Circuit.full(setup.graph)
    assert not finished(search(setup, target=3.0, steps=200, learning_rate=3.0)).circuit.present.any()


def test_the_target_rises_and_then_stays_and_so_does_the_rate_that_falls_again():
    run = search(double_engine("attention_only"), steps=10, warmup=0.2, target_warmup=0.5, target=0.8)
    assert [run.target(step) for step in range(7)] == pytest.approx([0, 0.16, 0.32, 0.48, 0.64, 0.8, 0.8])
    assert [run.rate(step) for step in range(5)] == pytest.approx([0, 0.5, 1, 0.875, 0.75])
    assert run.rate(9) == pytest.approx(0.125)
    at_once = search(double_engine("attention_only"), steps=1, warmup=0, target_warmup=0, target=0.8)
    assert (at_once.target(0), at_once.rate(0)) == (0.8, 1)


def test_the_same_seed_gives_the_same_scores_and_another_gives_others():
    setup = double_engine("llama")
    first, second, other = (finished(search(setup, steps=5, seed=seed)).edges.detach() for seed in (0, 0, 1))
    assert (first == second).all() and not (first == other).all()


def test_every_step_takes_the_next_prompts():
    setup = double_engine("gpt2")
    halves = [
        Engine(setup.weights, setup.dataset.select(part), ablation="corrupted") for part in (slice(2), slice(2, None))
    ]
    both, first, second = (
        [step.metric for step in finished(search(each, steps=3, learning_rate=1e-9, prompts_per_step=2)).trace]
        for each in (setup, *halves)
    )
    assert both == [first[0], second[1], first[2]] and first[1] != second[1]


def test_nan_is_refused():
    setup = double_engine("gpt2")
    setup.weights.unembed[:] = torch.nan
    broken = Engine(setup.weights, prompts(True), ablation="corrupted")
    sentence = "the metric or its gradient became NaN in step 0 of Edge Pruning, sparsity target 0.5"
    with pytest.raises(ArithmeticError, match=sentence):
        search(broken).step()


def test_a_gradient_that_is_nan_is_refused_before_it_spoils_the_scores(monkeypatch):
    run = search(double_engine("attention_only"))
    run.edges.data.fill_(0.0)
    run.edges.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(ArithmeticError, match="NaN in step 0"):
        run.step()
    assert not run.edges.isnan().any() and not run.trace


@pytest.mark.parametrize(
    ("target", "sparsities", "converged"),
    [
        (0.8, [0.0] * 9 + [0.795], True),
        (0.8, [0.8] * 9 + [0.7], False),
        (1.02, [0.5] * 8 + [0.93, 0.925], True),
        (1.02, [0.9] * 8 + [0.9, 0.95], False),
        (0.0, [0.0] * 9, False),
    ],
)
def test_a_sparsity_that_is_not_at_its_target_or_still_rises_has_not_converged(target, sparsities, converged):
    run = search(double_engine("attention_only"), target=target)
    run.trace = [Step(i, 0.0, sparsity, target, 0.0) for i, sparsity in enumerate(sparsities)]
    assert run.converged is converged


def test_the_outcome_measures_the_circuit_and_not_the_masks():
    setup = double_engine("gpt2")
    run = finished(search(setup, steps=60, learning_rate=4.0))
    outcome = run.outcome()
    (expected,) = setup.measure(setup.metric(LogitDifference), setup.finals(run.circuit))
    assert outcome.final_metric == pytest.approx(expected, abs=1e-9)
    assert 0 < run.circuit.present.sum() < setup.graph.exists.sum()
    assert abs(expected - run.trace[-1].metric) > 1e-3, "rounding is no difference: choose other settings"
    assert (outcome.evaluations, outcome.converged) == (60, run.converged)
