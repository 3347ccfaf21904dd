"""Test files of other tools: what is written comes back, and no code that a file brings along is run."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

from acdc import exchange
from acdc.catalogue import FORMATS
from acdc.errors import InputError
from acdc.exchange import from_networkx, placeholders, read_eap_json, read_original, subgraph, to_networkx
from acdc.graph import Circuit, Edge, EdgeScores, Graph
from acdc.trace import key_of
from tests.vector_files import VECTORS

PLAIN, SHARED = Graph(2, 2, 2), Graph(3, 4, 2)
EAP = ("eap_json", "eap_pt")
GRAPHS = {
    "plain": PLAIN,
    "attention only": Graph(2, 3, 3, has_mlp=False),
    "split": Graph(2, 2, 2, split_embed=True),
    "shared": SHARED,
    "parallel": Graph(2, 2, 2, parallel=True),
}


def some(graph: Graph, seed: int, like_scores: bool = False) -> Circuit:
    """Return a random circuit; with ``like_scores``, one with the direct edges of EAP's circuits and no loose ends."""
    rng = np.random.default_rng(seed)
    if like_scores:
        scores = EdgeScores(graph, np.where(graph.exists, rng.random(graph.exists.shape), np.nan))
        return scores.top(graph.n_edges // 2).reaching_logits()
    present, direct = rng.random(graph.exists.shape) < 0.5, rng.random(len(graph.receivers)) < 0.7
    return Circuit(graph, graph.exists & present, graph.has_direct & direct)


def effects_of(circuit: Circuit) -> dict:
    return {key_of(edge): 0.5**i - 0.25 for i, edge in enumerate(circuit.edges) if edge.kind == "addition"}


def scores_of(graph: Graph) -> dict:
    """Return a score for every addition edge, positive or negative, which half and single precision hold exactly."""
    edges = [edge for edge in Circuit.full(graph).edges if edge.kind == "addition"]
    return {key_of(edge): (-1) ** i * (i + 1) / 64 for i, edge in enumerate(edges)}


def same(first: Circuit, second: Circuit) -> bool:
    pairs = ((first.present, second.present), (first.direct, second.direct))
    return first.graph == second.graph and all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("format", "graph"), [
    *(("original", GRAPHS[name]) for name in ("plain", "attention only", "split")),
    *(("graphml", graph) for graph in GRAPHS.values()),
])  # fmt: skip
def test_what_is_written_comes_back(format, graph, seed, tmp_path):
    circuit, file = some(graph, seed), tmp_path / "file"
    effects = effects_of(circuit) if format == "graphml" else {}
    FORMATS[format].load().write(circuit, effects, file, None)
    read, read_effects = FORMATS[format].load().read(file, None)
    assert same(read, circuit) and read_effects == effects


@pytest.mark.parametrize("format", EAP)
@pytest.mark.parametrize("name", ("plain", "attention only", "shared", "parallel"))
def test_a_circuit_comes_back_from_eap_ig_with_the_scores_of_all_edges(format, name, tmp_path):
    circuit, file = some(GRAPHS[name], 0, like_scores=True), tmp_path / "file"
    scores = scores_of(circuit.graph)
    FORMATS[format].load().write(circuit, scores, file, 16)
    read, effects = FORMATS[format].load().read(file, None)
    assert (
        same(read, circuit) and effects == scores and len(effects) == circuit.graph.exists.sum() > circuit.n_edges / 2
    )
    FORMATS[format].load().write(circuit, {}, file, 16)
    assert FORMATS[format].load().read(file, None)[1] == {}  # a file of zeros has no scores


# The original.


@pytest.mark.parametrize(
    "file", sorted(VECTORS.glob("*/acdc_t0.05*.json")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_the_dictionary_is_the_originals(file, tmp_path):
    """It has every edge of the original's own run, its placeholders too, and no other."""
    vector = json.loads(file.read_text())["edges"]
    theirs = {(r, tuple(i), s, tuple(j)): present for r, i, s, j, present, _ in vector}
    torch.save(OrderedDict(theirs), tmp_path / "theirs.pth")
    circuit, _ = read_original(tmp_path / "theirs.pth")
    counted = sum(present for *_, present, kind in vector if kind != "PLACEHOLDER")
    assert circuit.n_edges == counted
    ours = subgraph(circuit)
    assert set(ours) == set(theirs)
    always = {(r, tuple(i), s, tuple(j)) for r, i, s, j, _, kind in vector if kind == "PLACEHOLDER"}
    assert set(placeholders(circuit.graph)) == always
    assert {key for key in ours if ours[key]} - always == {key for key in theirs if theirs[key]} - always


def test_gpt2_small_has_as_many_edges_as_the_original_counts():
    graph = Graph(12, 12, 12)
    assert len(subgraph(Circuit.empty(graph))) == 32_923 + 444
    assert sum(subgraph(Circuit.empty(graph)).values()) == 444


@pytest.mark.parametrize(("name", "reason"), [("shared", "key/value heads"), ("parallel", "parallel blocks")])
def test_what_the_original_does_not_know_is_refused(name, reason):
    with pytest.raises(InputError, match=f"has no {reason}"):
        subgraph(Circuit.full(GRAPHS[name]))


class Index:
    """Pickle as the original's class does: by its name, with its state."""

    def __init__(self, index: tuple) -> None:
        self.hashable_tuple = index
        self.as_index = tuple(slice(None) if i is None else i for i in index)


Index.__module__, Index.__qualname__, Index.__name__ = "acdc.TLACDCEdge", "TorchIndex", "TorchIndex"


def edge_list(circuit: Circuit, index=lambda i: i) -> list:
    keys = [exchange.original_key(edge) for edge in circuit.edges]
    return [((r, index(i), s, index(j)), float(n)) for n, (r, i, s, j) in enumerate(keys)]


@pytest.mark.parametrize("index", (tuple, list, Index))
def test_the_pickled_list_is_read_with_its_effects(index, tmp_path, monkeypatch):
    module = type(os)("acdc.TLACDCEdge")
    module.TorchIndex = Index
    monkeypatch.setitem(__import__("sys").modules, "acdc.TLACDCEdge", module)
    circuit, file = some(PLAIN, 0), tmp_path / "edges.pkl"
    file.write_bytes(pickle.dumps(edge_list(circuit, index)))
    read, effects = read_original(file, PLAIN)
    assert same(read, circuit)
    assert effects == {key_of(edge): float(n) for n, edge in enumerate(circuit.edges)}
    with pytest.raises(InputError, match="do not tell the model's size"):
        read_original(file)


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("save", (lambda data, file: file.write_bytes(pickle.dumps(data)), torch.save))
def test_a_strangers_code_is_not_run(save, tmp_path):
    file, victim = tmp_path / "edges.pth", tmp_path / "victim"
    save([Malicious(victim)], file)
    with pytest.raises(InputError, match=r"edges\.pth"):
        read_original(file, PLAIN)
    assert not victim.exists()


def test_files_that_are_something_else_are_refused_by_name(tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(InputError, match=r"other\.pth is no dictionary of edges"):
        read_original(file)
    torch.save(OrderedDict([(("blocks.0.hook_mlp_in", (None,), "hook_embed", (None,)), True)]), file)
    with pytest.raises(InputError, match="no whole graph"):
        read_original(file)
    file.write_bytes(pickle.dumps(7))
    with pytest.raises(InputError, match=r"other\.pth is no list of edges"):
        read_original(file)


def test_an_edge_that_the_graph_lacks_is_refused_by_name(tmp_path):
    file = tmp_path / "edges.pkl"
    file.write_bytes(pickle.dumps(edge_list(Circuit.full(Graph(2, 3, 3)))))
    with pytest.raises(InputError, match=r"hook_q_input \(None, None, 2\), which this graph has not"):
        read_original(file, PLAIN)


# EAP-IG.


def write(file: Path, change=lambda data: None, format="eap_json") -> Path:
    circuit = some(SHARED, 0, like_scores=True)
    data = exchange.eap_json(circuit, {}, 16) if format == "eap_json" else exchange.eap_pt(circuit, {}, 16)
    change(data)
    file.write_text(json.dumps(data)) if format == "eap_json" else torch.save(data, file)
    return file


def test_the_matrices_are_in_eap_igs_order():
    """One layer has two heads that share a key and a value. An edge into a query that is cut is left out."""
    graph = Graph(1, 2, 1)
    pairs = (("embed", "a0.h1.q"), ("embed", "a0.h0.k"), ("a0.h1", "m0"), ("m0", "logits"), ("a0.h0", "logits"))
    circuit = Circuit.from_edges(graph, [Edge(*map(graph.node, pair)) for pair in pairs])
    circuit.direct[graph.receiver_index[graph.node("a0.h0.k")]] = True  # the query's is cut
    scores = {("a0.h0.k", "embed", "addition"): 3.0, ("logits", "m0", "addition"): -0.5, ("m0", "embed", "addition"): 7}
    data = exchange.eap_pt(circuit, scores, 16)
    assert data["cfg"] == {
        **{"n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "parallel_attn_mlp": False, "attn_only": False, "d_model": 16}
    }
    assert data["src_nodes"] == ["input", "a0.h0", "a0.h1", "m0"]
    ports = [f"a0.h{head}<{port}>" for port in "qkv" for head in range(2)]
    assert data["dst_nodes"] == [*ports, "m0", "logits"]
    no, yes = False, True
    assert data["edges_in_graph"].tolist() == [
        [no, no, yes, yes, no, no, no, no],
        [no, no, no, no, no, no, no, yes],
        [no, no, no, no, no, no, yes, no],
        [no, no, no, no, no, no, no, yes],
    ]
    assert data["nodes_in_graph"].tolist() == [yes, yes, yes, yes]
    assert data["edges_scores"].dtype == torch.float32
    assert data["edges_scores"].tolist() == [[0, 0, 1.5, 1.5, 0, 0, 7, 0], [0] * 8, [0] * 8, [*[0] * 7, -0.5]]


def test_both_forms_of_eap_ig_say_the_same():
    circuit = some(SHARED, 1)
    by_name, matrices = (form(circuit, scores_of(SHARED), 16) for form in (exchange.eap_json, exchange.eap_pt))
    assert by_name["cfg"] == matrices["cfg"]
    seen = 0
    for row, sender in enumerate(matrices["src_nodes"]):
        for column, receiver in enumerate(matrices["dst_nodes"]):
            edge = by_name["edges"].get(f"{sender}->{receiver}", {"score": 0, "in_graph": False})
            seen += edge["in_graph"]
            assert matrices["edges_scores"][row, column] == edge["score"]
            assert matrices["edges_in_graph"][row, column] == edge["in_graph"]
    assert seen


def test_an_edge_into_a_shared_key_is_one_for_each_head_and_comes_back_where_one_has_it(tmp_path):
    data = json.loads(write(tmp_path / "c.json").read_text())
    n_heads, n_layers = 4, 3
    senders = [1 + layer * (n_heads + 1) for layer in range(n_layers)]
    n_edges = sum(3 * n_heads * n + (n + n_heads) for n in senders) + 1 + n_layers * (n_heads + 1)
    assert len(data["edges"]) == n_edges and len(data["nodes"]) == 2 + n_layers * (n_heads + 1)

    def only_one(data):
        data["edges"] = {name: edge | {"in_graph": name == "input->a1.h3<k>"} for name, edge in data["edges"].items()}

    circuit, _ = read_eap_json(write(tmp_path / "c.json", only_one))
    assert [edge.name for edge in circuit.edges] == ["embed -> a1.h1.k", "a1.h1.k (direct)"]


@pytest.mark.parametrize("format", EAP)
def test_a_file_of_eap_ig_is_regrouped_for_a_model_whose_heads_share_keys(format, tmp_path):
    """EAP-IG's own files have a key for every head, and do not say which heads share one."""
    apart, read = Graph(3, 4, 4), FORMATS[format].load().read
    circuit = Circuit.from_edges(apart, [Edge(apart.node("embed"), apart.node("a1.h3.k"))])
    circuit.direct = circuit.present.any(0) & apart.has_direct
    circuit.present[apart.sender_index[apart.node("a1.h3")], -1] = True
    scores = {("a1.h2.k", "embed", "addition"): 0.25, ("a1.h3.k", "embed", "addition"): -1.0}
    FORMATS[format].load().write(circuit, scores, tmp_path / "file", 16)
    assert read(tmp_path / "file", None)[0].graph == Graph(3, 4, 4)
    grouped, effects = read(tmp_path / "file", SHARED)
    assert grouped.graph == SHARED
    assert [edge.name for edge in grouped.edges] == ["embed -> a1.h1.k", "a1.h1.k (direct)", "a1.h3 -> logits"]
    assert effects[("a1.h1.k", "embed", "addition")] == -0.75 and sum(effects.values()) == -0.75
    with pytest.raises(InputError, match="of 3 layers and 4 heads, and the circuit that was given of another model"):
        read(tmp_path / "file", PLAIN)


def test_edges_into_a_port_that_is_cut_off_are_not_written(tmp_path):
    circuit = Circuit.full(PLAIN)
    circuit.direct[PLAIN.receiver_index[PLAIN.node("a1.h0.q")]] = False
    edges = exchange.eap_json(circuit, {}, 16)["edges"]
    assert [name for name, edge in edges.items() if not edge["in_graph"]] == [
        f"{sender}->a1.h0<q>" for sender in ("input", "a0.h0", "a0.h1", "m0")
    ]


def test_what_eap_ig_marks_where_no_edge_is_does_not_count(tmp_path):
    """Its selection of nodes marks all columns of a row, those of earlier layers too."""
    file = write(tmp_path / "c.pt", lambda data: data["edges_in_graph"][-1].fill_(True), "eap_pt")
    circuit, _ = exchange.read_eap_pt(file)
    assert not (circuit.present & ~SHARED.exists).any()
    assert circuit.present[SHARED.sender_index[SHARED.node("m2")]].nonzero()[0].tolist() == [len(SHARED.receivers) - 1]


def test_a_circuit_without_scores_is_read(tmp_path):
    """MIB takes such files as one circuit of several sizes."""
    circuit = some(SHARED, 0, like_scores=True)
    file = write(tmp_path / "c.json", lambda data: [edge.pop("score") for edge in data["edges"].values()])
    read, effects = read_eap_json(file)
    assert same(read, circuit) and effects == {}


@pytest.mark.parametrize("format", EAP)
def test_what_eap_ig_has_no_place_for_is_refused(format, tmp_path):
    with pytest.raises(InputError, match="--d-model"):
        FORMATS[format].load().write(some(PLAIN, 0), {}, tmp_path / "file", None)
    with pytest.raises(InputError, match="embeddings are two"):
        FORMATS[format].load().write(some(GRAPHS["split"], 0), {}, tmp_path / "file", 16)


@pytest.mark.parametrize(("change", "reason"), [
    (lambda data: data.pop("cfg"), "no circuit as EAP-IG writes it"),
    (lambda data: data["cfg"].pop("n_heads"), "no circuit as EAP-IG writes it"),
    (lambda data: data["edges"]["input->m0"].pop("in_graph"), "no circuit as EAP-IG writes it"),
    (lambda data: data["nodes"]["m0"].update(neurons=[True]), "circuit of neurons"),
    (lambda data: data["edges"].update({"m2->m0": {"score": 1, "in_graph": True}}), "an edge m2->m0"),
])  # fmt: skip
def test_other_json_is_refused_by_name(change, reason, tmp_path):
    with pytest.raises(InputError, match=rf"c\.json .*{reason}"):
        read_eap_json(write(tmp_path / "c.json", change))


@pytest.mark.parametrize(("change", "reason"), [
    (lambda data: data.pop("cfg"), "no circuit as EAP-IG saves it"),
    (lambda data: data["cfg"].pop("n_heads"), "no circuit as EAP-IG saves it"),
    (lambda data: data.pop("edges_scores"), "no circuit as EAP-IG saves it"),
    (lambda data: data.update(edges_in_graph=3), "no circuit as EAP-IG saves it"),
    (lambda data: data.update(neurons_in_graph=torch.ones(16, 16)), "circuit of neurons"),
    (lambda data: data["cfg"].update(n_layers=2), r"matrices of \(16, 40\), and its cfg says \(11, 27\)"),
])  # fmt: skip
def test_other_matrices_are_refused_by_name(change, reason, tmp_path):
    with pytest.raises(InputError, match=rf"c\.pt .*{reason}"):
        exchange.read_eap_pt(write(tmp_path / "c.pt", change, "eap_pt"))


def test_a_file_of_something_else_is_no_matrix(tmp_path):
    for content in (b"", b"nothing", pickle.dumps([Malicious(tmp_path / "victim")], 2)):
        (tmp_path / "c.pt").write_bytes(content)
        with pytest.raises(InputError, match=r"c\.pt is no circuit as EAP-IG saves it"):
            exchange.read_eap_pt(tmp_path / "c.pt")
    torch.save([1], tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"c\.pt is no circuit as EAP-IG saves it"):
        exchange.read_eap_pt(tmp_path / "c.pt")
    assert not (tmp_path / "victim").exists()


# networkx.


def test_a_path_in_networkx_is_a_way_through_the_circuit():
    circuit = Circuit.empty(SHARED)
    for sender, receiver in (("embed", "a0.h1.k"), ("a0.h3", "m1"), ("m1", "logits")):
        circuit.present[SHARED.sender_index[SHARED.node(sender)], SHARED.receiver_index[SHARED.node(receiver)]] = True
    assert not nx.has_path(to_networkx(circuit, {}), "a0.h1.k", "logits")  # its direct edge is cut
    circuit.direct[SHARED.receiver_index[SHARED.node("a0.h1.k")]] = True
    found = to_networkx(circuit, {})
    (path,) = nx.all_simple_paths(found, "embed", "logits")
    assert path == ["embed", "a0.h1.k", "a0.h3", "m1", "logits"]
    assert found.nodes["a0.h1.k"] == {"layer": 0, "component": "head", "hook": "blocks.0.hook_k_input"}
    assert same(from_networkx(found)[0], circuit)


def test_graphml_of_others_is_refused(tmp_path):
    file = tmp_path / "other.graphml"
    nx.write_graphml(nx.path_graph(3), file)
    with pytest.raises(InputError, match=r"other\.graphml is no circuit"):
        FORMATS["graphml"].load().read(file, None)
    file.write_text("nothing")
    with pytest.raises(InputError, match=r"other\.graphml is no circuit"):
        FORMATS["graphml"].load().read(file, None)
