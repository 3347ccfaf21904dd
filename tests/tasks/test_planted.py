"""Test the planted model: it does its task with the circuit that was planted, and ACDC finds exactly that."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from acdc import tasks
from acdc.analysis.recovery import Confusion, edge_confusion
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.methods.acdc_fast import acdc_fast
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.toy import planted

TASK = tasks.load("planted")
DATASET = TASK.make_dataset(None, 20, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    planted.build(folder)
    return load_bridge(folder)


@pytest.fixture(scope="module")
def engine(model) -> Engine:
    return Engine(weights_of(model), DATASET, ablation="corrupted")


@pytest.fixture(scope="module")
def find(engine):
    return cache(lambda threshold, metric="logit_difference": search(engine, threshold, metric))


def search(engine: Engine, threshold: float, metric: str) -> Circuit:
    return acdc_fast(engine, tasks.metrics_of("planted")[metric], threshold).circuit


@pytest.fixture(scope="module")
def known(engine) -> Circuit:
    return tasks.known_circuits("planted", "planted")["planted"](engine.graph)


def test_model_answers_every_prompt(model):
    with torch.no_grad():
        answers = model(DATASET.clean)[:, -1].argmax(-1)
    assert torch.equal(answers, DATASET.targets["correct"])


def test_corrupted_prompts_have_other_answers(model):
    with torch.no_grad():
        answers = model(DATASET.corrupted)[:, -1].argmax(-1)
    assert torch.equal(answers, DATASET.targets["incorrect"])
    assert (DATASET.targets["correct"] != DATASET.targets["incorrect"]).all()


def test_known_circuit_alone_answers_every_prompt_and_needs_all_its_addition_edges(engine, known):
    def accuracy(circuit: Circuit) -> float:
        answers = engine.circuit_logits(circuit).argmax(-1)
        return (answers == DATASET.targets["correct"]).float().mean().item()

    assert known.n_edges == 10
    assert accuracy(known) == 1
    for sender, receiver in zip(*known.present.nonzero(), strict=True):
        less = known.copy()
        less.present[sender, receiver] = False
        assert accuracy(less) < 0.5


@pytest.mark.parametrize("threshold", (0.1, 1.0))
def test_acdc_finds_exactly_the_known_circuit(find, known, threshold):
    assert find(threshold).to_json() == known.to_json()
    assert edge_confusion(find(threshold), known) == Confusion(10, 0, 0, known.graph.n_edges - 10)


def test_low_threshold_keeps_more(find, known):
    counts = edge_confusion(find(0.0001), known)
    assert counts.tpr == 1 and counts.fp > 0


def test_high_threshold_loses_some(find, known):
    counts = edge_confusion(find(9.0), known)
    assert counts.tpr < 1 and counts.fp == 0


def test_built_twice_is_the_same_bytes(tmp_path):
    for name in "ab":
        planted.build(tmp_path / name)
    for file in ("model.safetensors", "native.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_circuit_is_known_of_no_other_model():
    with pytest.raises(InputError, match="of model 'gpt2', only of planted: leave known_circuit out"):
        tasks.known_circuits("planted", "gpt2")
