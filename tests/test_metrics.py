"""Metrics are what their names say, one number per scored position."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from acdc.metrics import L2, STANDARD, KLDivergence, LogitDifference
from tests.models import N_VOCAB, prompts

several = pytest.mark.parametrize("several", (False, True))


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, N_VOCAB, generator=torch.Generator().manual_seed(seed))


@several
def test_kl_divergence_is_from_the_model_to_the_circuit(several):
    dataset = prompts(several)
    rows = int(dataset.scored.sum())
    model, circuit = logits(0, rows), logits(1, 3, rows)
    expected = torch.stack([F.kl_div(c.log_softmax(-1), model.softmax(-1), reduction="none").sum(-1) for c in circuit])
    torch.testing.assert_close(KLDivergence(dataset, model)(circuit), expected)
    assert (expected > 0.1).all()


def test_kl_divergence_of_the_model_is_0_and_a_shift_of_all_logits_is_none():
    model = logits(0, 4)
    assert KLDivergence(prompts(False), model)(model + 3).abs().max() < 1e-5


@several
def test_logit_difference_is_lower_where_the_answer_is_likelier(several):
    dataset = prompts(several)
    rows = dataset.scored_rows[0]
    metric = LogitDifference(dataset, logits(0, len(rows)))
    circuit = logits(1, len(rows))
    correct, incorrect = (dataset.targets[name][rows] for name in ("correct", "incorrect"))
    expected = circuit[range(len(rows)), incorrect] - circuit[range(len(rows)), correct]
    torch.testing.assert_close(metric(circuit.gather(1, metric.columns)), expected)
    circuit[range(len(rows)), correct] += 1
    assert (metric(circuit.gather(1, metric.columns)) < expected).all()


@several
def test_columns_are_the_two_answers_of_each_scored_position(several):
    dataset = prompts(several)
    columns = LogitDifference(dataset, logits(0, int(dataset.scored.sum()))).columns
    answers = list(zip(dataset.targets["correct"].tolist(), dataset.targets["incorrect"].tolist(), strict=True))
    assert [tuple(row) for row in columns.tolist()] == [answers[prompt] for prompt in dataset.scored_rows[0]]
    assert KLDivergence.columns is None


@several
def test_l2_is_the_mean_over_the_vocabulary_of_the_squared_difference_to_the_model(several):
    dataset = prompts(several)
    model, circuit = (logits(seed, int(dataset.scored.sum())) for seed in (0, 1))
    metric = L2(dataset, model)
    expected = torch.stack([F.mse_loss(c, m) for c, m in zip(circuit, model, strict=True)])
    torch.testing.assert_close(metric(circuit), expected)
    torch.testing.assert_close(metric(torch.stack([circuit, model])), torch.stack([expected, 0 * expected]))
    assert metric.columns is None


def test_names_are_the_configs():
    assert {"kl_divergence": KLDivergence, "logit_difference": LogitDifference} == STANDARD
