"""A run that was killed goes on to the same bytes; a checkpoint of another run is none."""

from __future__ import annotations

import json

import pytest

from acdc import checkpoint
from acdc.engine.masked import masked_models
from acdc.methods.acdc import Progress, acdc
from acdc.methods.sp import Probe, sp
from acdc.metrics import KLDivergence
from tests.models import engine

SETTINGS = {"task": "ioi", "threshold": "0.05"}


class KilledError(Exception):
    pass


def run(path, kill_before_layer: int | None = None, progress: Progress | None = None) -> Progress:
    def after_layer(progress: Progress) -> None:
        checkpoint.save(path, progress, SETTINGS)
        if progress.layer == kill_before_layer:
            raise KilledError

    setup = engine("llama")
    return acdc(setup, setup.metric(KLDivergence), 0.05, progress=progress, after_layer=after_layer)


def as_bytes(progress: Progress) -> str:
    return json.dumps(
        [progress.layer, progress.evaluations, progress.float_error, progress.trace, progress.circuit.to_json()]
    )


@pytest.mark.parametrize("layer", (2, 1, 0, -1))
def test_resumed_run_is_the_same_bytes_as_one_without_a_break(tmp_path, layer):
    path = tmp_path / "new" / "checkpoint.json"
    with pytest.raises(KilledError):
        run(path, kill_before_layer=layer)
    resumed = checkpoint.load(path, engine("llama").graph, SETTINGS)
    assert resumed.layer == layer and resumed.trace
    assert as_bytes(run(path, progress=resumed)) == as_bytes(run(tmp_path / "whole.json"))


def test_checkpoint_round_trip_is_exact(tmp_path):
    found = run(tmp_path / "checkpoint.json")
    assert as_bytes(checkpoint.load(tmp_path / "checkpoint.json", found.circuit.graph, SETTINGS)) == as_bytes(found)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.json"]


@pytest.mark.parametrize("settings", [{**SETTINGS, "threshold": "0.5"}, {**SETTINGS, "seed": 0}, {}])
def test_checkpoint_of_other_settings_is_ignored(tmp_path, settings):
    run(tmp_path / "checkpoint.json")
    graph = engine("llama").graph
    assert as_bytes(checkpoint.load(tmp_path / "checkpoint.json", graph, settings)) == as_bytes(Progress.start(graph))


def test_no_checkpoint_is_a_new_run(tmp_path):
    graph = engine("llama").graph
    assert as_bytes(checkpoint.load(tmp_path / "none.json", graph, SETTINGS)) == as_bytes(Progress.start(graph))


def test_save_that_is_killed_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    found = run(tmp_path / "checkpoint.json")

    def killed(*_):
        raise KilledError

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KilledError):
        checkpoint.save(tmp_path / "checkpoint.json", Progress.start(found.circuit.graph), SETTINGS)
    assert as_bytes(checkpoint.load(tmp_path / "checkpoint.json", found.circuit.graph, SETTINGS)) == as_bytes(found)


def train(path, steps: int, state=None) -> Probe:
    setup = engine("llama")
    training = {"steps": steps, "learning_rate": 0.1, "seed": 0, "state": state}
    return sp(
        list(masked_models(setup, 2)),
        KLDivergence,
        0.5,
        **training,
        after_step=lambda training: checkpoint.save_training(path, training, SETTINGS),
    )


def test_training_goes_on_to_the_same_scores_as_without_a_break(tmp_path):
    path = tmp_path / "new" / "checkpoint.pt"
    train(path, 4)
    state = checkpoint.load_training(path, SETTINGS)
    assert len(state["trace"]) == 4 and [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]
    resumed, whole = train(path, 7, state), train(tmp_path / "whole.pt", 7)
    assert resumed.trace == whole.trace and (resumed.scores.values == whole.scores.values).all()


def test_training_of_other_settings_or_none_is_a_new_one(tmp_path):
    train(tmp_path / "checkpoint.pt", 1)
    assert checkpoint.load_training(tmp_path / "checkpoint.pt", {**SETTINGS, "seed": 1}) is None
    assert checkpoint.load_training(tmp_path / "none.pt", SETTINGS) is None
