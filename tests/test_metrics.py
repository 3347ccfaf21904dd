"""Test metrics: they are what their names say, one number per scored position."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from acdc import tasks
from acdc.data import NO_ANSWER, Dataset
from acdc.metrics import L2, KLDivergence, LogitDifference, OutputDifference
from acdc.models.bridge import load_bridge
from acdc.models.sources import from_builder
from tests.small_models import N_VOCAB, prompts

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


def of_answers(correct: list[list[int]], incorrect: list[list[int]]) -> Dataset:
    """Return the four prompts with other answers."""
    return replace(prompts(False), targets={"correct": torch.tensor(correct), "incorrect": torch.tensor(incorrect)})


def test_the_mean_of_several_answers_stands_for_the_one():
    """One prompt has fewer answers than the others, and as many correct ones as incorrect ones."""
    correct, incorrect = (
        [[3, 4], [5, NO_ANSWER], [6, 7], [8, 9]],
        [[1, 2, 3], [0, NO_ANSWER, NO_ANSWER]] + [[9, 1, 2]] * 2,
    )
    metric, circuit = LogitDifference(of_answers(correct, incorrect), logits(0, 4)), logits(1, 3, 4)
    given = [[[token for token in row if token >= 0] for row in rows] for rows in (correct, incorrect)]
    expected = torch.stack(
        [
            circuit[:, i, wrong].mean(-1) - circuit[:, i, right].mean(-1)
            for i, (right, wrong) in enumerate(zip(*given, strict=True))
        ],
        -1,
    )
    torch.testing.assert_close(metric(circuit.gather(2, metric.columns.expand(3, -1, -1))), expected)


def test_a_list_of_one_answer_is_the_answer():
    one = prompts(False)
    columns = {name: target[:, None].tolist() for name, target in one.targets.items()}
    metrics = [
        LogitDifference(data, logits(0, 4)) for data in (one, of_answers(columns["correct"], columns["incorrect"]))
    ]
    values = [metric(logits(1, 4).gather(1, metric.columns)) for metric in metrics]
    assert torch.equal(*values)


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


RIGHT = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [0.0, 2.0]], [[9.0, 9.0], [0.5, 0.5], [4.0, 0.0]]])
"""The targets of two prompts at three positions, the first of which is not scored."""
CORRUPTED = torch.tensor([[[9.0, 9.0], [0.0, 1.0], [0.0, 0.0]], [[9.0, 9.0], [0.5, 0.5], [1.0, 0.0]]])
ROWS = 4  # scored rows, at the third of which clean and corrupted outputs are the same


def two_prompts() -> Dataset:
    tokens = torch.zeros(2, 3, dtype=torch.long)
    scored = torch.tensor([[False, True, True]] * 2)
    return Dataset(tokens, tokens, scored, {"outputs": RIGHT, "corrupted_outputs": CORRUPTED})


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [
        ([[1, 0], [0, 2], [0.5, 0.5], [4, 0]], [-1, -1, 0, -1]),  # right
        ([[0, 1], [0, 0], [0.5, 0.5], [1, 0]], [0, 0, 0, 0]),  # right of the corrupted prompts
        ([[0.5, 0.5], [0, 0.5], [7, -7], [2, 0]], [-1 / 2, -1 / 4, 0, -1 / 3]),  # part of the way
        ([[0, 0], [3, 2], [0, 0], [1, 5]], [-1 / 2, -1, 0, 0]),  # beside the way
        ([[-1, 2], [0, 4], [0, 0], [7, 0]], [1, -2, 0, -2]),  # before its start and beyond its end
    ],
)
def test_output_difference_is_minus_the_share_of_the_way_to_the_right_output(circuit, expected):
    metric = OutputDifference(two_prompts(), torch.full((ROWS, 2), torch.nan))
    circuit, expected = torch.tensor(circuit, dtype=torch.float32), torch.tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(metric(circuit), expected)
    torch.testing.assert_close(metric(torch.stack([circuit] * 3)), expected.expand(3, ROWS))
    assert metric.columns is None


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_output_difference_has_a_slope_at_the_right_output_and_is_in_the_models_precision(dtype):
    metric = OutputDifference(two_prompts(), torch.zeros(ROWS, 2, dtype=dtype))
    circuit = RIGHT[:, 1:].flatten(0, 1).to(dtype).requires_grad_()
    value = metric(circuit)
    value.sum().backward()
    assert value.dtype == dtype
    expected = torch.tensor([[-1 / 2, 1 / 2], [0, -1 / 2], [0, 0], [-1 / 3, 0]], dtype=dtype)
    torch.testing.assert_close(circuit.grad, expected)


@pytest.mark.parametrize("name", ("tracr_reverse", "tracr_proportion", "tracr_sort"))
def test_compiled_models_go_all_the_way_at_every_position_where_there_is_one(name, tmp_path):
    from_builder(name, tmp_path)
    data = tasks.load(name).make_dataset(None, 6, 0)
    with torch.no_grad():
        clean, corrupted = (load_bridge(tmp_path)(tokens)[data.scored] for tokens in (data.clean, data.corrupted))
    metric = OutputDifference(data, clean)
    differ = (data.targets["outputs"] != data.targets["corrupted_outputs"]).any(-1)[data.scored]
    assert differ.any() and not differ.all()
    torch.testing.assert_close(metric(clean), -differ.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(metric(corrupted), torch.zeros(len(differ)), atol=1e-6, rtol=0)
