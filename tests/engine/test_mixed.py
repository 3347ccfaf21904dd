"""Test searches that try edges by coarse products: they decide as those in full precision do."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from acdc.engine.coarse import Coarse, Full
from acdc.engine.load import Options
from acdc.engine.memory import per_candidate
from acdc.engine.mixed import N_FIRST, MixedRemovals
from acdc.engine.model import Engine
from acdc.graph import Circuit
from acdc.methods.acdc_fast import Acdc, acdc_fast
from acdc.metrics import KLDivergence
from acdc.models.convert import weights_of
from tests.engine.test_memory import held, node_at
from tests.methods.test_search_properties import FLOAT64_ERROR, METRICS, SEEDS, Example, example
from tests.originals import FILES, load, vector_bridge, vector_dataset
from tests.search import assert_same, decisions, finished
from tests.small_models import KINDS, SETUPS, engine, prompts


class Exact(Coarse):
    """Multiply in full precision where coarse products are asked for."""

    weight = Full.weight
    __call__ = Full.__call__


@pytest.mark.parametrize("seed", SEEDS)
def test_searches_decide_the_same(seed):
    """Numbers are float64, coarse products bfloat16. One byte of memory leaves one prompt at a time."""
    drawn = example(seed)
    for memory in (2**31, 1) if seed % 4 == 0 else (2**31,):
        found = drawn.search(drawn.engine(mixed=True, memory=memory))
        assert decisions(found) == decisions(drawn.found)
        assert found.circuit == drawn.found.circuit
        assert found.metric == pytest.approx(drawn.found.metric, abs=FLOAT64_ERROR * drawn.scale)
        assert 0 < found.remeasured <= found.evaluations


@pytest.mark.parametrize("file", FILES)
def test_edges_are_the_originals(file):
    original = load(file)
    weights, data = weights_of(vector_bridge(original.case)), vector_dataset(original.case)
    usual, tried = (Engine(weights, data, **original.arguments, mixed=mixed) for mixed in (False, True))
    how = original.metric, original.threshold, original.head_order
    assert acdc_fast(tried, *how).circuit == acdc_fast(usual, *how).circuit


@pytest.mark.parametrize(("kind", "ablation"), SETUPS)
def test_products_of_changes_are_changes_of_products(kind, ablation):
    """Every number of a search is the same, if the products of changes are in full precision too."""
    weights = engine(kind).weights.to("cpu", torch.float64)
    found = []
    for is_mixed in (False, True):
        made = Engine(weights, prompts(True), ablation=ablation, mixed=is_mixed)
        made.coarse = Exact() if is_mixed else None
        found.append(acdc_fast(made, KLDivergence, 0.02))
    assert_same(found[1], found[0], 1e-8)
    assert any(not row.removed for row in found[0].trace)


def search(drawn: Example, threshold: float, **settings: bool) -> Acdc:
    return Acdc(drawn.engine(**settings), METRICS[drawn.metric], threshold, head_order=drawn.head_order)


def near_ties(drawn: Example) -> list[float]:
    """Return thresholds just above and below what removing some edges does."""
    effects = [row.effect for row in drawn.found.trace if row.effect > 1e-4 * drawn.scale]
    return [effect * (1 + sign * 1e-5) for effect in effects[:2] for sign in (-1, 1)]


def n_misled() -> int:
    """Return how many thresholds next to an effect lead a search by coarse products to other decisions."""
    cases = [(drawn, threshold) for drawn in map(example, range(12, 20)) for threshold in near_ties(drawn)]
    found = [[finished(search(*case, mixed=is_mixed)).progress for is_mixed in (False, True)] for case in cases]
    return sum(decisions(usual) != decisions(tried) for usual, tried in found)


def test_effects_next_to_the_threshold_are_measured_again():
    assert n_misled() == 0


def test_without_a_bound_such_effects_would_mislead(monkeypatch):
    monkeypatch.setattr(MixedRemovals, "error", lambda self, i: 0.0)
    assert n_misled() > 0


def test_a_resumed_search_is_the_same_to_the_byte():
    drawn = example(13)
    whole, first, rest = (search(drawn, drawn.threshold, mixed=True) for _ in range(3))
    next(layer_is_done for _, layer_is_done in first.steps() if layer_is_done)
    rest.restore(json.loads(json.dumps(first.state())))
    assert 0 < first.progress.layer < drawn.n_layers
    expected, found = finished(whole).outcome(), finished(rest).outcome()
    assert (found.trace, found.more) == (expected.trace, expected.more)
    assert found.more["remeasured"] > N_FIRST


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("receiver", ("mlp", "v"))
def test_candidates_need_no_more_memory_than_the_formula_says(kind, receiver):
    made = Engine(engine(kind).weights, prompts(True), ablation="corrupted", mixed=True)
    removals = MixedRemovals(made, Circuit.full(made.graph), 0, made.metric(KLDivergence), 0.01, 0.0)
    removals.start(node_at(made.graph, 0, receiver))
    senders = made.graph.exists[:, removals.receiver].nonzero()[0].tolist() * 8
    removals.tried, removals.candidates = (senders, [False] * len(senders)), [made.graph] * len(senders)
    made.scratch.buffers.clear()
    patch, _ = removals.attempt(0, slice(None), removals.new_coarse_patch)
    tensors = [*patch.new.values(), *patch.stacks.values(), *made.scratch.buffers.values()]
    rows = made.chunks[0].rows
    assert held(tensors) <= len(senders) * per_candidate(made.weights.architecture, removals.plan, 0, rows, 4, True)


def test_a_gpu_multiplies_in_tf32_for_one_product_alone(monkeypatch):
    asked = []
    weight = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(torch, "matmul", lambda x, w: asked.append(torch.get_float32_matmul_precision()) or 1 / x)
    assert Coarse().weight(weight) is weight
    assert Coarse()(2, weight) == 0.5
    with pytest.raises(ZeroDivisionError):
        Coarse()(0, weight)
    assert asked == ["high", "high"] and torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("n", (1, 3))
def test_products_elsewhere_are_of_numbers_of_seven_digits(n):
    x, w = torch.full((2, 4), 1 + 2**-9), torch.ones(4, n)
    assert torch.equal(Coarse()(x, Coarse().weight(w)), torch.full((2, n), 4.0))


def test_a_precision_is_a_setting_of_engines():
    weights = engine("gpt2").weights
    for precision, dtype in {"float32": torch.float32, "mixed": torch.float32, "float64": torch.float64}.items():
        options = Options(precision=precision, device="cpu")
        made = options.engine(options.place(weights), prompts(False), None)
        assert made.weights.embed.dtype == dtype
        assert (made.coarse is not None) == (precision == "mixed")
