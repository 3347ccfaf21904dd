"""Test the formulas for memory, which bound what the engine holds, and not by far too much. Freed memory is kept."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from acdc.engine import memory
from acdc.engine.load import Options, device_of
from acdc.engine.memory import for_candidates, of_weights, per_candidate
from acdc.engine.model import Engine
from acdc.engine.removals import Removals
from acdc.engine.resident import resident
from acdc.errors import InputError
from acdc.graph import Circuit, Graph, Node
from acdc.metrics import KLDivergence
from tests.small_models import KINDS, engine

FLOAT = 4


def held(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of some tensors; what they share counts once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def size(setup: Engine) -> tuple[int, int]:
    return sum(c.rows.n for c in setup.chunks), sum(len(c.rows.scored) for c in setup.chunks)


def node_at(graph: Graph, layer: int, kind: str) -> Node:
    return Node(layer, "mlp") if kind == "mlp" and graph.has_mlp else Node(layer, "head", 0, "v")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ablation", ("corrupted", "zero", "mean"))
def test_resident_bounds_what_a_search_holds(kind, ablation):
    setup = engine(kind, ablation, several=True)
    metric = setup.metric(KLDivergence)
    removals = Removals(setup, Circuit.full(setup.graph), 0, metric)
    states = [*(s for c in setup.chunks for s in (c.clean, c.ablated)), *removals.states]
    tensors = [t for state in states for t in state.values()]
    tensors += [setup.model_logits, *(t for c in setup.chunks for t in (c.delta, c.totals))]
    tensors += [t for each in metric for t in (each.model_logprobs, each.model_probs)]
    bound = resident(setup.weights.architecture, setup.graph, *size(setup), FLOAT)
    assert 0.4 * bound < held(tensors) <= bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("receiver", ("mlp", "v"))
def test_per_candidate_bounds_what_a_block_of_candidates_holds(kind, receiver):
    setup = engine(kind, several=True)
    removals = Removals(setup, Circuit.full(setup.graph), 0, setup.metric(KLDivergence))
    node = node_at(setup.graph, 0, receiver)
    removals.start(node)
    # There are no more senders into the first layer: the same ones again are as good.
    senders = setup.graph.exists[:, removals.receiver].nonzero()[0].tolist() * 8
    n = len(senders)
    setup.scratch.buffers.clear()
    removals.try_removing(senders, [False] * n)
    used = held([*removals.patch.new.values(), *setup.scratch.buffers.values()])
    rows = setup.chunks[0].rows
    bound = n * per_candidate(setup.weights.architecture, removals.plan, 0, rows, FLOAT)
    assert 0.2 * bound < used <= bound


def test_a_search_tries_no_more_at_once_than_fits():
    setup = engine("llama", several=True)
    removals = Removals(setup, Circuit.full(setup.graph), 1, setup.metric(KLDivergence))
    removals.start(Node(1, "mlp"))
    bound = per_candidate(setup.weights.architecture, removals.plan, 1, setup.chunks[0].rows, FLOAT)
    before, setup.memory = setup.memory, 3 * bound + 1
    try:
        assert removals.states_that_fit() == 3
    finally:
        setup.memory = before


def test_chunks_are_as_large_as_memory_allows():
    setup = engine("gpt2")
    dataset, weights = setup.dataset, setup.weights
    sizes = [
        [len(part) for part in Engine(weights, dataset, ablation="corrupted", memory=memory).parts]
        for memory in (1, 2**31)
    ]
    assert sizes == [[1, 1, 1, 1], [4]]


FAULTS = """
import resource, sys, torch
from acdc.engine.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory")
def test_freed_memory_is_lent_again():
    """The first touch of a page is a fault: 16,384 of them for each tensor that gets no memory that was used before."""
    faults = {}
    for mode in ("give back", "keep"):
        program = [sys.executable, "-c", FAULTS, mode]
        faults[mode] = int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    assert faults["give back"] - faults["keep"] > 15 * 2**14


def test_weights_that_do_not_fit_are_refused_before_they_are_moved(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 1000)
    weights = engine("gpt2").weights
    with pytest.raises(InputError, match=r"the model's weights need .* GiB on cpu and 0\.0 GiB are free"):
        Options(device="cpu").place(weights, are_mapped=True)


def test_prompts_that_do_not_fit_are_refused_before_anything_is_computed(monkeypatch):
    setup = engine("gpt2")
    monkeypatch.setattr(memory, "free", lambda device: 1000)
    with pytest.raises(InputError, match=r"4 prompts of up to 7 tokens need .*: take fewer or shorter prompts"):
        Options(device="cpu").engine(setup.weights, setup.dataset, None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_weights_are_counted(kind):
    weights = engine(kind).weights
    made = [weights, *weights.blocks]
    products = ("embed", "unembed", "w_port", "w_o", "w_gate", "w_in", "w_out")
    stored = [getattr(record, name, None) for record in made for name in products]
    twice = [b.w_port for b in weights.blocks] if weights.architecture.norm == "rms" else []
    n_bytes = sum(t.nbytes for t in [*stored, *twice] if t is not None)
    assert of_weights(weights.architecture, FLOAT) == n_bytes


def test_a_gpu_lends_candidates_what_it_has_free(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 2**36)
    assert for_candidates(torch.device("cuda"), 2**35) == 2**35 * 3 // 4
    assert for_candidates(torch.device("cpu"), 2**35) == memory.DEFAULT


@pytest.mark.parametrize("name", ("gpu", "cuda:x", "cuda:99", "mps", "meta", "cpu:1"))
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=name):
        device_of(name)
