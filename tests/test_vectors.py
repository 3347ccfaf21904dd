"""Test engine, search and oracle against the original's own runs, edge by edge. See vectors/README.md."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from acdc.engine.model import Engine
from acdc.graph import Circuit, Edge
from acdc.methods.acdc import Progress, receivers_in_order
from acdc.methods.acdc_fast import acdc_fast
from acdc.models.convert import weights_of
from acdc.reference import Reference
from tests.originals import (
    COUNTED,
    FILES,
    METRICS,
    key,
    load,
    original_key,
    vector_bridge,
    vector_dataset,
    vector_inputs,
    vector_model_logits,
)
from tests.small_models import logits_of, measure
from tests.vector_files import VECTORS

N_SAMPLED = 25


@cache
def run(file: str) -> Progress:
    original = load(file)
    engine = Engine(weights_of(vector_bridge(original.case)), vector_dataset(original.case), **original.arguments)
    return acdc_fast(engine, original.metric, original.threshold, original.head_order)


@pytest.fixture(params=FILES)
def file(request) -> str:
    return request.param


def test_every_case_has_runs():
    assert {load(file).case for file in FILES} == {path.parent.name for path in VECTORS.glob("*/model.safetensors")}


@pytest.mark.parametrize("case", METRICS)
def test_rearranged_weights_give_the_originals_outputs(case):
    with torch.no_grad():
        logits = logits_of(vector_bridge(case), vector_dataset(case), vector_dataset(case).clean)
    expected = vector_model_logits(case)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", ("tiny3l_mlp", "small2l"))
@pytest.mark.parametrize("prompts", ("clean", "corrupted"))
def test_rearranged_weights_give_the_originals_logits_at_every_position(case, prompts):
    inputs = vector_inputs(case)
    with torch.no_grad():
        logits = vector_bridge(case)(inputs[prompts])
    torch.testing.assert_close(logits, inputs[f"{prompts}_logits"], atol=2e-5, rtol=0)


def test_edges_are_tried_in_the_originals_order(file):
    graph = run(file).circuit.graph
    tried = [key(Edge(graph.node(row.sender), graph.node(row.receiver), row.kind)) for row in run(file).trace]
    assert tried == [original_key(row) for row in load(file).data["evaluation_order"]]


def test_effects_are_the_originals(file):
    effects = [row.effect for row in run(file).trace]
    assert effects == pytest.approx([row[4] for row in load(file).data["evaluation_order"]], abs=2e-6, rel=0)


def test_circuit_is_the_originals(file):
    original = [row for row in load(file).data["edges"] if row[5] in COUNTED]
    circuit = run(file).circuit
    assert {key(edge) for edge in circuit.edges} == {original_key(row) for row in original if row[4]}
    assert {key(edge) for edge in Circuit.full(circuit.graph).edges} == {original_key(row) for row in original}


def test_kinds_of_edges_are_the_originals(file):
    kinds = {original_key(row): row[5] for row in load(file).data["edges"]}
    for edge in Circuit.full(run(file).circuit.graph).edges:
        assert kinds[key(edge)] == ("DIRECT_COMPUTATION" if edge.kind == "direct" else "ADDITION")


def test_counts_and_final_metric_are_the_originals(file):
    summary, found = load(file).data["summary"], run(file)
    assert found.circuit.graph.n_edges == summary["n_edges_total"]
    assert found.circuit.n_edges == summary["n_edges_final"] == found.circuit.reaching_logits().n_edges
    assert len(found.trace) == summary["n_edge_evaluations"]
    assert found.metric == pytest.approx(summary["final_metric"], abs=2e-6)
    margin = found.smallest_margin(load(file).threshold)
    assert margin == pytest.approx(summary["closest_margin_to_threshold"], abs=2e-6)


def test_receivers_are_visited_in_the_originals_order(file):
    graph = run(file).circuit.graph
    visited = []
    for node, kind in receivers_in_order(graph):
        visited.append((node.projection_hook if kind == "direct" else node.receiver_hook, node.index))
    nodes = load(file).data["nodes"]
    assert visited == [(hook, tuple(index)) for hook, index, kind in nodes if kind in COUNTED]


def test_oracle_gives_the_originals_effects(file):
    """Edges into nodes that no longer reach the logits were removed untried; they change nothing."""
    original = load(file)
    dataset = vector_dataset(original.case)
    oracle = Reference(vector_bridge(original.case), dataset, **original.arguments)
    metric = original.metric(dataset, vector_model_logits(original.case))
    circuit = Circuit.full(run(file).circuit.graph)
    edges = {key(edge): edge for edge in circuit.edges}
    rows = original.data["evaluation_order"]
    n_sampled = min(N_SAMPLED, len(rows))
    sampled = {round(i * (len(rows) - 1) / (n_sampled - 1)) for i in range(n_sampled)}
    assert len(sampled) == n_sampled
    for i, row in enumerate(rows):
        without = remove(circuit, edges[original_key(row)])
        if i in sampled:
            after, before = (measure(metric, dataset, oracle.logits(c)) for c in (without, circuit))
            assert after - before == pytest.approx(row[4], abs=2e-6, rel=0), f"row {i}"
        circuit = without if row[4] < original.threshold else circuit


def remove(circuit: Circuit, edge: Edge) -> Circuit:
    circuit, receiver = circuit.copy(), circuit.graph.receiver_index[edge.receiver]
    if edge.kind == "direct":
        circuit.direct[receiver] = False
    else:
        circuit.present[circuit.graph.sender_index[edge.sender], receiver] = False
    return circuit
