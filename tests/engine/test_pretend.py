"""Test all methods on a pretended GPU, which refuses what a GPU refuses: they decide as on the CPU, and seldom wait."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from acdc.catalogue import METHODS, METRICS
from acdc.data import Dataset
from acdc.engine.check import Expected
from acdc.engine.load import Options
from acdc.engine.model import Engine
from acdc.found import Found
from acdc.graph import Circuit
from acdc.methods import driver
from acdc.methods.acdc_fast import acdc_fast
from acdc.methods.driver import load_state, save_state
from acdc.methods.training import Training
from acdc.metrics import FunctionMetric, KLDivergence
from acdc.models.convert import weights_of
from benchmarks.acdc_speed import random_background, random_prompts, random_weights
from benchmarks.launches import NARROW, REGIMES, counted
from tests.pretend_device import DEVICE, MixedDevicesError, PretendDevice
from tests.search import assert_same, decisions, finished
from tests.small_models import N_POS, N_VOCAB, SETUPS, bridge, prompts, random_circuit

ERROR, SHARES = 1e-4, (0.1, 0.15, 0.2)
MOST_KERNELS = 200
"""In a block of a dense search at GPT-2 small's graph: 147 on 2026-11-28, and 873 a head at a time."""


@pytest.fixture
def device():
    with PretendDevice() as device:
        yield device


@cache
def dataset() -> Dataset:
    """Return prompts with the targets of every metric."""
    few, generator = prompts(True), torch.Generator().manual_seed(2)
    answers = torch.randint(N_VOCAB, (4, 3), generator=generator)
    targets = {
        "correct": few.targets["correct"],
        "incorrect": answers[:, :2],
        "answers": answers,
        "right": torch.tensor([[True, False, True]]).expand(4, -1),
        "next": torch.randint(N_VOCAB, (4, N_POS), generator=generator),
        "outputs": torch.randn(4, N_POS, N_VOCAB, generator=generator),
        "corrupted_outputs": torch.randn(4, N_POS, N_VOCAB, generator=generator),
    }
    return Dataset(few.clean, few.corrupted, few.scored, targets)


def engine(kind: str, ablation: str, where: str | torch.device, **settings: Any) -> Engine:
    weights = weights_of(bridge(kind)).to(where, torch.float32)
    return Engine(weights, dataset(), ablation=ablation, **settings)


@torch.no_grad()
def on_both(kind: str, ablation: str, metric: Any, **settings: Any) -> None:
    """Search on the CPU and on the pretended device, and compare the decisions.

    The threshold is a share of the way from the whole model to the ablated run: the first at which nothing is a tie.
    """
    here = engine(kind, ablation, "cpu", **settings)
    ends = [here.value(circuit(here.graph), metric) for circuit in (Circuit.full, Circuit.empty)]
    scale = abs(ends[1] - ends[0])
    for threshold in (share * scale for share in SHARES):
        expected = acdc_fast(here, metric, threshold)
        if expected.smallest_margin(threshold) > ERROR * scale:
            break
    else:
        pytest.fail("ties at all shares: take others")
    found = acdc_fast(engine(kind, ablation, DEVICE, **settings), metric, threshold)
    assert_same(found, expected, ERROR * max(scale, *map(abs, ends)))
    assert 0 < sum(row.removed for row in found.trace) < len(found.trace)


def test_the_pretended_device_refuses_and_counts(device):
    x = torch.ones(3, 4).to(DEVICE)
    for mix in (
        lambda: x + torch.ones(3, 4),
        lambda: x @ torch.ones(4, 2),
        lambda: x.index_select(0, torch.tensor([1])),
        lambda: torch.stack([x, torch.ones(3, 4)]),
    ):
        with pytest.raises(MixedDevicesError):
            mix()
    device.counts.clear()
    assert (2 * x + torch.tensor(1.0))[0, 1:].sum().item() == 9
    x.to(DEVICE)
    assert dict(+device.counts) == {"kernels": 3, "downloads": 1}
    device.counts.clear()
    assert x[[0, 1]].shape == x[torch.tensor([0, 1])].shape == x[np.array([0, 1])].shape == (2, 4)
    assert x[torch.arange(2).to(DEVICE, non_blocking=True)].tolist() == 2 * [4 * [1.0]]
    x[x > 0] = 0
    assert dict(+device.counts) == {"kernels": 6, "uploads": 3, "free uploads": 1, "downloads": 2}


@pytest.mark.parametrize(("kind", "ablation"), SETUPS)
def test_searches_of_every_kind_and_ablation_decide_as_on_the_cpu(kind, ablation, device):
    on_both(kind, ablation, KLDivergence)


@pytest.mark.parametrize("metric", METRICS)
def test_searches_by_every_metric_decide_as_on_the_cpu(metric, device):
    on_both("llama", "corrupted", METRICS[metric].load())


def test_a_metric_of_a_notebook_and_prompts_in_chunks_decide_as_on_the_cpu(device):
    def of_function(data: Dataset, logits: torch.Tensor) -> FunctionMetric:
        return FunctionMetric(lambda x, data: -x[:, data.targets["correct"][0]], data, logits)

    on_both("gpt2", "corrupted", of_function, memory=1)
    on_both("gpt2", "zero", KLDivergence, split_embed=True)


@pytest.mark.parametrize("kind", ("gpt2", "gemma2", "olmo2", "attention_only"))
def test_searches_by_coarse_products_decide_as_on_the_cpu(kind, device):
    """Effects that decide clearly stay coarse, so that only decisions are compared with those of full precision."""
    usual = engine(kind, "corrupted", "cpu")
    threshold = 0.1 * usual.value(Circuit.empty(usual.graph), KLDivergence)
    found = acdc_fast(engine(kind, "corrupted", DEVICE, mixed=True), KLDivergence, threshold)
    expected = acdc_fast(usual, KLDivergence, threshold)
    assert decisions(found) == decisions(expected)
    assert 0 < found.remeasured < len(found.trace)


@pytest.mark.parametrize("kind", ("gpt2", "gemma2"))
def test_an_engine_is_placed_and_compared_with_the_models_own_logits(kind, device, monkeypatch):
    monkeypatch.setattr("acdc.engine.load.device_of", lambda name: DEVICE)
    (expected,) = Expected.of({"TransformerLens": lambda: bridge(kind)}, prompts(True))
    options = Options()
    made = options.engine(options.place(weights_of(bridge(kind))), prompts(True), lambda: expected)
    assert made.device == DEVICE and made.batched


TRAINED = {
    "sp": {"steps": 12, "learning_rate": 0.3, "prompts_per_step": 3},
    "edge_pruning": {"steps": 12, "learning_rate": 20.0, "prompts_per_step": 3},
}
trained = pytest.mark.parametrize("method", TRAINED)


def settings_of(method: str) -> dict[str, Any]:
    own = {setting.name: setting.default for setting in METHODS[method].settings} | TRAINED.get(method, {})
    return own | {"method": method, "metric": "logit_difference", "ablation": "mean"}


def found_by(method: str, where: str | torch.device, folder=None) -> list[Found]:
    """Return what a method of the catalogue finds."""
    setup = engine("gemma2", "mean", where)
    if METHODS[method].kind == "search":
        return list(driver.find(setup, settings_of(method), ["0.1"], folder))
    return driver.score(setup, settings_of(method), sizes=[30, 100])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_what_it_finds_on_the_cpu(method, device, tmp_path):
    expected, found = found_by(method, "cpu"), found_by(method, DEVICE, tmp_path)
    assert [one.circuit for one in found] == [one.circuit for one in expected]
    values = [[one.result["final_metric"] for one in side] for side in (found, expected)]
    np.testing.assert_allclose(values[0], values[1], atol=ERROR)


def training(method: str, where: str | torch.device, metric: Any = KLDivergence) -> Training:
    own = {setting.name: setting.default for setting in METHODS[method].settings} | TRAINED[method]
    return METHODS[method].load()(engine("gpt2", "corrupted", where), metric, 0.1, **own)


@trained
@pytest.mark.parametrize("metric", METRICS)
def test_training_by_every_metric_has_a_slope_and_the_one_that_it_has_on_the_cpu(method, metric, device):
    slopes = []
    for where in ("cpu", DEVICE):
        search = training(method, where, METRICS[metric].load())
        first, *_ = search.learnt.values()
        first.data.fill_(1.0)
        search.step()
        slopes.append(first.grad.cpu().numpy())
    np.testing.assert_allclose(slopes[1], slopes[0], atol=ERROR)
    assert np.count_nonzero(slopes[0]) > len(slopes[0]) / 4


@trained
@pytest.mark.parametrize("places", [("cpu", DEVICE), (DEVICE, "cpu"), (DEVICE, DEVICE)])
def test_training_goes_on_from_a_checkpoint_of_another_device(method, places, device, tmp_path):
    whole, before, after = (training(method, where) for where in ("cpu", *places))
    finished(whole)
    for _ in range(5):
        before.step()
    save_state(tmp_path / "checkpoint.pt", {}, before.state())
    after.restore(load_state(tmp_path / "checkpoint.pt", {}))
    finished(after)
    np.testing.assert_allclose(np.array(after.trace), np.array(whole.trace), atol=ERROR)
    assert after.outcome().circuit == whole.outcome().circuit


@trained
def test_a_step_of_training_waits_once(method, device):
    search = training(method, DEVICE)
    search.step()
    device.counts.clear()
    search.step()
    assert (device.counts["uploads"], device.counts["downloads"]) == (0, 1)


@torch.no_grad()
def test_a_dense_block_launches_few_kernels_and_waits_once(device):
    density, threshold = REGIMES["dense"]
    data = random_prompts(2, 6, d_vocab=NARROW.d_vocab)
    setup = Engine(random_weights(NARROW).to(DEVICE, torch.float32), data, ablation="corrupted")
    rows = counted(device, setup, threshold, random_background(setup.graph, density), every=6)
    n_blocks = sum(row["blocks"] for row in rows)
    assert sum(row["kernels"] for row in rows) / n_blocks < MOST_KERNELS
    assert sum(row["downloads"] for row in rows) == n_blocks
    assert sum(row["uploads"] for row in rows) == 0


@torch.no_grad()
@pytest.mark.parametrize("kind", ("gemma2", "olmo2", "llama", "bidirectional"))
def test_circuits_have_the_logits_that_they_have_on_the_cpu(kind, device):
    here, there = (engine(kind, "zero", where) for where in ("cpu", DEVICE))
    for seed in range(3):
        circuit = random_circuit(here.graph, seed, 0.6, 0.9)
        found = there.circuit_logits(circuit).cpu()
        torch.testing.assert_close(found, here.circuit_logits(circuit), atol=ERROR, rtol=0)
