"""Test the oracle, where plain TransformerLens hooks can say the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from acdc.graph import Circuit, Node
from tests.small_models import (
    KINDS,
    LEARNED_POSITIONS,
    ablations_of,
    bridge,
    engine,
    logits_of,
    prompts,
    random_circuit,
    reference,
)

DATASET = prompts(True)
kinds = pytest.mark.parametrize("kind", KINDS)
kinds_and_ablations = pytest.mark.parametrize(("kind", "ablation"), [(k, a) for k in KINDS for a in ablations_of(k)])


def graph(kind: str, split_embed: bool = False):
    return engine(kind, split_embed=split_embed).graph


def patched(kind: str, hooks: list) -> torch.Tensor:
    with torch.no_grad():
        return bridge(kind).run_with_hooks(DATASET.clean, fwd_hooks=hooks)[DATASET.scored]


def corrupted_activation(kind: str, name: str) -> torch.Tensor:
    with torch.no_grad():
        return bridge(kind).run_with_cache(DATASET.corrupted)[1][name]


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@kinds_and_ablations
def test_all_edges_are_the_model(kind, ablation):
    found = reference(kind, ablation, several=True).logits(Circuit.full(graph(kind)))
    assert_same(found, logits_of(bridge(kind), DATASET, DATASET.clean))


@kinds
def test_no_edges_are_the_corrupted_run(kind):
    found = reference(kind, several=True).logits(Circuit.empty(graph(kind)))
    assert_same(found, logits_of(bridge(kind), DATASET, DATASET.corrupted))


@kinds
def test_no_edges_under_mean_ablation_leave_the_mean_of_the_corrupted_runs_last_residual_stream(kind):
    """The residual stream is a sum of what senders write, whose mean is the sum of their means."""
    circuit = Circuit.empty(graph(kind))
    last = circuit.graph.receivers[-1].receiver_hook
    mean = corrupted_activation(kind, last).mean(0, keepdim=True)
    expected = patched(kind, [(last, lambda x, hook: mean.repeat(len(x), 1, 1))])
    assert_same(reference(kind, "mean", several=True).logits(circuit), expected)


@pytest.mark.parametrize("kind", LEARNED_POSITIONS)
def test_split_embeddings_are_one_where_both_edges_go_together(kind):
    whole, parts = graph(kind), graph(kind, split_embed=True)
    circuit = random_circuit(whole, 0, 0.6, 0.9)
    both = Circuit(parts, circuit.present[[0, 0, *range(1, len(whole.senders))]], circuit.direct)
    found = reference(kind, "zero", True, True).logits(both)
    assert_same(found, reference(kind, "zero", several=True).logits(circuit))


@pytest.mark.parametrize("kind", LEARNED_POSITIONS)
@pytest.mark.parametrize("split_embed", (False, True))
def test_positions_are_permuted_only_where_asked_for(kind, split_embed):
    circuit, corrupted = Circuit.empty(graph(kind, split_embed)), logits_of(bridge(kind), DATASET, DATASET.corrupted)
    assert_same(reference(kind, "corrupted", split_embed, several=True).logits(circuit), corrupted)
    permuted = reference(kind, "corrupted_permuted", split_embed, several=True).logits(circuit)
    assert (permuted - corrupted).abs().max() > 0.1


def head_1_of(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Return a hook that puts another q, k or v into head 1."""
    return lambda x, hook: torch.cat([x[:, :, :1], value[:, :, 1:2], x[:, :, 2:]], 2)


@kinds
@pytest.mark.parametrize("port", "qkv")
def test_port_without_edges_into_it_is_the_corrupted_runs(kind, port):
    name, circuit = f"blocks.1.attn.hook_{port}", Circuit.full(graph(kind))
    circuit.present[:, circuit.graph.receiver_index[Node(1, "head", 1, port)]] = False
    value = corrupted_activation(kind, name)
    assert_same(reference(kind, several=True).logits(circuit), patched(kind, [(name, head_1_of(value))]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if graph(kind).has_mlp])
def test_mlp_without_edges_into_it_is_the_corrupted_runs(kind):
    name, circuit = "blocks.1.hook_mlp_out", Circuit.full(graph(kind))
    circuit.present[:, circuit.graph.receiver_index[Node(1, "mlp")]] = False
    value = corrupted_activation(kind, name)
    found = reference(kind, several=True).logits(circuit)
    assert_same(found, patched(kind, [(name, lambda x, hook: value)]))
    assert (found - logits_of(bridge(kind), DATASET, DATASET.clean)).abs().max() > 1e-3


def test_parallel_mlp_does_not_see_its_layers_heads():
    """All heads of the layer are as in the corrupted run, and its MLP is as in the clean one."""
    circuit = Circuit.full(graph("pythia"))
    for head in range(4):
        for port in "qkv":
            circuit.present[:, circuit.graph.receiver_index[Node(1, "head", head, port)]] = False
    name = "blocks.1.attn.hook_z"
    value = corrupted_activation("pythia", name)
    found = reference("pythia", several=True).logits(circuit)
    assert_same(found, patched("pythia", [(name, lambda x, hook: value)]))


@kinds
@pytest.mark.parametrize("port", "qkv")
def test_cut_direct_edge_is_the_corrupted_runs_q_k_or_v(kind, port):
    name, circuit = f"blocks.1.attn.hook_{port}", Circuit.full(graph(kind))
    circuit.direct[circuit.graph.receiver_index[Node(1, "head", 1, port)]] = False
    value = corrupted_activation(kind, name)
    found = reference(kind, several=True).logits(circuit)
    assert_same(found, patched(kind, [(name, head_1_of(value))]))
    assert (found - logits_of(bridge(kind), DATASET, DATASET.clean)).abs().max() > 1e-3


@kinds
def test_cut_edge_takes_the_senders_difference_from_the_receivers_input(kind):
    """The edge leads from the embedding to the logits: nothing else reads the residual stream before the final norm."""
    circuit, clean = Circuit.full(graph(kind)), "blocks.0.hook_resid_pre"
    circuit.present[0, -1] = False
    with torch.no_grad():
        difference = bridge(kind).run_with_cache(DATASET.clean)[1][clean] - corrupted_activation(kind, clean)
    last = Node(circuit.graph.n_layers, "logits").receiver_hook
    assert_same(reference(kind, several=True).logits(circuit), patched(kind, [(last, lambda x, hook: x - difference)]))


@kinds_and_ablations
def test_edges_into_what_nothing_reads_change_nothing(kind, ablation):
    oracle, circuit = reference(kind, ablation, several=True), random_circuit(graph(kind), 0, 0.4, 0.7)
    assert circuit.reaching_logits().n_edges < circuit.n_edges
    assert_same(oracle.logits(circuit.reaching_logits()), oracle.logits(circuit))
