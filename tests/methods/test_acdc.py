"""Test ACDC: it finds what one full forward pass per tried edge finds, however it guesses ahead."""

from __future__ import annotations

import gc
import json
import weakref
from functools import cache

import pytest
import torch

from acdc.engine.model import Engine
from acdc.graph import Edge, Graph, Node
from acdc.methods.acdc import Progress, receivers_in_order, receivers_of_layer, sender_order
from acdc.methods.acdc_fast import Acdc, acdc_fast
from acdc.metrics import KLDivergence
from tests.search import assert_same, finished, oracle_search
from tests.small_models import OF_TEXT, engine, prompts, reference

FLOAT_ERROR = 1e-4
RUNS = [
    ("attention_only", "corrupted", "kl_divergence", 0.02, "descending"),
    ("layer_norm", "corrupted", "kl_divergence", 0.1, "descending"),
    ("layer_norm", "zero", "logit_difference", 0.05, "ascending"),
    ("no_norm", "corrupted", "logit_difference", 0.1, "descending"),
    ("llama", "corrupted", "kl_divergence", 0.3, "ascending"),
    ("llama", "corrupted", "logit_difference", 0.02, "descending"),
    ("gemma2", "corrupted", "kl_divergence", 0.02, "descending"),
    ("olmo2", "zero", "logit_difference", 0.05, "ascending"),
    ("olmo2", "corrupted", "logit_difference", 0.02, "descending"),
]
runs = pytest.mark.parametrize(("kind", "ablation", "metric", "threshold", "head_order"), RUNS)


def afresh(kind: str, ablation: str, metric: str, threshold: float, head_order: str = "descending") -> Progress:
    setup = engine(kind, ablation, several=True)
    return acdc_fast(setup, OF_TEXT[metric], threshold, head_order)


search = cache(afresh)


@runs
def test_search_decides_as_one_forward_pass_per_edge_does(kind, ablation, metric, threshold, head_order):
    oracle = reference(kind, ablation, several=True)
    expected = oracle_search(oracle, OF_TEXT[metric], threshold, head_order)
    assert_same(search(kind, ablation, metric, threshold, head_order), expected, FLOAT_ERROR)
    assert 0 < sum(not row.removed for row in expected.trace) < len(expected.trace)
    assert expected.smallest_margin(threshold) > 1e-5, "a tie: choose another threshold"


@runs
@pytest.mark.parametrize("size", (1, 4, 32))
def test_block_size_changes_no_decision(monkeypatch, kind, ablation, metric, threshold, head_order, size):
    usual = search(kind, ablation, metric, threshold, head_order)
    monkeypatch.setattr("acdc.methods.speculation.Speculation.size", size)
    other = afresh(kind, ablation, metric, threshold, head_order)
    assert_same(other, usual, FLOAT_ERROR)
    assert other.evaluations >= len(other.trace) and (size > 1 or other.evaluations == len(other.trace))


def test_little_memory_changes_no_decision_and_tries_one_edge_at_a_time(monkeypatch):
    usual = search(*RUNS[1])
    monkeypatch.setattr("acdc.engine.removals.CPU_BYTES", 1)
    other = afresh(*RUNS[1])
    assert_same(other, usual, FLOAT_ERROR)
    assert other.evaluations == len(other.trace) < usual.evaluations


@runs
def test_again_is_the_same_bytes(kind, ablation, metric, threshold, head_order):
    first, second = (find(kind, ablation, metric, threshold, head_order) for find in (search, afresh))
    assert json.dumps(first.trace) == json.dumps(second.trace)
    assert first.evaluations == second.evaluations


@runs
def test_rounding_does_not_pile_up(kind, ablation, metric, threshold, head_order):
    setup, found = engine(kind, ablation, several=True), search(kind, ablation, metric, threshold, head_order)
    (afresh,) = setup.measure(setup.metric(OF_TEXT[metric]), setup.finals(found.circuit))
    assert found.metric == pytest.approx(afresh, abs=1e-5)


@runs
def test_trace_is_consistent(kind, ablation, metric, threshold, head_order):
    found = search(kind, ablation, metric, threshold, head_order)
    for row, following in zip(found.trace, [*found.trace[1:], None], strict=True):
        assert row.effect == row.metric_after - row.metric_before
        assert row.removed == (row.effect < threshold)
        same_layer = following and row.receiver[1] == following.receiver[1]
        if same_layer:
            assert following.metric_before == (row.metric_after if row.removed else row.metric_before)
    assert found.smallest_margin(threshold) == min(abs(row.effect - threshold) for row in found.trace)


@pytest.mark.parametrize(("kind", "threshold"), [("layer_norm", 0.5), ("llama", 0.5), ("attention_only", 0.5)])
def test_edges_are_tried_exactly_where_something_reads_the_receiver(kind, threshold):
    found = search(kind, "corrupted", "kl_divergence", threshold)
    circuit, graph = found.circuit, found.circuit.graph
    expected, dead = set(), 0
    for r, receiver in enumerate(graph.receivers):
        reached = circuit.is_read(r)
        if reached and receiver.port:
            expected.add(Edge(receiver, receiver, "direct"))
        if reached and (circuit.direct[r] or not receiver.port):
            expected |= {Edge(graph.senders[s], receiver) for s in graph.exists[:, r].nonzero()[0]}
        else:
            dead += 1
            assert not circuit.present[:, r].any()
        assert reached or not circuit.direct[r]
    assert {Edge(graph.node(row.sender), graph.node(row.receiver), row.kind) for row in found.trace} == expected
    assert len(found.trace) == len(expected)
    assert dead > 3
    assert {edge.name for edge in circuit.edges} == {
        Edge(graph.node(row.sender), graph.node(row.receiver), row.kind).name for row in found.trace if not row.removed
    }


def test_threshold_is_strict():
    """Nothing changes the metric, so that every effect is exactly 0."""

    class Constant(KLDivergence):
        def __call__(self, logits):
            return super().__call__(logits) * 0

    setup = engine("layer_norm")
    assert acdc_fast(setup, Constant, 0.0).circuit.n_edges == setup.graph.n_edges
    assert acdc_fast(setup, Constant, 1e-9).circuit.n_edges == 0


def test_nan_stops_the_search_and_names_the_edge():
    class SecondIsNan(KLDivergence):
        """Measure nan for all but the first of the candidates that are measured together."""

        def __call__(self, logits):
            values = super().__call__(logits)
            values[1:] = torch.nan
            return values

    setup = engine("layer_norm")
    with pytest.raises(ArithmeticError, match=r"nan when a1\.h3 -> logits was removed"):
        acdc_fast(setup, SecondIsNan, 1e9)


@pytest.mark.parametrize("kind", ("layer_norm", "attention_only", "llama"))
@pytest.mark.parametrize("threshold", (0.001, 0.3, 1e9))
def test_steps_report_every_edge_once_and_layers_count_down(kind, threshold):
    search, n_edges, layers = Acdc(engine(kind), KLDivergence, threshold, head_order="descending"), 0, []
    assert (search.done, search.total) == (0, search.engine.graph.n_edges)
    for n, layer_is_done in search.steps():
        n_edges += n
        if layer_is_done:
            layers.append(search.progress.layer)
            assert search.done == n_edges
    assert n_edges == search.total
    assert layers == list(range(search.engine.graph.n_layers - 1, -2, -1))


def test_receivers_are_all_of_the_graph_once_layer_by_layer():
    graph = Graph(n_layers=3, n_heads=4, n_kv_heads=2)
    steps = list(receivers_in_order(graph))
    assert steps == [step for layer in (3, 2, 1, 0) for step in receivers_of_layer(graph, layer)]
    assert len(steps) == len(set(steps))
    assert {node for node, kind in steps if kind == "addition"} == set(graph.receivers)
    assert {node for node, kind in steps if kind == "direct"} == {n for n in graph.receivers if n.port}


@pytest.mark.parametrize(
    ("head_order", "expected"),
    [
        ("descending", ["a1.h1", "a1.h0", "m0", "a0.h1", "a0.h0", "tok_embed", "pos_embed"]),
        ("ascending", ["a1.h0", "a1.h1", "m0", "a0.h0", "a0.h1", "tok_embed", "pos_embed"]),
    ],
)
def test_senders_go_from_late_to_early_and_an_mlp_before_its_heads(head_order, expected):
    graph = Graph(n_layers=2, n_heads=2, n_kv_heads=2, split_embed=True)
    order = sender_order(graph, Node(1, "mlp"), head_order)
    assert [graph.senders[s].name for s in order] == expected


def test_progress_without_trials_has_no_metric_and_no_margin():
    start = Progress.start(Graph(1, 1, 1))
    assert start.metric is None and start.smallest_margin(0.1) is None


def test_an_effect_within_rounding_of_the_threshold_is_a_near_tie():
    """A second search has the value of an effect as its threshold: the effect is then not below it."""
    found = search(*RUNS[1])
    at_effect = next(row.effect for row in found.trace if row.effect > 2 * RUNS[1][3])
    assert found.near_ties(RUNS[1][3]) == 0
    assert found.near_ties(at_effect) >= 1
    assert found.near_ties(at_effect + found.float_error / 2) >= 1


@runs
def test_float_error_is_rounding_and_never_nothing(kind, ablation, metric, threshold, head_order):
    found = search(kind, ablation, metric, threshold, head_order)
    rounding = 1.2e-7 * engine(kind, ablation, several=True).model_logits.abs().max().item()
    assert 15 * rounding < found.float_error < FLOAT_ERROR


def test_float_error_is_what_the_metric_was_off_by():
    """It stays the largest error that was seen."""
    run = finished(Acdc(engine("layer_norm"), KLDivergence, 0.1, head_order="descending"))
    assert run.progress.float_error < 0.01
    run.note_rounding(run.progress.metric + 0.25)
    run.note_rounding(run.progress.metric)
    assert run.progress.float_error == pytest.approx(0.25)


def test_a_search_frees_its_memory_when_it_is_gone():
    setup = Engine(engine("gpt2").weights, prompts(False), ablation="corrupted")
    alive = weakref.ref(setup)
    gc.disable()  # a GPU's memory must not wait for the collector
    try:
        acdc_fast(setup, KLDivergence, 1e-3)
        del setup
        assert alive() is None
    finally:
        gc.enable()
