"""Test the engine: it computes any circuit as the oracle does, and its rows are those that matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc.data import Dataset
from acdc.engine.check import Expected, check_engine
from acdc.engine.masked import Mask, MaskedModel
from acdc.engine.model import Engine
from acdc.engine.removals import Removals
from acdc.errors import InputError
from acdc.graph import Circuit, Node
from acdc.methods.acdc import receivers_of_layer, sender_order
from acdc.models.convert import weights_of
from tests.small_models import (
    COUPLED,
    KINDS,
    LEARNED_POSITIONS,
    N_POS,
    OF_TEXT,
    ablations_of,
    bridge,
    double_weights,
    engine,
    logits_of,
    measure,
    prompts,
    random_circuit,
    reference,
)

FLOAT_ERROR = 1e-4
SETUPS = [
    (kind, split, ablation)
    for kind in KINDS
    for split in ((False, True) if kind in LEARNED_POSITIONS else (False,))
    for ablation in ablations_of(kind)
]
kinds = pytest.mark.parametrize("kind", KINDS)
setups = pytest.mark.parametrize(("kind", "split_embed", "ablation"), SETUPS)
scored = pytest.mark.parametrize("several", (False, True), ids=("one_scored", "several_scored"))
shares = st.one_of(st.just(1.0), st.floats(0, 1))


def logits(engine: Engine, circuit: Circuit) -> torch.Tensor:
    return engine.circuit_logits(circuit)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=FLOAT_ERROR, rtol=0)


@setups
@scored
@given(seed=st.integers(0, 2**32 - 1), addition=shares, direct=shares)
def test_any_circuit_has_the_oracles_logits(kind, split_embed, ablation, several, seed, addition, direct):
    setup = kind, ablation, split_embed, several
    circuit = random_circuit(engine(*setup).graph, seed, addition, direct)
    assert_same(logits(engine(*setup), circuit), reference(*setup).logits(circuit))


@setups
def test_random_circuits_differ_so_that_the_oracle_can_contradict(kind, split_embed, ablation):
    setup = engine(kind, ablation, split_embed)
    halves = [logits(setup, random_circuit(setup.graph, seed, 0.5, 0.9)) for seed in range(3)]
    for other in (Circuit.full(setup.graph), Circuit.empty(setup.graph)):
        assert max((half - logits(setup, other)).abs().max() for half in halves) > 100 * FLOAT_ERROR


@setups
@scored
def test_all_edges_are_the_model(kind, split_embed, ablation, several):
    setup, dataset = engine(kind, ablation, split_embed, several), prompts(several)
    expected = logits_of(bridge(kind), dataset, dataset.clean)
    assert_same(logits(setup, Circuit.full(setup.graph)), expected)
    assert_same(setup.model_logits, expected)


@kinds
@scored
def test_no_edges_are_the_corrupted_run(kind, several):
    setup, dataset = engine(kind, several=several), prompts(several)
    expected = logits_of(bridge(kind), dataset, dataset.corrupted)
    assert_same(logits(setup, Circuit.empty(setup.graph)), expected)


@kinds
def test_the_sum_of_the_first_senders_changes_is_exact(kind):
    (chunk,) = engine(kind).chunks
    for n in range(1, len(chunk.delta) + 1):
        torch.testing.assert_close(chunk.total(n), chunk.delta[:n].double().sum(0), atol=1e-12, rtol=1e-12)


@kinds
def test_check_passes_the_engine_of_a_model_and_refuses_one_of_other_weights(kind):
    dataset, weights = prompts(False), weights_of(bridge(kind))
    (expected,) = Expected.of({"TransformerLens": lambda: bridge(kind)}, dataset)
    check_engine(engine(kind), expected)
    # A norm after heads takes a factor in w_o away.
    name = "ln1_post_w" if kind in COUPLED else "w_o"
    block = replace(weights.blocks[-1], **{name: 1.05 * getattr(weights.blocks[-1], name)})
    other = Engine(replace(weights, blocks=[*weights.blocks[:-1], block]), dataset, ablation="corrupted")
    with pytest.raises(InputError, match="with all edges"):
        check_engine(other, expected)


@scored
def test_live_rows_run_from_the_first_difference_to_the_last_scored_position(several):
    dataset = prompts(several)
    expected = torch.zeros_like(dataset.scored)
    for prompt, row in enumerate(expected):
        first = (dataset.clean[prompt] != dataset.corrupted[prompt]).nonzero()[0].item()
        row[first : dataset.scored[prompt].nonzero()[-1].item() + 1] = True
    expected |= dataset.scored
    rows = engine("gpt2", several=several).chunks[0].rows
    assert rows.live.tolist() == expected.flatten().nonzero().flatten().tolist()
    assert torch.equal(rows.live[rows.scored_in_live], rows.scored)
    assert len(rows.live) < dataset.clean.numel()


def test_padding_after_the_scored_position_changes_nothing():
    dataset = prompts(False)
    junk = torch.randint(0, 50, dataset.clean.shape, generator=torch.Generator().manual_seed(5))
    after = torch.arange(N_POS) > dataset.scored_rows[1][:, None]
    padded = Dataset(
        *(torch.where(after, junk, tokens) for tokens in (dataset.clean, dataset.corrupted)),
        dataset.scored,
        dataset.targets,
    )
    assert not torch.equal(padded.clean, dataset.clean)
    other = Engine(weights_of(bridge("llama")), padded, ablation="corrupted")
    circuit = random_circuit(other.graph, 0, 0.5, 0.9)
    assert_same(logits(other, circuit), logits(engine("llama"), circuit))


def what_is_written(kind: str, cache: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the embeddings write, and what head 2 of layer 1 writes: Float[prompt pos d_model]."""
    block, embedded = bridge(kind).blocks[1], cache["blocks.0.hook_resid_pre"]
    results = torch.einsum("pshd,hdm->hpsm", cache["blocks.1.attn.hook_z"], block.attn.W_O)
    if kind not in COUPLED:
        return embedded, results[2]
    # The norm is linear but for one factor a row, which is the same for every head.
    together = results.sum(0)
    return embedded, results[2] * (block.ln1_post.original_component(together) / together)


@kinds
def test_under_mean_ablation_a_removed_edge_carries_the_mean_over_all_prompts_of_the_dataset(kind):
    """Edges of the embeddings and of a head to the logits are cut by hand, in chunks, and for a part of the prompts."""
    weights, dataset = weights_of(bridge(kind)), prompts(True)
    circuit = Circuit.full(weights.architecture.graph())
    last, sender = circuit.graph.receivers[-1].receiver_hook, circuit.graph.sender_index
    circuit.present[[sender[Node(-1, "embed")], sender[Node(1, "head", 2)]], -1] = False
    with torch.no_grad():
        clean, corrupted = (bridge(kind).run_with_cache(t)[1] for t in (dataset.clean, dataset.corrupted))
        written = [what_is_written(kind, cache) for cache in (clean, corrupted)]
        expected = clean[last] + sum(by.mean(0) - of for of, by in zip(*written, strict=True))

    small = Engine(weights, dataset, ablation="mean", memory=1)
    assert len(small.chunks) == len(dataset)
    assert_same(torch.cat(small.finals(circuit), 1)[0], expected[dataset.scored])
    part, of_part = dataset.select(slice(1, 3)), expected[1:3][dataset.scored[1:3]]
    alone = Engine(weights, part, ablation="mean")
    assert_same(alone.finals(circuit)[0][0], of_part)
    masked = MaskedModel(weights, part, ablation="mean")
    assert_same(masked.logits(Mask.of(circuit, weights.embed)), alone.logits(of_part))


@pytest.mark.parametrize("memory", (2**31, 1))
def test_under_mean_ablation_nothing_is_live_where_all_prompts_begin_alike(memory):
    """There are three prompts, for the mean of three equal numbers may be another number."""
    dataset = prompts(False).select(slice(3))
    clean, corrupted = dataset.clean.clone(), dataset.corrupted.clone()
    clean[:, :3] = corrupted[:, :3] = clean[0, :3]
    same = Dataset(clean, corrupted, dataset.scored, dataset.targets)
    setup = Engine(weights_of(bridge("llama")), same, ablation="mean", memory=memory)
    assert [chunk.rows.pos[chunk.rows.live].min().item() for chunk in setup.chunks] == [3] * len(setup.chunks)


@kinds
@pytest.mark.parametrize("metric", OF_TEXT)
@scored
def test_measure_is_the_mean_over_prompts_of_the_mean_over_positions(kind, metric, several):
    setup, dataset = engine(kind, several=several), prompts(several)
    circuit = random_circuit(setup.graph, 0, 0.5, 0.9)
    bound = OF_TEXT[metric](dataset, logits_of(bridge(kind), dataset, dataset.clean))
    expected = measure(bound, dataset, reference(kind, several=several).logits(circuit))
    assert setup.measure(setup.metric(OF_TEXT[metric]), setup.finals(circuit)) == pytest.approx([expected], abs=1e-4)


@setups
@scored
def test_removals_of_every_layer_are_measured_and_committed_as_the_oracle_does(kind, split_embed, ablation, several):
    """The circuits have all edges into the layer and below. Heads 0 lose q, k and v, heads 1 the edges into them.

    Numbers are float64: under zero ablation some nodes' input is nothing but rounding errors, which a norm enlarges.
    """
    double, oracle = double_weights(kind), reference(kind, ablation, split_embed, several)
    setup = Engine(double, prompts(several), ablation=ablation, split_embed=split_embed)
    graph, dataset, kl = setup.graph, prompts(several), setup.metric(OF_TEXT["kl_divergence"])

    def expected(circuit: Circuit) -> float:
        return measure(kl[0], dataset, oracle.logits(circuit))

    for layer in range(graph.n_layers + 1):
        circuit, random = Circuit.full(graph), random_circuit(graph, layer, 0.6, 0.9)
        later = slice(min(graph.first_receiver(layer + 1), len(graph.receivers)), None)
        circuit.present[:, later], circuit.direct[later] = random.present[:, later], random.direct[later]
        circuit = circuit.reaching_logits()
        removals = Removals(setup, circuit, layer, kl)
        assert removals.current == pytest.approx(expected(circuit), abs=FLOAT_ERROR)
        for receiver, kind in receivers_of_layer(graph, layer):
            r = graph.receiver_index[receiver]
            if not circuit.is_read(r) or receiver.head not in (None, 0, 1) or (kind == "direct" and receiver.head):
                continue
            removals.start(receiver)
            if kind == "direct":
                (value,) = removals.try_cutting_direct()
                removals.commit(0, value)
                assert value == pytest.approx(expected(circuit), abs=FLOAT_ERROR)
            elif circuit.direct[r] or not receiver.port:
                senders, stays = sender_order(graph, receiver, "descending")[:4], [False, True, False, False]
                values, before = removals.try_removing(senders, stays[: len(senders)]), circuit.copy()
                for i, value in enumerate(values):
                    without = before.copy()
                    without.present[[s for j, s in enumerate(senders[: i + 1]) if j == i or not stays[j]], r] = False
                    assert value == pytest.approx(expected(without), abs=FLOAT_ERROR)
                last = len(senders) - 1
                removals.commit(last, values[last])
                np.testing.assert_array_equal(circuit.present, without.present)


@kinds
def test_double_precision_agrees_with_single(kind):
    double = Engine(double_weights(kind), prompts(False), ablation="corrupted")
    circuit = random_circuit(double.graph, 0, 0.5, 0.9)
    assert double.model_logits.dtype == torch.float64
    assert_same(logits(double, circuit).float(), logits(engine(kind), circuit))


@pytest.mark.parametrize(("ablation", "split_embed"), [("corrupted", True), ("corrupted_permuted", False)])
def test_rotary_positions_can_be_neither_split_off_nor_permuted(ablation, split_embed):
    setting = "split_embed" if split_embed else "ablation corrupted_permuted"
    with pytest.raises(InputError, match=f"{setting} needs position embeddings .* rotary ones: leave it out"):
        Engine(weights_of(bridge("llama")), prompts(False), ablation=ablation, split_embed=split_embed)
