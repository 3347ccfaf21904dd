"""Circuits from Python, with texts and a model's own tokenizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import acdc
from acdc.api import Model, read_prompts
from acdc.catalogue import METHODS
from acdc.data import Dataset
from acdc.errors import InputError
from acdc.methods.driver import CHECKPOINT
from tests.small_models import build

CLEAN = ["one two one", "one one two", "two two one"]
CORRUPTED = ["two one two", "two one one", "one two one"]
WORDS = {"correct": ["one", "two", "one"], "incorrect": ["two", "one", "two"]}
THRESHOLD = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    build("gpt2", path)
    return path


@pytest.fixture(scope="module")
def model(folder) -> Model:
    return acdc.load_model(folder)


@pytest.fixture(scope="module")
def data(model) -> Dataset:
    return acdc.prompts(model, CLEAN, CORRUPTED, **WORDS)


def test_import_is_quick_for_torch_is_imported_when_it_is_needed():
    code = "import sys, acdc; dir(acdc); acdc.Graph; sys.exit('torch' in sys.modules)"
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
    assert fast.circuit.to_json() == plain.circuit.to_json()
    decided = ["receiver", "sender", "kind", "removed"]
    assert fast.trace[decided].equals(plain.trace[decided])
    np.testing.assert_allclose(fast.trace["effect"], plain.trace["effect"], atol=1e-4)
    assert fast.result["final_metric"] == pytest.approx(plain.result["final_metric"], abs=1e-4)
    assert 0 < fast.circuit.n_edges < fast.circuit.graph.n_edges
    assert (fast.settings["engine"], plain.settings["engine"]) == ("fast", "plain")
    assert plain.result["evaluations"] == len(plain.trace)


def test_split_embeddings_are_two_senders(model, data):
    how = {"metric": "logit_difference", "threshold": THRESHOLD, "split_embed": True, "precision": "float64"}
    fast, plain = (acdc.find(model, data, engine=engine, **how) for engine in ("fast", "plain"))
    assert fast.circuit.to_json() == plain.circuit.to_json() and fast.circuit.graph.split_embed


def test_what_was_found_says_what_it_was_found_with_and_survives_its_file(model, data, tmp_path):
    found = acdc.find(model, data, metric="logit_difference", threshold=THRESHOLD, head_order="ascending")
    expected = {"model": "tiny", "task": "prompts", "method": "acdc", "size_by": "threshold", "value": str(THRESHOLD)}
    expected |= {"head_order": "ascending", "weights_sha256": model.sha256, "dataset_sha256": data.sha256}
    assert expected.items() <= found.settings.items()
    found.save(tmp_path)
    again = acdc.load(tmp_path / found.FILE, tmp_path / found.TRACE)
    assert again.circuit.to_json() == found.circuit.to_json() and again.settings == found.settings
    assert again.effects == found.effects


def test_a_folder_takes_the_circuit_and_it_is_found_again(model, data, tmp_path, monkeypatch):
    how = {"metric": "logit_difference", "threshold": THRESHOLD, "folder": tmp_path}
    first = acdc.find(model, data, **how)
    assert not list(tmp_path.rglob(CHECKPOINT)) and list(tmp_path.rglob(first.FILE))
    monkeypatch.setattr("acdc.methods.driver.search", pytest.fail)
    assert acdc.find(model, data, **how).circuit.to_json() == first.circuit.to_json()


SIZES = {"acdc": {"threshold": "0.1"}, "sp": {"regularisation": 1, "steps": 5}, "hisp": {"n_nodes": 3}}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_circuit(method, model, data):
    size = SIZES.get(method, {"n_edges": 5})
    found = acdc.find(model, data, metric="logit_difference", method=method, **size)
    assert found.settings["method"] == method and found.result["origin"] == "found"
    if "n_edges" in size:
        assert found.circuit.present.sum() == 5


# Prompts.


def test_prompts_are_tokens_of_the_model_and_answers_follow_a_space(model, data):
    tokenizer = model.tokenizer
    assert [tokenizer.decode(row) for row in data.clean] == CLEAN
    assert [tokenizer.decode(row) for row in data.corrupted] == CORRUPTED
    assert [tokenizer.decode(token) for token in data.targets["correct"]] == [f" {word}" for word in WORDS["correct"]]
    assert data.scored[:, -1].all() and data.scored.sum() == len(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": CLEAN[:2]}, "there are 2 clean, 3 corrupted, 3 correct, 3 incorrect"),
        ({"incorrect": ["two"]}, "3 correct, 1 incorrect"),
        ({"clean": [], "corrupted": [], "correct": [], "incorrect": []}, "there are 0 clean"),
        ({"corrupted": ["two one", *CORRUPTED[1:]]}, "has 3 tokens and .* has 2"),
        ({"correct": ["three", "two", "one"]}, "' three'"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(change, message, model):
    with pytest.raises(InputError, match=message):
        acdc.prompts(model, **{"clean": CLEAN, "corrupted": CORRUPTED, **WORDS, **change})


def test_prompts_come_from_a_file_too(model, data, tmp_path):
    rows = zip(CLEAN, CORRUPTED, *WORDS.values(), strict=True)
    lines = ["clean,corrupted,correct,incorrect", *(",".join(row) for row in rows)]
    (tmp_path / "prompts.csv").write_text("\n".join(lines))
    assert read_prompts(model, tmp_path / "prompts.csv").sha256 == data.sha256
    (tmp_path / "prompts.csv").write_text("\n".join(lines).replace("corrupted", "other"))
    with pytest.raises(InputError, match=r"prompts\.csv has no column corrupted"):
        read_prompts(model, tmp_path / "prompts.csv")


# What is refused.


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "method acdc needs threshold: give it as threshold=NUMBER"),
        ({"method": "eap"}, "method eap needs n_edges"),
        ({"method": "hisp", "n_edges": 3}, "method hisp needs n_nodes"),
        ({"threshold": "much"}, "threshold must be a number, not 'much'"),
        ({"method": "eap", "n_edges": 0.5}, "n_edges must be a number, not '0.5'"),
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


def test_a_model_of_other_weights_has_another_digest(folder, tmp_path):
    build("gpt2", tmp_path / "tiny", seed=1)
    assert acdc.load_model(tmp_path / "tiny").sha256 != acdc.load_model(folder).sha256
