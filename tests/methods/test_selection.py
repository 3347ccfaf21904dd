"""Test rules of selection: they take what they say, and to prune dead edges changes nothing that a circuit does."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc.catalogue import METHODS, METRICS, SELECTION
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.found import Found
from acdc.graph import Circuit, Edge, EdgeScores, Graph, Node
from acdc.methods import driver
from acdc.methods.selection import (
    Selection,
    by_program,
    by_ratio,
    connected,
    consistent_first,
    greedy,
    mean_and_consistent,
)
from acdc.models.convert import weights_of
from tests.small_models import SETUPS, bridge, engine, prompts, random_circuit

SMALL = Graph(n_layers=2, n_heads=1, n_kv_heads=1)
TINY = [
    Graph(1, 2, 1),
    Graph(1, 2, 2, has_mlp=False, split_embed=True),
    Graph(1, 1, 1, parallel=True),
    Graph(2, 1, 1, has_mlp=False, coupled=True),
]
N = int(SMALL.exists.sum())


def scores(graph: Graph, values) -> EdgeScores:
    score = np.full(graph.exists.shape, np.nan)
    score[graph.exists] = values
    return EdgeScores(graph, score)


def random_scores(graph: Graph, seed: int) -> EdgeScores:
    return scores(graph, np.random.default_rng(seed).standard_normal(int(graph.exists.sum())) ** 3)


def values_of(scores: EdgeScores, circuit: Circuit) -> list[float]:
    return sorted(scores.score[circuit.present].tolist())


def select(**own) -> Selection:
    return Selection.of(own)


# Largest scores, and shares of positive ones.


def test_absolute_takes_sizes_and_signed_scores():
    ranked = scores(SMALL, [-9, 5, 3, -4, *[0.1] * (N - 4)])
    assert values_of(ranked, select().cut(ranked, 3).circuit) == [-9, -4, 5]
    assert values_of(ranked, select(select="signed").cut(ranked, 2).circuit) == [3, 5]


def test_ratio_takes_a_share_of_positive_scores_and_then_the_largest_sizes():
    ranked = scores(SMALL, [-9, 5, 3, -4, 2, -8, *[-0.1] * (N - 6)])
    found = [values_of(ranked, by_ratio(ranked, 4, share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert found == [[-9, -8, -4, 5], [-9, -8, -4, 5], [-9, -8, 3, 5], [-9, 2, 3, 5], [-9, 2, 3, 5]]


@pytest.mark.parametrize(("share", "n", "first"), [(0.29, 100, 29), (0.3, 3, 0), (0.5, 5, 2)])
def test_the_share_is_rounded_down(share, n, first):
    graph = Graph(4, 3, 3)
    values = np.r_[np.full(120, 1.0), np.full(int(graph.exists.sum()) - 120, -2.0)]
    ranked = scores(graph, values)
    assert (ranked.score[by_ratio(ranked, n, share).present] > 0).sum() == first


# Consistency.


def test_an_edge_is_consistent_where_its_interval_does_not_contain_0():
    """Scores 1, 2, 3 have mean 2 and standard error 1/sqrt(3), so the interval 2 -+ 1.13; -1, 1, 3 have 1 -+ 2.26."""
    first = np.zeros((3, N))
    first[:, 0], first[:, 1], first[:, 2] = (1, 2, 3), (-1, 1, 3), (-1, -2, -3)
    mean, consistent = mean_and_consistent([scores(SMALL, values) for values in first])
    assert mean.values[:4].tolist() == [2, 1, -2, 0]
    assert consistent[SMALL.exists][:4].tolist() == [True, False, True, False]
    assert not consistent[~SMALL.exists].any()


@given(st.integers(0, 10**6))
def test_consistent_edges_come_first_in_their_order_and_the_others_follow_in_theirs(seed):
    rng = np.random.default_rng(seed)
    ranked, mask = random_scores(SMALL, seed), SMALL.exists & (rng.random(SMALL.exists.shape) < 0.4)
    changed, n = consistent_first(ranked, mask), int(mask.sum())
    assert (np.sign(changed.values) == np.sign(ranked.values)).all()
    for size in range(N + 1):
        among = EdgeScores(SMALL, np.where(mask, np.abs(ranked.score), -1 / np.abs(ranked.score)))
        assert changed.absolute().top(size) == among.top(size)
    assert (changed.absolute().top(n).present == mask).all()


# The program.


def is_connected(circuit: Circuit) -> bool:
    """Return whether a circuit is connected as the program asks, edge by edge."""
    present = list(edge for edge in circuit.edges if edge.kind == "addition")
    senders, graph = {edge.sender for edge in present}, circuit.graph
    fed = {node for edge in present for node in graph.consumers(edge.receiver)}
    ends = (edge.receiver for edge in present)
    return all(node.layer < 0 or node in fed for node in senders) and all(
        end.component == "logits" or any(node in senders for node in graph.consumers(end)) for end in ends
    )


def best_sum(ranked: EdgeScores, n: int) -> float:
    """Return the largest sum of scores of a connected circuit, by trying all circuits."""
    graph, best = ranked.graph, 0.0
    pairs = [Edge(graph.senders[s], graph.receivers[r]) for s, r in np.argwhere(graph.exists)]
    sizes = {
        edge: abs(ranked.score[graph.sender_index[edge.sender], graph.receiver_index[edge.receiver]]) for edge in pairs
    }
    for size in range(1, n + 1):
        for edges in combinations(pairs, size):
            total = sum(sizes[edge] for edge in edges)
            if total > best and is_connected(Circuit.from_edges(graph, edges)):
                best = total
    return best


@pytest.mark.parametrize("graph", TINY)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_the_program_finds_the_best_connected_circuit(graph, seed, n):
    ranked = random_scores(graph, seed)
    cut = by_program(ranked, n, seconds=60, gap=0)
    assert cut.converged and cut.more == {"solver_gap_left": 0}
    assert is_connected(cut.circuit) and cut.circuit.present.sum() <= n
    assert np.abs(ranked.score[cut.circuit.present]).sum() == pytest.approx(best_sum(ranked, n))
    assert (cut.circuit.direct == cut.circuit.present.any(0) & graph.has_direct).all()


def test_the_program_takes_a_weak_edge_that_makes_strong_ones_reach_the_logits():
    """With two edges, the way through the MLP is worth 5.1. Each of the three largest scores alone leads nowhere."""
    graph = Graph(1, 1, 1)
    edges = {("embed", "a0.h0.q"): 4, ("a0.h0", "m0"): 4, ("embed", "m0"): 5, ("m0", "logits"): 0.1}
    values = {
        (graph.sender_index[graph.node(s)], graph.receiver_index[graph.node(r)]): value
        for (s, r), value in edges.items()
    }
    ranked = scores(graph, [values.get((s, r), 0.0) for s, r in np.argwhere(graph.exists)])
    names = {edge.name for edge in by_program(ranked, 2, seconds=60, gap=0).circuit.edges}
    assert names == {"embed -> m0", "m0 -> logits"}


def test_scores_of_any_scale_give_the_same_circuit():
    ranked = random_scores(Graph(2, 2, 1), 3)
    small = EdgeScores(ranked.graph, ranked.score * 1e-12)
    cuts = [by_program(one, 12, seconds=60, gap=1e-6).circuit for one in (ranked, small)]
    assert cuts[0] == cuts[1] and 0 < cuts[0].present.sum() <= 12


def test_ends_of_the_program():
    ranked, full = random_scores(SMALL, 0), Circuit.full(SMALL)
    assert by_program(ranked, 0, seconds=60, gap=0).circuit == Circuit.empty(SMALL)
    assert by_program(ranked, N + 7, seconds=60, gap=0).circuit == full
    nothing = scores(SMALL, [0.0] * N)
    circuit = by_program(nothing, 3, seconds=60, gap=0).circuit
    assert is_connected(circuit) and circuit.present[:, -1].any()


def test_a_solver_that_is_stopped_says_so_and_leaves_a_connected_circuit():
    ranked = random_scores(Graph(4, 6, 6), 1)
    cut = by_program(ranked, 60, seconds=1e-6, gap=0)
    assert not cut.converged
    assert is_connected(cut.circuit) and 0 < cut.circuit.present.sum() <= 60
    assert (
        np.abs(ranked.score[cut.circuit.present]).sum()
        >= np.abs(ranked.score[greedy(ranked.absolute(), 60).present]).sum()
    )


@given(st.integers(0, 10**6))
def test_greedy_is_connected_and_no_larger_than_asked_and_one_more_edge_would_be_too_many(seed):
    ranked = random_scores(Graph(2, 2, 1), seed).absolute()
    for n in (1, 5, 20):
        circuit = greedy(ranked, n)
        assert is_connected(circuit) and circuit.present.sum() <= n
        sizes = [connected(ranked.top(k)).present.sum() for k in range(len(ranked.values) + 1)]
        assert circuit.present.sum() == max(size for size in sizes if size <= n)


# Dead edges.

setups = pytest.mark.parametrize(("kind", "ablation"), SETUPS)


@setups
def test_pruning_changes_nothing_that_a_circuit_does(kind, ablation):
    setup = engine(kind, ablation, several=True)
    pruned = 0
    for seed, share in enumerate((0.03, 0.08, 0.15, 0.3, 0.05, 0.1)):
        circuit = random_circuit(setup.graph, seed, share, 0.7)
        alive = setup.without_dead(circuit)
        torch.testing.assert_close(setup.circuit_logits(alive), setup.circuit_logits(circuit), atol=2e-5, rtol=0)
        assert not (alive.present & ~circuit.present).any() and setup.without_dead(alive) == alive
        pruned += circuit.reaching_logits().n_edges - alive.n_edges
    is_run = ablation in ("corrupted", "corrupted_permuted")
    assert pruned > 0 if is_run else pruned == 0


@pytest.mark.parametrize("ablation", ("zero", "mean"))
def test_a_node_without_inputs_is_not_dead_where_the_ablated_run_is_fixed(ablation):
    """The node's fixed output differs from the output that it would compute from ablated inputs."""
    setup = engine("gpt2", ablation)
    graph = setup.graph
    alone = Circuit.from_edges(graph, [Edge(Node(0, "mlp"), graph.receivers[-1])])
    assert setup.without_dead(alone) == alone and alone.from_embeddings() == Circuit.empty(graph)
    changed = setup.circuit_logits(alone) - setup.circuit_logits(Circuit.empty(graph))
    assert changed.abs().max() > 1e-2


def test_edges_of_what_no_embedding_reaches_are_dropped_by_hand():
    graph = Graph(2, 2, 1)

    def circuit(*names: str) -> Circuit:
        pairs = (name.split(" -> ") for name in names)
        nodes = ((graph.node(s), graph.node(r)) for s, r in pairs)
        return Circuit.from_edges(graph, (Edge(s, r, "direct" if s == r else "addition") for s, r in nodes))

    # Both heads read key 0; a query alone reaches its head; m0 sends what it writes in the ablated run.
    fed = ("embed -> a0.h0.k", "a0.h0.k -> a0.h0.k", "a0.h1 -> a1.h0.q", "a1.h0.q -> a1.h0.q", "a1.h0 -> logits")
    dead = ("m0 -> a1.h0.k", "a1.h0.k -> a1.h0.k", "a1.h1 -> logits", "a0.h0.q -> a0.h0.q")
    cut = ("embed -> a1.h1.q",)  # its direct edge is cut
    assert circuit(*fed, *dead, *cut).from_embeddings() == circuit(*fed, *cut)


# In the driver.

LABELS = {"task": "ioi", "model": "tiny", "ablation": "corrupted", "metric": "logit_difference"}


def score(method: str, sizes: list[int], setup: Engine | None = None, **flags: str) -> list[Found]:
    settings = {**LABELS, "method": method, **METHODS[method].parse(flags)}
    return driver.score(setup or engine("llama"), settings, sizes=sizes)


def test_a_variant_finds_what_the_setting_does_and_says_so():
    for name, own in (("ratio", {"select": "ratio"}), ("program", {"select": "program"})):
        (one,), (other,) = score(f"eap_ig_{name}", [25]), score("eap_ig", [25], **own)
        assert one.circuit == other.circuit and one.settings["select"] == name
        assert one.result == other.result and one.result["converged"]
    assert one.result["solver_gap_left"] <= 1e-4
    assert one.row()["n_edges_pruned"] == 0 and is_connected(one.circuit)


def test_bootstraps_score_resamples_and_say_what_is_consistent():
    setup = engine("llama")
    (plain,), (found,) = (score("eap", [25], setup, bootstraps=str(n)) for n in (0, 4))
    kind = METRICS["logit_difference"].load()
    each = [METHODS["eap"].load()(setup.on(setup.dataset.resample(i)), kind).scores for i in range(4)]
    mean, consistent = mean_and_consistent(each)
    np.testing.assert_array_equal(found.scores["score"], mean.values)
    np.testing.assert_array_equal(found.scores["consistent"], consistent[setup.graph.exists])
    assert 0 < found.result["n_consistent"] == consistent.sum() < len(mean.values)
    assert found.result["evaluations"] == 4 * plain.result["evaluations"] and "consistent" not in plain.scores
    assert found.circuit == setup.without_dead(consistent_first(mean, consistent).absolute().top(25))


def test_resamples_that_do_not_fit_into_memory_are_refused(monkeypatch):
    setup = Engine(weights_of(bridge("llama")), prompts(False), ablation="corrupted")
    monkeypatch.setattr("acdc.engine.memory.free", lambda device: 1)
    with pytest.raises(InputError, match="4 more prompts of up to 7 tokens need 0.0 GiB"):
        score("eap", [3], setup, bootstraps="3")


def test_sizes_at_which_every_edge_is_dead_are_warned_of_once():
    with pytest.warns(UserWarning, match="no path leads from .* at n_edges 1, 2: all edges there are dead") as said:
        found = score("random", [1, 2, int(engine("llama").graph.exists.sum())])
    assert len(said) == 1 and [one.circuit.n_edges > 0 for one in found] == [False, False, True]
    assert [one.row()["n_edges_pruned"] for one in found][2] == 0 < found[0].row()["n_edges_pruned"]


@pytest.mark.parametrize("flags", [{"bootstraps": "3"}, {"select": "ratio"}, {"select": "program"}])
def test_rules_of_edges_are_refused_where_nodes_are_scored(monkeypatch, flags):
    monkeypatch.setitem(METHODS.added, "own", replace(METHODS["hisp"], name="own", settings=SELECTION))
    with pytest.raises(InputError, match="select and bootstraps are of methods that score edges"):
        score("own", [3], **flags)


# Settings.


@pytest.mark.parametrize(
    ("method", "flags", "message"),
    [
        ("eap", {"bootstraps": "2"}, "--bootstraps must be at least 3, or 0 for none, not 2"),
        ("eap_ig_consistent", {"bootstraps": "0"}, "--bootstraps must be at least 3, not 0"),
        ("gim", {"positive_share": "0.3"}, "method gim: positive_share does nothing where select is absolute: give"),
        ("eap", {"select": "ratio", "solver_gap": "0.1"}, "solver_gap does nothing where select is ratio: give sel"),
        ("eap_ig_ratio", {"select": "signed"}, "--select must be one of ratio, not 'signed'"),
        ("eap_ig_ratio", {"solver_gap": "0"}, "eap_ig_ratio has no setting --solver-gap"),
        ("eap_ig_signed", {"positive_share": "0.3"}, "eap_ig_signed has no setting --positive-share"),
        ("eap_ig_ratio", {"positive_share": "1.1"}, "--positive-share must be at most 1, not 1.1"),
    ],
)
def test_settings_that_do_nothing_or_contradict_a_methods_name_are_refused(method, flags, message):
    with pytest.raises(InputError, match=message):
        METHODS[method].parse(flags)
