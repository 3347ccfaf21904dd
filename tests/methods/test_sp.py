"""Test subnetwork probing: masks of nodes, trained."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from acdc.engine.masked import Mask, MaskedModel
from acdc.engine.model import Engine
from acdc.graph import Circuit, Graph
from acdc.methods.hard_concrete import alike
from acdc.methods.sp import FIRST_SCORE, Sp, Step, draw, expected_share
from acdc.metrics import KLDivergence, LogitDifference, Metric
from tests.search import finished
from tests.small_models import SETUPS, double_engine, double_weights, prompts


def sp(
    engine: Engine,
    kind: type[Metric],
    regularisation: float,
    *,
    steps: int = 60,
    learning_rate: float = 0.2,
    prompts_per_step: int = 100,
    seed: int = 0,
) -> Sp:
    settings = {"steps": steps, "learning_rate": learning_rate, "prompts_per_step": prompts_per_step, "seed": seed}
    return Sp(engine, kind, regularisation, **settings)


def on_edges(model: MaskedModel, share: torch.Tensor) -> Mask:
    """Return the mask that says of every edge what its node's share says."""
    mask = Mask.of(Circuit.full(model.graph), model.weights.embed)
    for r, node in enumerate(model.graph.receivers[:-1]):
        if node.port:
            mask.direct[r] = share[r]
        else:
            mask.present[model.graph.sender_index[node]] *= share[r]
    return mask


@pytest.mark.parametrize(("kind", "ablation"), SETUPS)
def test_shares_of_nodes_are_those_of_all_their_edges(kind, ablation):
    setup = double_engine(kind, ablation)
    model = MaskedModel(setup.weights, setup.dataset, ablation=ablation)
    share = torch.rand(len(model.graph.receivers) - 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = model.logits(on_edges(model, share))
    torch.testing.assert_close(model.logits_of_nodes(share), expected, atol=1e-9, rtol=0)
    assert (expected - model.model_logits).abs().max() > 0.01


def test_extreme_regularisation_gives_the_whole_graph_and_none_of_its_nodes():
    setup = double_engine("gpt2")
    everything = finished(sp(setup, KLDivergence, -1e6)).circuit
    nothing = finished(sp(setup, KLDivergence, 1e6)).circuit
    assert everything.n_edges == setup.graph.n_edges
    assert [edge.name for edge in nothing.edges] == ["embed -> logits"]


def test_one_head_that_matters_is_kept_and_the_others_go():
    """All heads but one write nothing: whatever their masks are, the metric is the same."""
    weights = double_weights("attention_only")
    for layer, block in enumerate(weights.blocks):
        for head in range(len(block.w_o)):
            if (layer, head) != (1, 2):
                block.w_o[head] = 0
    setup = Engine(weights, prompts(True), ablation="corrupted")
    found = finished(sp(setup, KLDivergence, 0.1, steps=150))
    kept = {setup.graph.receivers[r].name for r in np.flatnonzero(found.scores.score > 0)}
    assert "a1.h2.v" in kept and kept <= {"a1.h2.q", "a1.h2.k", "a1.h2.v"}


def test_the_same_seed_gives_the_same_scores_and_another_gives_others():
    setup = double_engine("llama")
    first, second, other = (
        finished(sp(setup, LogitDifference, 0.1, steps=5, seed=seed)).scores.values for seed in (0, 0, 1)
    )
    assert (first == second).all() and not (first == other).all()


def test_a_run_goes_on_where_it_was(tmp_path):
    setup, file = double_engine("gpt2"), tmp_path / "state.pt"
    settings = {"steps": 12, "learning_rate": 0.1, "prompts_per_step": 3, "seed": 3}
    whole = sp(setup, LogitDifference, 0.3, **settings)
    for _, can_be_saved in whole.steps():
        if whole.done == 7:
            assert can_be_saved
            torch.save(whole.state(), file)
    rest = sp(setup, LogitDifference, 0.3, **settings)
    rest.restore(torch.load(file, weights_only=True))
    assert rest.done == 7 and sum(n for n, _ in rest.steps()) == 5
    assert rest.trace == whole.trace and len(rest.trace) == 12
    assert (rest.scores.values == whole.scores.values).all()


def test_every_step_takes_the_next_prompts():
    setup = double_engine("gpt2")
    halves = [
        Engine(setup.weights, setup.dataset.select(part), ablation="corrupted") for part in (slice(2), slice(2, None))
    ]
    still = {"steps": 3, "learning_rate": 0.0, "prompts_per_step": 2}
    both, first, second = (
        [step.metric for step in finished(sp(each, LogitDifference, 0.0, **still)).trace] for each in (setup, *halves)
    )
    assert both == [first[0], second[1], first[2]] and first[1] != second[1]


def test_the_loss_is_the_metric_and_the_weighted_regularisation():
    for step in finished(sp(double_engine("gpt2"), KLDivergence, 2.5)).trace:
        assert step.loss == pytest.approx(step.metric + 2.5 * step.regularisation)


def test_nan_is_refused():
    weights = double_weights("gpt2")
    weights.unembed[:] = torch.nan
    with pytest.raises(ArithmeticError, match="NaN in step 0 of SP, regularisation 0.5"):
        finished(sp(Engine(weights, prompts(True), ablation="corrupted"), KLDivergence, 0.5))


def test_draws_are_hard_concrete():
    draws = torch.Generator().manual_seed(0)
    shares = draw(torch.full((100_000,), FIRST_SCORE, dtype=torch.float64), draws)
    assert shares.min() == 0 and shares.max() == 1
    # P(share > 0) = sigmoid(score - beta log(-gamma / zeta)): Louizos et al. 2018, equation 12.
    expected = 1 / (1 + np.exp(-(log(5) - 2 / 3 * log(0.1 / 1.1))))
    assert (shares > 0).double().mean() == pytest.approx(expected, abs=2e-3)
    assert (shares > 0.5).double().mean() == pytest.approx(5 / 6, abs=5e-3)
    assert expected_share(torch.tensor([log(5)] * 2), [[0], [1]]).item() == pytest.approx(expected)


def test_layers_and_kinds_count_alike_in_the_regularisation():
    graph = Graph(2, 4, 2)
    groups = list(alike(graph.receivers[:-1]))
    assert [len(group) for group in groups] == [4, 2, 2, 1] * 2
    score = torch.full((len(graph.receivers) - 1,), -50.0)
    score[groups[3]] = 50
    assert expected_share(score, groups).item() == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("losses", "converged"),
    [
        ([5, 4, 3, 2, 1], False),
        ([5, 3, 2, 1.01, 1], True),
        ([5, 3, 2, 1, 1.5], False),
        ([1, 1, 1, 1, 1], True),
        ([5, 1, 1, 1], False),
        ([9] * 3 + [5] * 3 + [1.2, 0.8, 1] * 3, True),
    ],
)
def test_a_loss_that_still_falls_has_not_converged(losses, converged):
    run = sp(double_engine("attention_only"), KLDivergence, 1.0)
    run.trace = [Step(i, loss, 0.0, loss) for i, loss in enumerate(losses)]
    assert run.converged is converged


def test_the_outcome_measures_the_circuit_and_not_the_shares():
    setup = double_engine("gpt2")
    run = finished(sp(setup, KLDivergence, 2.5))
    (expected,) = setup.measure(setup.metric(KLDivergence), setup.finals(run.circuit))
    outcome = run.outcome()
    assert outcome.final_metric == expected
    assert abs(expected - run.trace[-1].metric) > 1e-3, "rounding is no difference: choose another regularisation"
    assert (outcome.evaluations, outcome.converged) == (60, run.converged)
