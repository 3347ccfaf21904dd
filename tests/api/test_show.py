"""Test what is done with circuits from Python: they are shown, measured, written and read again."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import acdc
from acdc.errors import InputError
from acdc.heads import Heads

METHODS = {
    "acdc": {"threshold": 0.1},
    "sp": {"regularisation": 1, "steps": 20},
    "edge_pruning": {"sparsity_target": 0.5, "steps": 12, "learning_rate": 20.0},
    "eap": {"n_edges": 20},
    "hisp": {"n_nodes": 5},
}


@pytest.fixture(scope="module", params=METHODS)
def found(request, model, data) -> acdc.Found:
    return acdc.find(model, data, metric="logit_difference", method=request.param, **METHODS[request.param])


@pytest.fixture(scope="module")
def sweep(model, data) -> acdc.Sweep:
    return acdc.find(model, data, metric="logit_difference", thresholds=[0.05, 0.3])


# Measured.


def test_a_circuit_is_measured_on_other_prompts_beside_random_ones_of_its_size(found, model, held_out):
    table = found.evaluate(held_out, seeds=2)
    assert table["circuit"].tolist() == ["found", "full", "empty", "random", "random"]
    engine = model.engine(held_out)
    logits = engine.circuit_logits(found.circuit)
    rows, targets = torch.arange(2), held_out.targets
    expected = (logits[rows, targets["incorrect"]] - logits[rows, targets["correct"]]).mean().item()
    assert table["logit_difference"][0] == pytest.approx(expected, abs=1e-5)
    assert table["kl_divergence"][1] == pytest.approx(0, abs=1e-6)
    assert table["n_edges"].iloc[:3].tolist() == [found.circuit.n_edges, found.circuit.graph.n_edges, 0]
    assert table["seed"].iloc[3:].tolist() == [0, 1] and (table["n_nodes"].iloc[3:] > 0).all()


def test_random_circuits_have_as_many_addition_edges(found, held_out, monkeypatch):
    sizes = []
    real = acdc.graph.EdgeScores.top
    monkeypatch.setattr(acdc.graph.EdgeScores, "top", lambda self, n: sizes.append(n) or real(self, n))
    found.evaluate(held_out, seeds=2)
    assert sizes == [int(found.circuit.present.sum())] * 2


def test_a_sweep_is_measured_as_one_table(sweep, held_out):
    table = sweep.evaluate(held_out, seeds=1)
    assert table["circuit"].tolist() == ["found", "found", "full", "empty", "random", "random"]
    assert table["value"].iloc[:2].tolist() == ["0.05", "0.3"]


def test_prompts_without_answers_are_measured_by_kl_and_metrics_can_be_chosen(found, held_out):
    only = acdc.Dataset(held_out.clean, held_out.corrupted, held_out.scored, {})
    kl = {"kl_divergence": acdc.catalogue.METRICS["kl_divergence"].load()}
    table = found.evaluate(only, metrics=kl)
    assert table.columns.tolist()[-1] == "seed" and "kl_divergence" in table and "logit_difference" not in table


def test_a_circuit_from_a_file_needs_its_model(found, model, held_out, tmp_path):
    found.save(tmp_path / "circuit.json")
    loaded = acdc.load(tmp_path / "circuit.json")
    with pytest.raises(InputError, match=r"give it as model=acdc\.load_model"):
        loaded.evaluate(held_out)
    assert loaded.evaluate(held_out, model=model).equals(found.evaluate(held_out))


# Shown.


def test_heads_of_a_sweep_are_described_and_shown(sweep, model, held_out):
    heads = sweep.heads(held_out)
    assert list(heads.table["task"].unique()) == ["prompts"] and len(heads.table) == 8
    assert set(heads.attention["patterns"]) == {
        node.name for one in sweep for node in one.circuit.nodes if node.component == "head"
    }
    assert [text.strip() for text in heads.attention["prompts"][0]["clean"]] == ["two", "one", "one"]
    assert '"patterns"' in sweep.page(heads=heads) and "proposed name" in sweep[0].page(heads=heads)
    assert isinstance(sweep[0].draw(heads=heads), Figure)
    with pytest.raises(InputError, match="model="):
        replace(sweep[0], model=None).heads(held_out)


def test_heads_come_back_from_their_files(sweep, held_out, tmp_path):
    heads = sweep[0].heads(held_out)
    heads.save(tmp_path / "heads.csv", tmp_path / "attention.json")
    read = Heads.load(tmp_path / "heads.csv", tmp_path / "attention.json")
    assert read.attention == heads.attention and read.rows.keys() == heads.rows.keys()
    (tmp_path / "attention.json").write_text("[]")
    with pytest.raises(InputError, match="make it again by `acdc heads`"):
        Heads.load(tmp_path / "heads.csv", tmp_path / "attention.json")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv"):
        Heads.load(tmp_path / "other.csv")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(found, sweep, tmp_path):
    for one in (found, sweep):
        html = one._repr_html_()
        assert html.startswith("<iframe srcdoc=") and html.endswith("</iframe>") and "cytoscape" in html
        text = one.page(tmp_path / "page.html")
        assert (tmp_path / "page.html").read_text() == text and text.startswith("<!doctype html>")
    assert '"start": 1' in sweep.page(start="0.3") and '"start": 0' in sweep.page()


@pytest.mark.parametrize("kept", (True, False), ids=("with its tables", "without"))
def test_a_drawing_is_a_figure_with_an_arrow_per_edge(kept, found):
    shown = found if kept else copy.deepcopy(found)
    if not kept:
        shown.trace = shown.scores = None
    for figure in (shown.draw(), found.circuit.draw(title="mine")):
        assert isinstance(figure, Figure)
        arrows = {patch.get_gid().partition(":")[0] for patch in figure.axes[0].patches if patch.get_gid()}
        assert arrows <= {edge.name for edge in found.circuit if edge.kind == "addition"}
        assert arrows or not found.circuit.reaching_logits().n_edges
    texts = [text.get_text() for text in shown.draw().axes[0].texts]
    said = {"acdc": "effect of removing it", "eap": "score"}.get(found.settings["method"]) if kept else None
    assert ("effect of removing it" in texts, "score" in texts) == (said == "effect of removing it", said == "score")


def test_edges_are_a_table_on_request(found):
    table, edges = found.to_frame(), list(found.circuit.edges)
    assert table["sender"].tolist() == [edge.sender.name for edge in edges] and len(table) == len(found.circuit)
    assert ("effect" in table) == bool(found.effects)
    if found.effects:
        assert table["effect"].notna().all()


def test_networkx_has_the_edges_and_the_effects(found):
    graph = found.to_networkx()
    assert isinstance(graph, nx.DiGraph)
    addition = [pair for *pair, kind in graph.edges(data="kind") if kind == "addition"]
    assert len(addition) == found.circuit.present.sum()
    assert found.circuit.to_networkx().edges == graph.edges


def test_one_line_says_what_it_is(found, sweep):
    n = found.circuit.n_edges
    assert repr(found).startswith("Found(prompts on tiny: ") and f"; {n} of 134 edges" in repr(found)
    assert "\n" not in repr(found) + repr(sweep) and f"threshold 0.05: {len(sweep[0].circuit)}, 0.3: " in repr(sweep)
    assert repr(found.circuit) == f"Circuit({n} of 134 edges, {len(found.circuit.nodes)} nodes)"


# Kept.


@pytest.mark.parametrize("name", ("circuit.json", "mine.json", "folder"))
def test_a_file_gives_back_the_circuit_and_its_tables(name, found, tmp_path):
    found.save(tmp_path / name)
    again = acdc.load(tmp_path / name if name.endswith(".json") else tmp_path / name / "circuit.json")
    assert (again.circuit, again.settings, again.result) == (found.circuit, found.settings, found.result)
    assert again.effects == found.effects and again.model is None
    for table in ("trace", "scores"):
        first, second = getattr(found, table), getattr(again, table)
        assert (first is None) == (second is None) or (table == "scores" and found.trace is not None)
        if first is not None and second is not None:
            assert first.columns.tolist() == second.columns.tolist() and len(first) == len(second)


def test_pickles_leave_the_model_out_and_copies_keep_it(found, model):
    again = pickle.loads(pickle.dumps(found))
    assert again.circuit == found.circuit and again.settings == found.settings and again.model is None
    copied = copy.deepcopy(found)
    assert copied.model is model and copied.circuit == found.circuit and copied.circuit is not found.circuit
    copied.circuit.present[:] = False
    assert found.circuit.n_edges and found.model is model


def test_datasets_and_circuits_can_be_pickled_and_copied(found, data):
    for make in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        assert make(found.circuit) == found.circuit and make(data).sha256 == data.sha256
        assert make(found.circuit.graph) == found.circuit.graph


def test_numbers_of_a_sweep_are_floats_or_texts(sweep):
    assert sweep.at(0.3) is sweep.at("0.3") is sweep[1] and sweep.at(np.float64(0.05)) is sweep[0]
