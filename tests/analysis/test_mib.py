"""Test CPR and CMD: they are those of MIB's own code, on its scores, see tests/vectors/mib/README.md."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acdc.analysis import mib as ours
from acdc.errors import InputError
from acdc.exchange import Layout
from acdc.found import Found
from acdc.graph import Circuit, EdgeScores, Graph
from acdc.metrics import LogitDifference
from tests import mib
from tests.vector_files import read_vectors

CASES = [(name, method) for name in mib.SHAPES for method in mib.METHODS]


def scores(name: str, method: str) -> EdgeScores:
    graph = mib.setup(name).graph
    values = np.full(graph.exists.shape, np.nan)
    expected = read_vectors("mib")[name][method]["edges"]
    for edge, place in Layout.of(graph).places().items():
        values[place] = expected[edge]
    return EdgeScores(graph, values)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_areas_are_mibs(name, method):
    setup, signed = mib.setup(name), scores(name, method)
    for ranked, kind in ((signed, "signed"), (signed.absolute(), "absolute")):
        expected = read_vectors("mib")[name][method][kind]
        found = ours.areas(setup, LogitDifference, ours.of_scores(ranked))
        assert found == pytest.approx((expected["cpr"], expected["cmd"]), rel=1e-5)


@pytest.mark.parametrize("ablation", mib.ABLATIONS)
@pytest.mark.parametrize("name", mib.SHAPES)
def test_a_circuit_does_what_it_does_there(name, ablation):
    setup, circuit = mib.setup(name, mib.ABLATIONS[ablation]), scores(name, "EAP").absolute().top(40)
    if (name, ablation) == ("gpt2", "zero"):
        setup = mib.setup(name, "zero", split_embed=True)
        circuit = with_positions(circuit, setup.graph)
    expected = read_vectors("mib")[name]["circuit"][ablation]
    # Zeros are a difference there, which rounding keeps from 0, and a norm without variance enlarges that.
    bound = 1e-4 if ablation == "zero" else 1e-5
    assert -setup.value(circuit, LogitDifference) == pytest.approx(np.mean(expected), rel=bound)


def with_positions(circuit: Circuit, graph: Graph) -> Circuit:
    """Return the circuit with token and position embeddings as two senders, and all edges from positions.

    EAP-IG's input is the token embedding alone. Under zero ablation that differs from ours, which has positions in it.
    """
    present = np.insert(circuit.present, 1, True, axis=0) & graph.exists
    return Circuit(graph, present, graph.has_direct)


def test_a_sweep_has_the_largest_circuit_that_is_no_larger():
    graph = mib.setup("gpt2").graph
    ranked, n = scores("gpt2", "EAP").absolute(), int(graph.exists.sum())
    sweep = [ranked.top(size) for size in (n // 10, n // 4, n // 5)]
    sizes = [int(circuit.present.sum()) for circuit in ours.of_sweep(sweep)]
    assert sizes == [0, 0, 0, 0, 0, 0, n // 10, n // 5, n // 4, n]
    assert [*ours.of_sweep([Circuit.empty(graph)])][-1] == Circuit.full(graph)


def found(name: str, scores: EdgeScores, circuit: Circuit, is_sweep: bool) -> Found:
    names = {
        "method": "eap",
        "task": "t",
        "model": name,
        "metric": "m",
        "ablation": "corrupted",
        "size_by": "n_edges",
    }
    result = {"final_metric": 0.0, "evaluations": 1, "converged": True, "origin": "found"}
    rows = None if is_sweep else pd.DataFrame(scores.rows())
    return Found(names | {"size_by": "n_edges", "value": str(int(circuit.present.sum()))}, circuit, result, scores=rows)


@pytest.mark.parametrize("name", mib.SHAPES)
def test_a_submission_of_scores_has_every_edges_score(tmp_path, name):
    ranked = scores(name, "EAP")
    ours.write_submission([found(name, ranked, ranked.top(9), False)], tmp_path / "ioi_gpt2", d_model=32)
    (file,) = (tmp_path / "ioi_gpt2").iterdir()
    edges = json.loads(file.read_text())["edges"]
    expected = read_vectors("mib")[name]["EAP"]["edges"]
    assert file.name == "importances.json"
    assert {edge: entry["score"] for edge, entry in edges.items()} == pytest.approx(expected)


def test_a_submission_of_a_sweep_has_nine_circuits(tmp_path):
    ranked = scores("gpt2", "EAP").absolute()
    n = int(ranked.graph.exists.sum())
    sweep = [found("gpt2", ranked, ranked.top(size), True) for size in (n // 4, n // 20, n // 3)]
    ours.write_submission(sweep, tmp_path, d_model=32)
    sizes = {}
    for file in tmp_path.iterdir():
        edges = json.loads(file.read_text())["edges"].values()
        sizes[file.stem] = sum(edge["in_graph"] for edge in edges)
    # The format marks edges that reach the logits, and no others.
    has = [0, *(int(one.circuit.reaching_logits().present.sum()) for one in sweep)]
    shares = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
    assert sizes == {f"{share}_percent": max(size for size in has if size <= share / 100 * n) for share in shares}
    assert len(set(sizes.values())) == 4


@pytest.mark.parametrize("is_sweep", (False, True))
def test_cpr_and_cmd_of_what_was_found(is_sweep):
    setup, ranked = mib.setup("llama_grouped"), scores("llama_grouped", "EAP")
    one = found("llama_grouped", ranked, ranked.top(20), is_sweep)
    cpr, cmd = ours.cpr_and_cmd(setup, LogitDifference, [one])
    if is_sweep:
        assert (cpr, cmd) == ours.areas(setup, LogitDifference, ours.of_sweep([one.circuit]))
    else:
        expected = read_vectors("mib")["llama_grouped"]["EAP"]
        assert (cpr, cmd) == pytest.approx((expected["signed"]["cpr"], expected["absolute"]["cmd"]), rel=1e-5)


def test_what_heads_share_is_told_apart():
    """Scores of a grouped graph are divided among the heads of a group, and circuits have the edges of each."""
    graph = replace(mib.setup("llama_grouped").graph, n_kv_heads=2)
    ranked = EdgeScores(graph, np.where(graph.exists, 1.0, np.nan))
    circuit, apart = ours.ungrouped(found("llama_grouped", ranked, ranked.top(10**6), False))
    assert circuit == Circuit.full(ours.per_query_head(graph))
    ports = [node.port for node in apart.graph.receivers]
    by_port = {port: np.nanmax(apart.score[:, [p == port for p in ports]]) for port in ("q", "k", "v")}
    assert by_port == {"q": 1.0, "k": 0.5, "v": 0.5}


# Files that do not belong together.


def files(*given: Found) -> dict[Path, list[Found]]:
    return {Path(f"{i}/circuits.json"): [one] for i, one in enumerate(given)}


def of(one: Found, **settings: str) -> Found:
    return replace(one, settings=one.settings | settings)


def scored() -> Found:
    ranked = scores("llama_grouped", "EAP")
    return found("llama_grouped", ranked, ranked.top(9), False)


def test_a_search_has_a_row_for_each_method():
    eap, acdc = scored(), of(replace(scored(), scores=None), method="acdc")
    by_method = ours.by_method(files(eap, acdc, of(acdc, value="2")), eap.circuit.graph)
    assert {name: len(circuits) for name, circuits in by_method.items()} == {"eap": 1, "acdc": 2}


REFUSED = {
    "scores that are gone": (
        lambda one: [replace(one, scores=None)],
        r"^0/circuits\.json is of eap, which scores edges, and their scores\.csv is not beside it: put it there",
    ),
    "scores of nodes": (lambda one: [of(one, method="hisp")], r"is of hisp, which scores nodes"),
    "two files of scores": (lambda one: [one, one], r"eap has scores in 0/circuits\.json and in 1/circuits\.json"),
    "two searches": (
        lambda one: [one, of(one, method="eap_ig", metric="kl_divergence")],
        r"0/circuits\.json is of .*corrupted and 1/circuits\.json is of .*kl_divergence.*: give the circuits of one",
    ),
    "another model": (
        lambda one: [replace(one, circuit=Circuit.full(Graph(n_layers=3, n_heads=4, n_kv_heads=4)))],
        r"0/circuits\.json is of another model: its graph is .*n_layers=3",
    ),
}


@pytest.mark.parametrize(("given", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_belong_together_is_refused(given, sentence):
    one = scored()
    with pytest.raises(InputError, match=sentence):
        ours.by_method(files(*given(one)), one.circuit.graph)
