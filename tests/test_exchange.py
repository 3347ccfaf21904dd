"""Circuits in the files of other tools: what is written comes back, and nothing that a file brings along is run."""

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
from acdc.graph import Circuit, EdgeScores, Graph
from acdc.trace import key_of

VECTORS = Path(__file__).parent / "vectors"
PLAIN, SHARED = Graph(2, 2, 2), Graph(3, 4, 2)
GRAPHS = {
    "plain": PLAIN,
    "attention only": Graph(2, 3, 3, has_mlp=False),
    "split": Graph(2, 2, 2, split_embed=True),
    "shared": SHARED,
    "parallel": Graph(2, 2, 2, parallel=True),
}


def some(graph: Graph, seed: int, like_scores: bool = False) -> Circuit:
    """A random circuit; ``like_scores``: with the direct edges that EAP's circuits have, and no loose ends."""
    rng = np.random.default_rng(seed)
    if like_scores:
        scores = EdgeScores(graph, np.where(graph.exists, rng.random(graph.exists.shape), np.nan))
        return scores.top(graph.n_edges // 2).reaching_logits()
    present, direct = rng.random(graph.exists.shape) < 0.5, rng.random(len(graph.receivers)) < 0.7
    return Circuit(graph, graph.exists & present, graph.has_direct & direct)


def effects_of(circuit: Circuit) -> dict:
    return {key_of(edge): 0.5**i - 0.25 for i, edge in enumerate(circuit.edges) if edge.kind == "addition"}


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


@pytest.mark.parametrize("name", ("plain", "attention only", "shared", "parallel"))
def test_a_circuit_of_scores_comes_back_from_eap_ig(name, tmp_path):
    circuit, file = some(GRAPHS[name], 0, like_scores=True), tmp_path / "c.json"
    FORMATS["eap_json"].load().write(circuit, effects_of(circuit), file, 16)
    read, effects = FORMATS["eap_json"].load().read(file, None)
    assert same(read, circuit) and effects == effects_of(circuit)


# The original.


@pytest.mark.parametrize(
    "file", sorted(VECTORS.glob("*/acdc_t0.05*.json")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_the_dictionary_is_the_originals(file, tmp_path):
    """Every edge of the original's own run, its placeholders too, and no other."""
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
    """Pickles as the original's class does: by its name, with its state."""

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


def write(file: Path, change=lambda data: None) -> Path:
    circuit = some(SHARED, 0, like_scores=True)
    data = exchange.eap_json(circuit, {}, 16)
    change(data)
    file.write_text(json.dumps(data))
    return file


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


def test_edges_into_a_port_that_is_cut_off_are_not_written(tmp_path):
    circuit = Circuit.full(PLAIN)
    circuit.direct[PLAIN.receiver_index[PLAIN.node("a1.h0.q")]] = False
    edges = exchange.eap_json(circuit.reaching_logits(), {}, 16)["edges"]
    assert [name for name, edge in edges.items() if not edge["in_graph"]] == [
        f"{sender}->a1.h0<q>" for sender in ("input", "a0.h0", "a0.h1", "m0")
    ]


def test_refused_by_eap_ig(tmp_path):
    with pytest.raises(InputError, match="--d-model"):
        FORMATS["eap_json"].load().write(some(PLAIN, 0), {}, tmp_path / "c.json", None)
    with pytest.raises(InputError, match="embeddings are two"):
        FORMATS["eap_json"].load().write(some(GRAPHS["split"], 0), {}, tmp_path / "c.json", 16)
    for change, reason in (
        (lambda data: data.pop("cfg"), "no circuit as EAP-IG writes it"),
        (lambda data: data["edges"]["input->m0"].pop("in_graph"), "no circuit as EAP-IG writes it"),
        (lambda data: data["nodes"]["m0"].update(neurons=[True]), "circuit of neurons"),
        (lambda data: data["edges"].update({"m2->m0": {"score": 1, "in_graph": True}}), "an edge m2->m0"),
    ):
        with pytest.raises(InputError, match=reason):
            read_eap_json(write(tmp_path / "c.json", change))


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
