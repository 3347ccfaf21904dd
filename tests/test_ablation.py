"""Test an ablation of one's own: it is the same in the engine, the masked model, the oracle and the search."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from acdc.ablation import Ablation, Mean, Senders, Written, named
from acdc.catalogue import ABLATIONS
from acdc.engine.load import Options
from acdc.engine.masked import Mask, MaskedModel
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.methods.acdc_fast import acdc_fast
from acdc.metrics import KLDivergence
from acdc.models.convert import weights_of
from acdc.reference import Reference
from tests.search import assert_same, oracle_search
from tests.small_models import LEARNED_POSITIONS, bridge, double_weights, prompts, random_circuit


class First(Ablation):
    """Let every sender write what it writes on the first corrupted prompt."""

    is_plain = False

    def outputs(self, senders: Senders) -> Written:
        return [x[0] for x in next(iter(senders.on_corrupted()))]


class HalfOfZero(Ablation):
    """Let every sender write a constant, made of zeros."""

    is_plain = False

    def outputs(self, senders: Senders) -> Written:
        return [x + 0.5 for x in senders.zeros()]


class Backwards(Ablation):
    """Give positions their embeddings from the last to the first."""

    is_plain = False

    def position_order(self, n_pos: int) -> Int[Tensor, "pos"]:
        return torch.arange(n_pos).flip(0)


CASES = [
    *((kind, ablation) for kind in ("gpt2", "llama", "shortformer") for ablation in (First(), HalfOfZero())),
    ("gpt2", Backwards()),
    ("bidirectional", Backwards()),
]
CASES = [(*case, split) for case in CASES for split in (False, True) if not split or case[0] in LEARNED_POSITIONS]


@pytest.mark.parametrize(
    ("kind", "ablation", "split_embed"), CASES, ids=[f"{k}-{type(a).__name__}-{s}" for k, a, s in CASES]
)
def test_circuits_are_the_same_for_all_who_compute_them(kind, ablation, split_embed):
    how = {"ablation": ablation, "split_embed": split_embed}
    engine, oracle = Engine(double_weights(kind), prompts(True), **how), Reference(bridge(kind), prompts(True), **how)
    chunked = Engine(double_weights(kind), prompts(True), memory=1, **how)
    masked = MaskedModel(double_weights(kind), prompts(True), **how)
    assert len(chunked.chunks) == len(prompts(True))
    for circuit in (Circuit.empty(engine.graph), *(random_circuit(engine.graph, seed, 0.6, 0.9) for seed in range(3))):
        expected = oracle.logits(circuit).double()
        torch.testing.assert_close(engine.circuit_logits(circuit), expected, atol=1e-4, rtol=0)
        for logits in (chunked.circuit_logits(circuit), masked.logits(Mask.of(circuit, masked.weights.embed))):
            torch.testing.assert_close(logits, engine.circuit_logits(circuit), atol=1e-9, rtol=0)


def test_without_edges_all_prompts_are_the_first_corrupted_one():
    data = prompts(False)
    engine = Engine(double_weights("llama"), data, ablation=First())
    with torch.no_grad():
        first = bridge("llama")(data.corrupted[:1].expand(len(data), -1))[data.scored].double()
    torch.testing.assert_close(engine.circuit_logits(Circuit.empty(engine.graph)), first, atol=1e-4, rtol=0)


def test_a_search_under_it_decides_as_the_plain_one():
    threshold = 0.3
    engine = Engine(double_weights("gpt2"), prompts(True), ablation=First())
    oracle = Reference(bridge("gpt2"), prompts(True), ablation=First())
    expected = oracle_search(oracle, KLDivergence, threshold, "descending")
    found = acdc_fast(engine, KLDivergence, threshold)
    assert_same(found, expected, 1e-4)
    assert expected.smallest_margin(threshold) > 1e-4 and 0 < found.circuit.n_edges < engine.graph.n_edges


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_only_the_mean_asks_for_prompts_of_one_length(ablation):
    """The mean would have the padding in it, and what padding is filled with must not decide a circuit."""
    same, padded = prompts(False), replace(prompts(False), padding=0)
    named(ablation).check(same)
    if ablation != "mean":
        named(ablation).check(padded)
        return
    for options in (Options(ablation), Options(Mean())):
        with pytest.raises(InputError, match="mean ablation takes means position by position and these prompts differ"):
            options.engine(weights_of(bridge("gpt2")), padded, None)
