"""Test known circuits as files state them."""

from __future__ import annotations

import json

import pytest
import yaml

from acdc.analysis.head_names import NAMES
from acdc.analysis.head_table import BACKUP
from acdc.errors import InputError
from acdc.graph import Circuit, Graph
from acdc.known import expand, from_file, heads_of, load_circuit
from tests.originals import key, original_key
from tests.vector_files import VECTORS

SPLIT = {"tracr_reverse": Graph(4, 1, 1, split_embed=True), "tracr_proportion": Graph(2, 1, 1, split_embed=True)}
GRAPH = Graph(n_layers=2, n_heads=2, n_kv_heads=2)


def names(circuit: Circuit) -> set[str]:
    return {edge.name for edge in circuit.edges}


@pytest.mark.parametrize("name", SPLIT)
def test_the_papers_circuits_are_the_originals(name):
    circuit = from_file(name)(SPLIT[name])
    counted = {key(edge) for edge in Circuit.full(SPLIT[name]).edges}
    rows = json.loads((VECTORS / name / "canonical_edges.json").read_text())
    assert {key(edge) for edge in circuit.edges} == {original_key(row) for row in rows if row[4]} & counted
    assert circuit.n_edges == {"tracr_reverse": 15, "tracr_proportion": 10}[name]


GPT2 = Graph(n_layers=12, n_heads=12, n_kv_heads=12)
CANONICAL = {  # the original's name, the graph, addition and direct edges
    "ioi": ("ioi", GPT2, 963, 78),
    "greater_than": ("greaterthan", GPT2, 235, 27),
    "docstring": ("docstring", Graph(4, 8, 8, has_mlp=False), 24, 13),
}


@pytest.mark.parametrize("name", CANONICAL)
def test_circuits_of_language_models_are_the_originals(name):
    original, graph, addition, direct = CANONICAL[name]
    circuit = from_file(name)(graph)
    rows = json.loads((VECTORS / f"canonical_circuits/{original}.json").read_text())["edges"]
    assert {key(edge) for edge in circuit.edges} == {original_key(row) for row in rows}
    assert (circuit.present.sum(), circuit.direct.sum()) == (addition, direct)


SEQUENCES = {"numerals_sequence": (14, 11), "number_words_sequence": (19, 12), "months_sequence": (13, 10)}


def test_circuits_of_sequences_have_the_nodes_that_lan_et_al_list_and_share_eight_heads():
    heads = {}
    for name, (n_heads, n_mlps) in SEQUENCES.items():
        circuit = from_file(name)(GPT2)
        components = {kind: {n.name for n in circuit.nodes if n.component == kind} for kind in ("head", "mlp")}
        assert (len(components["head"]), len(components["mlp"])) == (n_heads, n_mlps)
        # Nodes were ablated, so every edge among the others is there.
        index = [s for s, sender in enumerate(GPT2.senders) if sender in circuit.nodes]
        assert circuit.present.sum() == sum(
            GPT2.exists[index, r].sum()
            for r, receiver in enumerate(GPT2.receivers)
            if receiver.owner in circuit.nodes or receiver.component == "logits"
        )
        heads[name] = components["head"]
    shared = set.intersection(*heads.values())
    assert shared == {"a0.h1", "a4.h4", "a6.h1", "a6.h6", "a6.h10", "a7.h11", "a8.h8", "a9.h1"}


def test_traps_of_the_field_are_not_in_the_files():
    """An early version of greater-than lacked head 6.9; some lists of docstring have heads 0.2 and 0.4."""
    greater_than, docstring = (from_file(name)(CANONICAL[name][1]) for name in ("greater_than", "docstring"))
    assert {node.name for node in greater_than.nodes} >= {"a6.h9"}
    assert not {node.name for node in docstring.nodes} & {"a0.h2", "a0.h4"}


def test_groups_may_hold_groups_and_impossible_pairs_are_passed_over():
    groups = {"heads": ["a0.h0", "a1.h0"], "mlps": ["m0", "m1"], "all": ["heads", "mlps"]}
    found = names(expand({"groups": groups, "connections": [{"from": "all", "to": "mlps"}]}, GRAPH))
    assert found == {"a0.h0 -> m0", "a0.h0 -> m1", "a1.h0 -> m1", "m0 -> m1"}


def test_groups_ports_and_direct_edges_are_expanded():
    stated = {
        "groups": {"early": ["a0.h0", "a0.h1"]},
        "connections": [
            {"from": "early", "to": "a1.h1", "ports": ["q", "v"]},
            {"from": ["embed", "early"], "to": ["m1", "a1.h0.k"]},
            {"from": "m1", "to": "logits"},
        ],
    }
    assert names(expand(stated, GRAPH)) == {
        *("a0.h0 -> a1.h1.q", "a0.h1 -> a1.h1.q", "a0.h0 -> a1.h1.v", "a0.h1 -> a1.h1.v"),
        *("embed -> m1", "a0.h0 -> m1", "a0.h1 -> m1", "embed -> a1.h0.k", "a0.h0 -> a1.h0.k", "a0.h1 -> a1.h0.k"),
        *("m1 -> logits", "a1.h1.q (direct)", "a1.h1.v (direct)", "a1.h0.k (direct)"),
    }


def test_a_head_without_ports_is_all_three():
    assert expand({"connections": [{"from": "embed", "to": "a0.h1"}]}, GRAPH).n_edges == 6


def test_parts_of_the_embedding_are_the_whole_where_it_is_one():
    stated, joint = from_file("tracr_proportion"), Graph(2, 1, 1)
    of_tokens = {name for name in names(stated(SPLIT["tracr_proportion"])) if not name.startswith("pos_embed")}
    assert names(stated(joint)) == {name.replace("tok_embed", "embed") for name in of_tokens}


@pytest.mark.parametrize(
    ("sender", "receiver", "message"),
    [("a9.h0", "logits", "no node 'a9.h0' in a graph of 2 layers"), ("m1", "m0", "from m1 to m0 there is no edge")],
)
def test_what_the_graph_does_not_have_is_refused_by_name(tmp_path, sender, receiver, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({"connections": [{"from": sender, "to": receiver}]}))
    with pytest.raises(InputError, match=f"wrong.yaml: {message}.*another model"):
        load_circuit(path, GRAPH)


def test_the_published_heads_of_ioi_are_26_of_classes_that_names_are_compared_with():
    published = heads_of("ioi")
    assert len(published) == 26 and published["a9.h9"] == "name mover" and published["a10.h7"] == "negative name mover"
    assert {GPT2.node(head).component for head in published} == {"head"}
    assert set(published.values()) == {*NAMES, BACKUP}
