"""Test the engine a layer at a time, forced on the CPU: it computes and decides what it does a head at a time."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch

from acdc.engine.batched import suits
from acdc.engine.memory import per_candidate
from acdc.engine.model import Engine
from acdc.engine.removals import Removals
from acdc.engine.runs import State
from acdc.graph import Circuit
from acdc.metrics import KLDivergence
from acdc.models.convert import weights_of
from tests.engine.test_memory import held, node_at
from tests.methods.test_search_properties import FLOAT64_ERROR, SEEDS, example
from tests.search import assert_same
from tests.small_models import KINDS, LEARNED_POSITIONS, SETUPS, bridge, engine, prompts, random_circuit

ERROR = 1e-4


@cache
def batched(kind: str, ablation: str, split_embed: bool, several: bool) -> Engine:
    weights = engine(kind).weights
    return Engine(weights, prompts(several), ablation=ablation, split_embed=split_embed, batched=True)


@pytest.mark.parametrize(("kind", "ablation"), SETUPS)
@pytest.mark.parametrize("several", (False, True))
def test_any_circuit_has_the_same_logits(kind, ablation, several):
    setup = (kind, ablation, kind in LEARNED_POSITIONS and several, several)
    usual, other = engine(*setup), batched(*setup)
    for seed, share in enumerate((0.1, 0.5, 0.9)):
        circuit = random_circuit(usual.graph, seed, share, 0.9)
        torch.testing.assert_close(other.circuit_logits(circuit), usual.circuit_logits(circuit), atol=ERROR, rtol=0)


@pytest.mark.parametrize("seed", SEEDS[:24])
def test_searches_decide_the_same(seed):
    """Examples are those of ``test_search_properties``, in float64. One byte of memory leaves one prompt at a time."""
    drawn = example(seed)
    for memory in (2**31, 1) if seed % 4 == 0 else (2**31,):
        other = drawn.engine(batched=True, memory=memory)
        assert_same(drawn.search(other), drawn.found, FLOAT64_ERROR * drawn.scale)


@pytest.mark.parametrize("device", ("cpu", "cuda", "cuda:1", "mps"))
def test_the_device_alone_says_whether_layers_are_taken_at_a_time(device):
    assert suits(torch.device(device)) == (device != "cpu")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("receiver", ("mlp", "v"))
def test_candidates_need_no_more_memory_than_the_formula_says(kind, receiver):
    setup = batched(kind, "corrupted", False, True)
    removals = Removals(setup, Circuit.full(setup.graph), 0, setup.metric(KLDivergence))
    removals.start(node_at(setup.graph, 0, receiver))
    senders = setup.graph.exists[:, removals.receiver].nonzero()[0].tolist() * 8
    setup.scratch.buffers.clear()
    removals.try_removing(senders, [False] * len(senders))
    tensors = [*removals.patch.new.values(), *removals.patch.stacks.values(), *setup.scratch.buffers.values()]
    bound = len(senders) * per_candidate(setup.weights.architecture, removals.plan, 0, setup.chunks[0].rows, 4)
    assert 0.2 * bound < held(tensors) <= bound


@pytest.mark.parametrize("kind", ("gpt2", "llama", "olmo2"))
def test_a_committed_state_holds_what_a_state_of_single_tensors_holds(kind):
    """A stack would keep all of its memory for as long as there is a view of a part of it."""
    sizes = []
    for setup in (engine(kind, "corrupted", False, True), batched(kind, "corrupted", False, True)):
        circuit = random_circuit(setup.graph, 0, 0.6, 1.0)
        circuit.present[:, : setup.graph.first_receiver(1)] = setup.graph.exists[:, : setup.graph.first_receiver(1)]
        circuit.direct[:] = setup.graph.has_direct
        removals = Removals(setup, circuit.reaching_logits(), 0, setup.metric(KLDivergence))
        for receiver in [node for node in setup.graph.receivers[: setup.graph.n_ports] if node.port == "v"]:
            removals.start(receiver)
            values = removals.try_removing([0], [False])
            removals.commit(0, values[0])
        sizes.append(held([value for state in removals.states for value in state.values()]))
    assert sizes[1] <= 1.1 * sizes[0]


@pytest.mark.parametrize("seed", range(20))
def test_a_state_of_stacks_is_a_state(seed):
    """Whatever is stacked, and replaced together or alone, every activation is the last one given."""
    rng, n = random.Random(seed), 6
    expected = {("z", 0, i): torch.randn(3, 2) for i in range(n)}
    state = State(expected)
    for _ in range(30):
        nodes = tuple(sorted(rng.sample(range(n), rng.randint(1, n))))
        action = rng.choice(("stack", "put", "set"))
        if action == "put":
            stack = torch.randn(len(nodes), 3, 2)
            state.put("z", 0, nodes, stack)
            expected |= {("z", 0, i): stack[j] for j, i in enumerate(nodes)}
        elif action == "set":
            state["z", 0, nodes[0]] = expected["z", 0, nodes[0]] = torch.randn(3, 2)
        assert torch.equal(state.stack("z", 0, nodes), torch.stack([expected["z", 0, i] for i in nodes]))
        assert all(torch.equal(state[key], value) for key, value in expected.items())
        assert sum(map(len, state.stacks["z", 0])) <= n


def test_activations_that_are_one_tensor_stay_one_in_a_stack():
    shared = torch.randn(3, 2)
    state = State({("port_in", 0, i): shared for i in range(4)})
    assert state.stack("port_in", 0, (1, 2, 3)).untyped_storage().data_ptr() == shared.untyped_storage().data_ptr()


@pytest.mark.parametrize("asked", ("high", "medium"))
def test_an_engine_multiplies_in_float32_whatever_was_asked_for(asked):
    """An environment variable or another library may have asked for TF32."""
    torch.set_float32_matmul_precision(asked)
    assert torch.backends.cuda.matmul.allow_tf32
    Engine(weights_of(bridge("gpt2")), prompts(False), ablation="corrupted")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert torch.get_float32_matmul_precision() == "highest"
