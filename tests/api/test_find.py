"""Test finding circuits from Python: the slow search and the fast one, every method, sweeps, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import acdc
from acdc.catalogue import METHODS
from acdc.errors import InputError
from acdc.methods.acdc_fast import Acdc
from acdc.methods.driver import CHECKPOINT

THRESHOLD = 0.1
HOW = {"metric": "logit_difference", "threshold": THRESHOLD}


def test_import_is_quick_for_torch_is_imported_when_it_is_needed():
    code = "import sys, acdc, acdc.study; dir(acdc); acdc.Graph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_that_is_offered_is_there():
    assert all(getattr(acdc, name) is not None for name in acdc.__all__) and set(acdc.__all__) <= set(dir(acdc))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        acdc.nothing  # noqa: B018


@pytest.mark.parametrize("metric", ("kl_divergence", "logit_difference"))
@pytest.mark.parametrize("ablation", ("corrupted", "zero"))
def test_the_fast_search_decides_as_the_plain_one(metric, ablation, model, data):
    how = {"metric": metric, "ablation": ablation, "threshold": THRESHOLD, "precision": "float64"}
    fast, plain = (acdc.find(model, data, engine=engine, **how) for engine in ("fast", "plain"))
    assert fast.circuit == plain.circuit
    decided = ["receiver", "sender", "kind", "removed"]
    assert fast.trace[decided].equals(plain.trace[decided])
    np.testing.assert_allclose(fast.trace["effect"], plain.trace["effect"], atol=1e-4)
    assert fast.result["final_metric"] == pytest.approx(plain.result["final_metric"], abs=1e-4)
    assert 0 < fast.circuit.n_edges < fast.circuit.graph.n_edges
    assert (fast.settings["engine"], plain.settings["engine"]) == ("fast", "plain")
    assert plain.result["evaluations"] == len(plain.trace)


def test_mixed_precision_finds_float32s_circuit_and_says_what_it_measured_twice(model, data):
    usual, mixed = (acdc.find(model, data, **HOW, precision=precision) for precision in ("float32", "mixed"))
    assert mixed.circuit == usual.circuit and list(mixed.trace["removed"]) == list(usual.trace["removed"])
    assert 0 < mixed.result["remeasured"] <= mixed.result["evaluations"] and "remeasured" not in usual.result
    assert mixed.settings["precision"] == "mixed"
    assert mixed.evaluate(data)["logit_difference"].notna().all()


def test_split_embeddings_are_two_senders(model, data):
    how = {"metric": "logit_difference", "threshold": THRESHOLD, "split_embed": True, "precision": "float64"}
    fast, plain = (acdc.find(model, data, engine=engine, **how) for engine in ("fast", "plain"))
    assert fast.circuit == plain.circuit and fast.circuit.graph.split_embed


def test_prompts_of_a_task_bring_its_name(model, data):
    named = acdc.Dataset(data.clean, data.corrupted, data.scored, data.targets, {"task": "of mine"})
    assert acdc.find(model, named, **HOW).settings["task"] == "of mine"
    assert acdc.find(model, named, **HOW, task="another").settings["task"] == "another"


def test_what_was_found_says_what_it_was_found_with(model, data):
    found = acdc.find(model, data, **HOW, head_order="ascending")
    expected = {"model": "tiny", "task": "prompts", "method": "acdc", "size_by": "threshold", "value": str(THRESHOLD)}
    expected |= {"head_order": "ascending", "weights_sha256": model.sha256, "dataset_sha256": data.sha256}
    assert expected.items() <= found.settings.items()


SIZES = {
    "acdc": {"threshold": "0.1"},
    "sp": {"regularisation": 1, "steps": 5},
    "edge_pruning": {"sparsity_target": 0.9, "steps": 5},
    "hisp": {"n_nodes": 3},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_circuit(method, model, data):
    size = SIZES.get(method, {"n_edges": 40})
    found = acdc.find(model, data, metric="logit_difference", method=method, **size)
    assert found.settings["method"] == method and found.result["origin"] == "found"
    if "n_edges" in size:
        assert 0 < found.circuit.present.sum() <= 40


# Sweeps.

SWEEPS = {
    "acdc": {"thresholds": [0.1, "0.3", 1]},
    "sp": {"regularisations": [1, 10.0], "steps": 5},
    "edge_pruning": {"sparsity_targets": [0.3, "0.9"], "steps": 12, "learning_rate": 20},
    "eap": {"n_edges": [3, 10, 30]},
    "hisp": {"n_nodes": np.array([2, 4])},
}


@pytest.mark.parametrize("method", SWEEPS)
def test_a_sweep_is_what_one_search_after_another_finds(method, model, data, tmp_path):
    how = {"metric": "logit_difference", "method": method}
    sweep = acdc.find(model, data, **how, **SWEEPS[method], folder=tmp_path)
    (several, values), *own = SWEEPS[method].items()
    one = METHODS[method].size_by
    alone = [acdc.find(model, data, **how, **{one: value}, **dict(own)) for value in values]
    assert several == one or several == f"{one}s"
    assert [found.value for found in sweep] == [str(value) for value in values] and len(sweep) == len(values)
    assert [found.circuit for found in sweep] == [found.circuit for found in alone]
    assert sweep.at(values[1]).circuit == sweep[1].circuit and sweep[1:][0] is sweep[1]
    assert f"{values[0]}: {sweep[0].circuit.n_edges}" in repr(sweep)
    written = "circuits.json" if METHODS[method].kind == "score" else f"{values[0]}/circuit.json"
    assert (tmp_path / written).exists()
    with pytest.raises(InputError, match="there is no circuit of 77: there are"):
        sweep.at(77)


# Folders.


def test_a_folder_takes_the_circuit_and_it_is_found_again(model, data, tmp_path, monkeypatch):
    first = acdc.find(model, data, **HOW, folder=tmp_path)
    assert not list(tmp_path.rglob(CHECKPOINT)) and list(tmp_path.rglob(first.FILE))
    monkeypatch.setattr("acdc.methods.driver.search", pytest.fail)
    again = acdc.find(model, data, **HOW, folder=str(tmp_path))
    assert again.circuit == first.circuit and again.effects == first.effects and again.model is model


def test_ctrl_c_leaves_a_checkpoint_where_one_was_asked_for(model, data, tmp_path, monkeypatch):
    real = Acdc.steps

    def stopped(self):
        """Raise what Ctrl-C raises, in the middle of the last layer."""
        for n, can_be_saved in real(self):
            if self.progress.layer == 0 and n:
                raise KeyboardInterrupt
            yield n, can_be_saved

    monkeypatch.setattr(Acdc, "steps", stopped)
    with pytest.raises(KeyboardInterrupt):
        acdc.find(model, data, **HOW, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    monkeypatch.setattr(Acdc, "steps", real)
    restored = []
    monkeypatch.setattr(Acdc, "restore", lambda self, state, real=Acdc.restore: restored.append(1) or real(self, state))
    again = acdc.find(model, data, **HOW, folder=tmp_path)
    assert restored and again.circuit == acdc.find(model, data, **HOW).circuit
    assert not (tmp_path / CHECKPOINT).exists()


# What is said.


def test_a_circuit_that_no_path_leads_through_is_said_to_be_one(model, data):
    with pytest.warns(UserWarning, match="no path leads from the embedding to the logits at threshold 1000"):
        found = acdc.find(model, data, metric="logit_difference", threshold=1000)
    assert not found.circuit.is_connected


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, r"method acdc needs threshold: give it as threshold=NUMBER or thresholds=\[...\]"),
        ({"method": "eap"}, "method eap needs n_edges"),
        ({"method": "hisp", "n_edges": 3}, "method hisp needs n_nodes"),
        ({"threshold": "much"}, "threshold must be a number, not 'much'"),
        ({"method": "edge_pruning", "sparsity_target": -0.5}, "sparsity_target must be from 0 to 2, not -0.5"),
        ({"threshold": [1, 2]}, "threshold is one number and thresholds a list of numbers"),
        ({"thresholds": 1}, "threshold is one number and thresholds a list of numbers"),
        ({"thresholds": []}, "threshold is one number and thresholds a list of numbers"),
        ({"thresholds": [1], "threshold": 1}, "method acdc needs threshold"),
        ({"method": "eap", "n_edges": 0.5}, "n_edges must be a whole number of 0 or more, not '0.5'"),
        ({"threshold": 1, "steps": 3}, "method acdc has no setting --steps"),
        ({"threshold": 1, "method": "none"}, "unknown method 'none'"),
        ({"threshold": 1, "metric": "none"}, "unknown metric 'none'"),
        ({"threshold": 1, "ablation": "none"}, "unknown ablation 'none'"),
        ({"method": "eap", "n_edges": 3, "metric": "kl_divergence"}, "eap by kl_divergence scores everything 0"),
        ({"method": "sp", "regularisation": 1, "engine": "plain"}, "method sp has no plain form"),
    ],
)
def test_what_cannot_be_asked_is_refused(how, message, model, data):
    with pytest.raises(InputError, match=message):
        acdc.find(model, data, **{"metric": "logit_difference", **how})


def test_a_bridge_is_not_taken_for_a_model(model, data):
    with pytest.raises(InputError, match=r"find needs a model of acdc\.load_model, not TransformerBridge"):
        acdc.find(model.bridge, data, **HOW)
