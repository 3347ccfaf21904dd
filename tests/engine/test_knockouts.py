"""A circuit without one of its edges, many at once, is what the engine makes of each afresh."""

from __future__ import annotations

import pytest
import torch

from acdc.engine import removals
from acdc.engine.knockouts import without_each
from acdc.engine.model import Engine
from acdc.graph import Circuit, Edge
from acdc.models.convert import weights_of
from tests.small_models import KINDS, bridge, engine, prompts, random_circuit

FLOAT_ERROR = 1e-4


def found(setup: Engine, circuit: Circuit) -> dict[Edge, torch.Tensor]:
    """The logits of the circuit without each edge."""
    return {
        edge: torch.cat([setup.logits(final[i]) for final in finals])
        for edges, finals in without_each(setup, circuit)
        for i, edge in enumerate(edges)
    }


def check(setup: Engine, circuit: Circuit, every: int) -> None:
    without = found(setup, circuit)
    assert set(without) == set(circuit.reaching_logits())
    for edge in list(without)[::every]:
        expected = setup.circuit_logits(circuit.without(edge))
        torch.testing.assert_close(without[edge], expected, atol=FLOAT_ERROR, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ablation", "share"), [("corrupted", 0.5), ("zero", 0.15)])
def test_it_is_the_circuit_computed_afresh(kind, ablation, share):
    setup = engine(kind, ablation, several=True)
    check(setup, random_circuit(setup.graph, 0, share, 0.9), every=5)


def test_edges_differ_so_that_the_engine_can_contradict():
    setup = engine("gpt2")
    logits = list(found(setup, random_circuit(setup.graph, 0, 0.5, 0.9)).values())
    assert max((one - logits[0]).abs().max() for one in logits) > 100 * FLOAT_ERROR


def test_so_it_is_in_chunks_and_one_candidate_at_a_time(monkeypatch):
    setup = Engine(weights_of(bridge("llama")), prompts(True), ablation="corrupted", memory=1)
    assert len(setup.chunks) == len(prompts(True))
    monkeypatch.setattr(removals, "CPU_BYTES", 1)
    check(setup, random_circuit(setup.graph, 1, 0.5, 0.9), every=3)


def test_edges_that_do_not_lead_to_the_logits_are_left_out():
    setup = engine("gpt2")
    circuit = Circuit.empty(setup.graph)
    circuit.present[0, 0] = True
    assert not list(without_each(setup, circuit))
