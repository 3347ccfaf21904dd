"""Test the graph: it has the original's edges, circuits survive JSON, and circuits by scores nest."""

from __future__ import annotations

import json

import numpy as np
import pytest

from acdc.errors import InputError
from acdc.graph import Circuit, Edge, EdgeScores, Graph, Node
from tests.small_models import random_circuit

SMALL = Graph(n_layers=2, n_heads=4, n_kv_heads=2)
GRAPHS = [SMALL, Graph(3, 2, 2, has_mlp=False), Graph(2, 2, 2, split_embed=True), Graph(1, 1, 1)]
graphs = pytest.mark.parametrize("graph", GRAPHS)


@pytest.mark.parametrize(
    ("graph", "counted", "addition"),
    [
        (Graph(12, 12, 12), 32_923, 32_491),  # GPT-2 small
        (Graph(4, 8, 8, has_mlp=False), 1_377, 1_281),  # attn-only-4l
        (Graph(2, 8, 8, has_mlp=False), 305, 257),  # redwood_attn_2l
        (Graph(30, 9, 3), 71_101, 70_651),  # SmolLM2-135M
    ],
)
def test_edges_are_as_many_as_the_original_counts(graph, counted, addition):
    assert (graph.n_edges, graph.exists.sum()) == (counted, addition)
    assert Circuit.full(graph).n_edges == counted


def test_pruned_ports_and_mlps_take_their_edges_with_them():
    """The sizes are those that the published HISP runs on docstring began with: a port of layer 0 went, of 2, of 3."""
    graph = Graph(4, 8, 8, has_mlp=False)
    kept = graph.has_direct.copy()
    sizes = []
    for name in ("a0.h0.q", "a2.h1.k", "a3.h5.v"):
        kept[graph.receiver_index[graph.node(name)]] = False
        sizes.append(Circuit.among(graph, kept).n_edges)
    assert sizes == [1_375, 1_357, 1_331]


@graphs
def test_kept_nodes_have_all_edges_among_them(graph):
    everything = np.ones(len(graph.receivers), dtype=bool)
    assert Circuit.among(graph, everything).n_edges == graph.n_edges
    nothing = Circuit.among(graph, ~everything)
    assert {edge.name for edge in nothing.edges} == {
        f"{node.name} -> logits" for node in graph.senders if node.layer < 0
    }


def test_a_head_sends_while_one_of_its_ports_is_kept():
    """Heads 2 and 3 read key and value head 1."""
    kept = np.array([node.name == "a0.h1.v" for node in SMALL.receivers])
    circuit = Circuit.among(SMALL, kept)
    assert {edge.name for edge in circuit.edges} == {
        "embed -> a0.h1.v",
        "a0.h1.v (direct)",
        "embed -> logits",
        "a0.h2 -> logits",
        "a0.h3 -> logits",
    }


@graphs
def test_an_edge_exists_where_the_sender_is_computed_first(graph):
    def place(node: Node) -> tuple[int, bool]:
        return node.layer, node.component == "mlp"

    for s, sender in enumerate(graph.senders):
        for r, receiver in enumerate(graph.receivers):
            assert graph.exists[s, r] == (place(sender) < place(receiver))


@graphs
def test_names_are_unique_and_find_their_node(graph):
    ports_apart = {*graph.senders, *graph.receivers}
    assert len({node.name for node in ports_apart}) == len(ports_apart)
    assert all(graph.node(node.name) == node for node in ports_apart)


def test_unknown_node_is_named():
    with pytest.raises(KeyError, match=r"a7\.h0"):
        SMALL.node("a7.h0")


@graphs
def test_first_sender_and_receiver_of_a_layer_are_where_it_starts(graph):
    for layer in range(graph.n_layers):
        assert graph.senders[graph.first_sender(layer)] == Node(layer, "head", 0)
        assert graph.receivers[graph.first_receiver(layer)] == Node(layer, "head", 0, "q")
    assert graph.first_sender(graph.n_layers) == len(graph.senders)
    assert graph.receivers[graph.first_receiver(graph.n_layers)].component == "logits"


@graphs
def test_edges_into_layers_add_up_to_all(graph):
    assert graph.edges_into(0) == graph.n_edges
    assert graph.edges_into(graph.n_layers) == len(graph.senders)
    assert graph.edges_into(graph.n_layers + 1) == 0


def test_heads_of_a_group_read_their_key_and_value_head():
    assert SMALL.heads_reading(Node(1, "head", 1, "k")) == [Node(1, "head", 2), Node(1, "head", 3)]
    assert SMALL.heads_reading(Node(1, "head", 1, "q")) == [Node(1, "head", 1)]
    assert SMALL.consumers(Node(1, "mlp")) == [Node(1, "mlp")]
    assert SMALL.consumers(Node(2, "logits")) == []


@pytest.mark.parametrize(
    ("edge", "sender", "receiver"),
    [
        ("embed -> m0", "blocks.0.hook_resid_pre", "blocks.0.hook_mlp_in"),
        ("tok_embed -> m0", "hook_embed", "blocks.0.hook_mlp_in"),
        ("pos_embed -> m0", "hook_pos_embed", "blocks.0.hook_mlp_in"),
        ("m0 -> logits", "blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"),
        ("a0.h1 -> a1.h1.k", "blocks.0.attn.hook_result[1]", "blocks.1.hook_k_input[1]"),
        ("a1.h1.v -> a1.h1.v", "blocks.1.hook_v_input[1]", "blocks.1.attn.hook_v[1]"),
    ],
)
def test_hooks_are_the_originals(edge, sender, receiver):
    graph = Graph(2, 2, 2, split_embed=edge.startswith(("tok", "pos")))
    ends = [graph.node(name) for name in edge.split(" -> ")]
    edge = Edge(*ends, "direct" if ends[0] == ends[1] else "addition")
    for (hook, index), expected in ((edge.sender_hook, sender), (edge.receiver_hook, receiver)):
        assert (hook if index == (None,) else f"{hook}[{index[2]}]") == expected


@graphs
def test_circuit_survives_json_and_its_edges(graph):
    circuit = random_circuit(graph, 0, 0.5, 0.5)
    for other in (
        Circuit.from_json(json.loads(json.dumps(circuit.to_json()))),
        Circuit.from_edges(graph, circuit.edges),
        circuit.copy(),
    ):
        assert other.graph == graph
        assert np.array_equal(other.present, circuit.present) and np.array_equal(other.direct, circuit.direct)
    assert len(list(circuit.edges)) == circuit.n_edges


def test_a_copy_is_apart():
    circuit = Circuit.full(SMALL)
    circuit.copy().present[:] = False
    assert circuit.n_edges == SMALL.n_edges


def test_from_edges_refuses_what_is_no_edge():
    with pytest.raises(ValueError, match=r"m1 -> a0\.h0\.q"):
        Circuit.from_edges(SMALL, [Edge(Node(1, "mlp"), Node(0, "head", 0, "q"))])


def test_nodes_merge_ports_into_heads():
    edges = [("embed", "a0.h1.q"), ("embed", "a0.h1.v"), ("a0.h1", "logits")]
    circuit = Circuit.from_edges(SMALL, [Edge(SMALL.node(s), SMALL.node(r)) for s, r in edges])
    assert {node.name for node in circuit.nodes} == {"embed", "a0.h1", "logits"}
    assert Circuit.empty(SMALL).nodes == set()


def test_reaching_logits_drops_what_leads_nowhere():
    def circuit(*edges: tuple[str, str]) -> Circuit:
        kinds = (("direct" if s == r else "addition", SMALL.node(s), SMALL.node(r)) for s, r in edges)
        return Circuit.from_edges(SMALL, [Edge(s, r, kind) for kind, s, r in kinds])

    # Key/value head 1 is read by heads 2 and 3.
    leads = [("embed", "a0.h1.v"), ("a0.h1.v", "a0.h1.v"), ("a0.h3", "m1"), ("m1", "logits")]
    nowhere = [("embed", "m0"), ("m0", "a1.h0.q"), ("a1.h0.q", "a1.h0.q"), ("embed", "a0.h3.q")]
    expected = {edge.name for edge in circuit(*leads).edges}
    assert {edge.name for edge in circuit(*leads, *nowhere).reaching_logits().edges} == expected


@graphs
def test_full_and_empty_circuits_reach_the_logits_as_they_are(graph):
    assert Circuit.full(graph).reaching_logits().n_edges == graph.n_edges
    assert Circuit.empty(graph).reaching_logits().n_edges == 0


@graphs
def test_is_fed_where_a_path_of_edges_starts_at_an_embedding(graph):
    """A path leads along MLPs and values; a direct edge that is cut ends it."""
    for seed in range(5):
        circuit = random_circuit(graph, seed, 0.15, 0.6)

        def sends(node: Node, circuit=circuit) -> bool:
            if node.layer < 0:
                return True
            reads = [
                r
                for r, receiver in enumerate(graph.receivers)
                if node in graph.consumers(receiver) and receiver.port in ("v", None)
            ]
            return all(fed(r) and (circuit.direct[r] or not graph.has_direct[r]) for r in reads)

        def fed(r: int, circuit=circuit, sends=sends) -> bool:
            return any(sends(graph.senders[s]) for s in np.flatnonzero(circuit.present[:, r]))

        assert circuit.is_fed().tolist() == [fed(r) for r in range(len(graph.receivers))]


def scores(graph: Graph, n_values: int | None = None) -> EdgeScores:
    rng = np.random.default_rng(0)
    score = rng.random(graph.exists.shape) if n_values is None else rng.integers(n_values, size=graph.exists.shape)
    return EdgeScores(graph, np.where(graph.exists, score, np.nan))


@graphs
@pytest.mark.parametrize("n_values", (None, 1, 2))
def test_top_has_the_largest_scores_and_nests_also_where_scores_tie(graph, n_values):
    ranked, before = scores(graph, n_values), Circuit.empty(graph)
    for n in range(int(graph.exists.sum()) + 1):
        circuit = ranked.top(n)
        assert circuit.present.sum() == n and (before.present <= circuit.present).all()
        assert np.array_equal(circuit.direct, circuit.present.any(0) & graph.has_direct)
        assert np.array_equal(circuit.present, ranked.top(n).present)
        if 0 < n < graph.exists.sum():
            assert ranked.score[circuit.present].min() >= ranked.score[graph.exists & ~circuit.present].max()
        before = circuit


def test_ties_go_to_the_first_sender():
    chosen = list(EdgeScores(SMALL, np.where(SMALL.exists, 1.0, np.nan)).top(3).edges)
    assert {edge.sender.name for edge in chosen if edge.kind == "addition"} == {"embed"}


def test_top_of_more_than_all_is_all():
    assert scores(SMALL).top(10**6).n_edges == SMALL.n_edges


# Circuits as sets of edges.


@graphs
def test_circuits_of_one_graph_are_joined_as_the_sets_of_their_edges_are(graph):
    a, b = (random_circuit(graph, seed, 0.5, 0.5) for seed in (1, 2))
    first, second = set(a), set(b)
    assert (set(a | b), set(a & b), set(a - b)) == (first | second, first & second, first - second)
    assert len(a) == len(first) == a.n_edges
    assert all((edge in a) == (edge in first) for edge in Circuit.full(graph))
    assert Circuit.full(graph) - Circuit.full(graph) == Circuit.empty(graph)


def test_circuits_are_equal_where_graph_and_edges_are():
    a = random_circuit(SMALL, 1, 0.5, 0.5)
    assert a == a.copy() and a != random_circuit(SMALL, 2, 0.5, 0.5) and a != "a circuit"
    assert Circuit.empty(SMALL) != Circuit.empty(Graph(n_layers=2, n_heads=4, n_kv_heads=4))
    other = a.copy()
    other.direct ^= SMALL.has_direct
    assert a != other
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_what_is_no_edge_of_the_graph_is_in_no_circuit():
    full = Circuit.full(SMALL)
    logits, late = SMALL.receivers[-1], Node(9, "mlp")
    assert Edge(Node(1, "mlp"), logits) in full
    assert Edge(late, logits) not in full and Edge(Node(0, "mlp"), late) not in full and "m1 -> logits" not in full
    assert Edge(Node(1, "mlp"), SMALL.node("m0")) not in full


def test_circuits_of_two_graphs_are_not_joined():
    a, b = (Circuit.full(graph) for graph in GRAPHS[:2])
    for join in (a.__or__, a.__and__, a.__sub__):
        with pytest.raises(InputError, match=r"circuits of two models, Circuit\(.*\) and Circuit\(.*\)"):
            join(b)
    with pytest.raises(TypeError):
        a | {1}


def test_is_connected_where_a_path_of_edges_leads_from_an_embedding_to_the_logits():
    logits, head = SMALL.receivers[-1], SMALL.node("a1.h0")
    m0, embed, query = SMALL.node("m0"), SMALL.senders[0], SMALL.node("a1.h0.q")
    way = [Edge(embed, m0), Edge(m0, query), Edge(query, query, "direct"), Edge(head, logits)]
    assert Circuit.from_edges(SMALL, way).is_connected and Circuit.full(SMALL).is_connected
    for missing in way:
        assert not Circuit.from_edges(SMALL, [edge for edge in way if edge != missing]).is_connected
    assert Circuit.from_edges(SMALL, [Edge(embed, logits)]).is_connected and not Circuit.empty(SMALL).is_connected
