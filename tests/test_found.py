"""Test what was found: it survives its files, and a file that holds no circuit of ours is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import acdc
from acdc.errors import InputError
from acdc.found import FOUND, LABELS, Found, Sweep
from acdc.graph import Circuit, Graph
from acdc.methods.acdc import Tried
from tests.small_models import random_circuit

GRAPH = Graph(n_layers=2, n_heads=4, n_kv_heads=2)
SETTINGS = {"task": "ioi", "model": "gpt2", "metric": "kl_divergence", "ablation": "zero", "method": "acdc"}
TRACE = pd.DataFrame(
    [
        Tried("logits", "m1", "addition", 0.0, 0.1 + 0.2, 0.1 + 0.2, False),
        Tried("m1", "m0", "addition", 0.0, 1e-9, 1e-9, True),
    ]
)


def found(value: str = "1e-3", seed: int = 0, **tables: pd.DataFrame) -> Found:
    settings = SETTINGS | {"size_by": "threshold", "value": value, "seed": 0, "versions": {"torch": "2"}}
    result = {"final_metric": 0.1 + 0.2, "evaluations": 7, "converged": True, "origin": FOUND, "near_ties": 0}
    return Found(settings, random_circuit(GRAPH, seed, 0.5, 0.5), result, **tables)


def assert_same(first: Found, second: Found) -> None:
    assert (first.settings, first.result) == (second.settings, second.result)
    assert first.circuit.graph == second.circuit.graph
    assert np.array_equal(first.circuit.present, second.circuit.present)
    assert np.array_equal(first.circuit.direct, second.circuit.direct)


def test_a_circuit_comes_back_with_its_trace_bit_by_bit(tmp_path):
    one = found(trace=TRACE)
    one.save(tmp_path / "new")
    again = Found.load(tmp_path / "new" / Found.FILE, tmp_path / "new" / Found.TRACE)
    assert_same(again, one)
    pd.testing.assert_frame_equal(again.trace, TRACE, check_exact=True, check_dtype=False)
    assert again.effects[("logits", "m1", "addition")] == 0.1 + 0.2
    (tmp_path / "new" / Found.TRACE).rename(tmp_path / "elsewhere.csv")
    alone = Found.load(tmp_path / "new" / Found.FILE)
    assert alone.trace is None and alone.effects == {}
    assert Found.load(tmp_path / "new" / Found.FILE, tmp_path / "elsewhere.csv").effects == one.effects


def test_a_trace_is_found_beside_its_circuit_whatever_the_files_name(tmp_path):
    found(trace=TRACE).save(tmp_path / "a.json")
    found(trace=TRACE.assign(effect=7.0)).save(tmp_path / "b.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.trace.csv", "b.json", "b.trace.csv"]
    assert [Found.load(tmp_path / name).trace["effect"].iloc[0] for name in ("a.json", "b.json")] == [0.1 + 0.2, 7]


def test_an_old_trace_is_not_taken_for_that_of_a_circuit_without_one(tmp_path):
    found(trace=TRACE).save(tmp_path)
    found().save(tmp_path)
    assert Found.load(tmp_path / Found.FILE).trace is None


def test_the_circuits_file_is_written_last(tmp_path, monkeypatch):
    """A run that is killed before leaves no circuit that looks finished."""

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc.found.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        found(trace=TRACE).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [Found.TRACE]


def test_saved_twice_is_the_same_bytes(tmp_path):
    for name in "ab":
        found(trace=TRACE).save(tmp_path / name)
    for file in (Found.FILE, Found.TRACE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_circuits_of_one_scoring_come_back_in_their_order_and_have_one_file_of_scores(tmp_path):
    scores = pd.DataFrame({"sender": ["m0"], "receiver": ["logits"], "score": [0.5]})
    several = [found(value, seed, scores=scores) for seed, value in enumerate(("3", "10", "2"))]
    Sweep(several).save(tmp_path)
    again = list(Found.load_all([tmp_path / Found.SEVERAL]))
    assert [one.value for one in again] == ["3", "10", "2"]
    for first, second in zip(again, several, strict=True):
        assert_same(first, second)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / Found.SCORES).drop(columns="check"), scores)
    with pytest.raises(
        InputError, match=r"circuits\.json holds 3 circuits, by threshold 3, 10, 2: give the value of one"
    ):
        Found.load(tmp_path / Found.SEVERAL)


@pytest.fixture
def several(tmp_path) -> Path:
    """Write a file of the circuits of one scoring; return its path."""
    scores = pd.DataFrame({"sender": ["m0"], "receiver": ["logits"], "score": [0.5]})
    Sweep(found(value, seed, scores=scores) for seed, value in enumerate(("3", "1e1", "2"))).save(tmp_path)
    return tmp_path / Found.SEVERAL


@pytest.mark.parametrize("value", ("1e1", "10", 10, 10.0))
def test_one_of_several_is_read_by_its_value_with_the_scores_of_all(value, several):
    one = acdc.load(several, value=value)
    assert_same(one, found("1e1", 1))
    assert one.importance == {("logits", "m0", "addition"): 0.5} and one.effects == {}


def test_a_file_of_several_asks_which_and_a_wrong_value_is_told_those_there_are(several, tmp_path):
    with pytest.raises(
        InputError, match=r"circuits\.json holds 3 circuits, by threshold 3, 1e1, 2: give the value of one"
    ):
        acdc.load(several)
    for value in ("4", 4, "x"):
        with pytest.raises(InputError, match=rf"circuits\.json holds no circuit of {value}: there are 3, 1e1, 2"):
            acdc.load(several, value=value)
    found("x").save(tmp_path / "one.json")
    assert acdc.load(tmp_path / "one.json", value="x").value == "x"
    with pytest.raises(InputError, match=r"one\.json holds no circuit of 3: there are x"):
        acdc.load(tmp_path / "one.json", value=3)
    several.write_text("[]")
    with pytest.raises(InputError, match=r"circuits\.json holds no circuit$"):
        acdc.load(several)


def test_of_many_values_the_first_and_the_last_are_told(tmp_path):
    scores = pd.DataFrame({"sender": ["m0"], "receiver": ["logits"], "score": [0.5]})
    Sweep(found(str(n), scores=scores) for n in range(1, 186)).save(tmp_path)
    with pytest.raises(InputError, match=r"holds 185 circuits, by threshold 1, 2, (\d+, ){17}\.\.\., 185: give"):
        acdc.load(tmp_path / Found.SEVERAL)


def test_a_sweep_comes_back_from_its_file_and_its_folder(several, tmp_path):
    for where in (several, several.parent):
        again = Sweep.load(where)
        assert [one.value for one in again] == ["3", "1e1", "2"] and all(one.scores is not None for one in again)
    Sweep([found("0.5", trace=TRACE), found("1e-3", 1, trace=TRACE)]).save(tmp_path / "searched")
    searched = Sweep.load(tmp_path / "searched")
    assert [one.value for one in searched] == ["1e-3", "0.5"] and all(one.effects for one in searched)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no circuits of a sweep"):
        Sweep.load(tmp_path / "empty")


def test_effects_are_known_rather_than_scores_and_scores_of_nodes_are_none_of_edges():
    scores = pd.DataFrame({"sender": ["m0"], "receiver": ["logits"], "score": [0.5]})
    assert found(trace=TRACE, scores=scores).importance == found(trace=TRACE).effects
    assert found(scores=pd.DataFrame({"node": ["m0"], "score": [0.5]})).importance == {}


def test_files_of_one_and_of_several_are_read_as_one_list(tmp_path):
    scores = pd.DataFrame({"sender": ["m0"], "receiver": ["logits"], "score": [0.5]})
    found("1").save(tmp_path)
    Sweep([found("2", 1, scores=scores), found("3", 2, scores=scores)]).save(tmp_path)
    paths = [tmp_path / Found.SEVERAL, tmp_path / Found.FILE]
    assert [one.value for one in Found.load_all(paths)] == ["2", "3", "1"]


@pytest.mark.parametrize("key", (*LABELS, "size_by", "value"))
def test_a_file_whose_settings_lack_a_label_is_refused_by_it(key, tmp_path):
    data = found().to_json()
    del data["settings"][key]
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=rf"c\.json is no circuit as acdc writes it .*settings lack {key}"):
        Found.load(tmp_path / "c.json")


def test_a_folder_is_no_file_of_circuits(several):
    with pytest.raises(InputError, match="is no circuit as acdc writes it .*Is a directory"):
        acdc.load(several.parent)


@pytest.mark.parametrize("text", ("", "[", "7", "[[]]", "{}", '{"settings": {}, "result": {}}'))
def test_a_file_of_something_else_is_refused_by_name(text, tmp_path):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json is no circuit as acdc writes it"):
        Found.load(tmp_path / "c.json")


def test_an_edge_that_the_graph_lacks_is_refused(tmp_path):
    data = found().to_json()
    data["circuit"]["edges"].append(["m7", "logits"])
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="no node 'm7'"):
        Found.load(tmp_path / "c.json")


def test_a_row_has_labels_and_sizes_that_are_those_of_the_circuit(tmp_path: Path):
    one = found()
    one.save(tmp_path)
    row = Found.load(tmp_path / Found.FILE).row()
    assert row == {
        **SETTINGS,
        "size_by": "threshold",
        "value": "1e-3",
        "converged": True,
        "origin": FOUND,
        "n_edges": one.circuit.n_edges,
        "n_edges_reaching": one.circuit.reaching_logits().n_edges,
        "n_nodes": len(one.circuit.nodes),
        "n_edges_pruned": 0,
    }
    one.result["n_edges_pruned"] = 3
    one.save(tmp_path)
    assert Found.load(tmp_path / Found.FILE).row()["n_edges_pruned"] == 3
    assert row["n_edges_reaching"] < row["n_edges"]
    assert Found(one.settings, Circuit.empty(GRAPH), one.result).row()["n_edges"] == 0


CHANGES = {
    "another size": (lambda data: data["result"].update(n_edges=10**6), "it says n_edges 1000000 and has"),
    "an edge less": (lambda data: data["circuit"]["edges"].pop(), "lists"),
    "an edge twice": (lambda data: data["circuit"]["edges"].append(data["circuit"]["edges"][0]), "are distinct"),
    "another threshold": (lambda data: data["settings"].update(value="2"), "changed since acdc wrote it"),
    "no number": (lambda data: data["result"].update(final_metric=float("nan")), "final_metric in result is nan"),
    "a text": (lambda data: data["result"].update(converged="no"), "converged in result can not be 'no'"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path, change, said):
    data = found().to_json()
    change(data)
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=rf"c\.json is no circuit as acdc writes it .*{said}"):
        Found.load(tmp_path / "c.json")


def test_a_file_of_ones_own_needs_no_sha256(tmp_path):
    data = {key: value for key, value in found("2").to_json().items() if key != "sha256"}
    data["settings"]["value"] = "3"
    (tmp_path / "c.json").write_text(json.dumps(data))
    assert Found.load(tmp_path / "c.json").value == "3"
