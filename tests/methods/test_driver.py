"""Test the driver of all methods: a killed search goes on to the same bytes, and takes no results of other settings."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acdc.catalogue import METHODS, METRICS, methods
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.found import Found
from acdc.graph import Circuit, EdgeScores, Graph
from acdc.methods import driver
from acdc.methods.driver import CHECKPOINT, EVERY_SIZE, load_state, save_state, sizes_of
from tests.small_models import engine

LABELS = {"task": "ioi", "model": "tiny", "ablation": "corrupted"}
SETTINGS: dict[str, dict[str, Any]] = {
    "acdc": {**LABELS, "method": "acdc", "metric": "kl_divergence", "head_order": "descending"},
    "sp": {
        **{**LABELS, "method": "sp", "metric": "kl_divergence"},
        **{"steps": 25, "learning_rate": 0.4, "prompts_per_step": 3, "seed": 0},
    },
    "edge_pruning": {
        **{**LABELS, "method": "edge_pruning", "metric": "kl_divergence"},
        **{"steps": 25, "learning_rate": 8.0, "multiplier_learning_rate": 1.0, "warmup": 0.1, "target_warmup": 0.5},
        **{"prompts_per_step": 3, "seed": 0},
    },
}
VALUE = "0.05"
RUNS = [("acdc", 1), ("acdc", 3), ("sp", 1), ("sp", 12), ("edge_pruning", 1), ("edge_pruning", 12)]
runs = pytest.mark.parametrize(("method", "n_saves"), RUNS)
searches = pytest.mark.parametrize("method", SETTINGS)


class KilledError(Exception):
    pass


def find(settings: dict[str, Any], folder: Path | None = None, *values: str) -> list[Found]:
    return list(driver.find(engine("llama"), settings, values or (VALUE,), folder))


def kill(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], folder: Path, n_saves: int) -> None:
    """Run a search until its state was saved so many times."""
    saved = []

    def save(*arguments) -> None:
        save_state(*arguments)
        saved.append(arguments)
        if len(saved) == n_saves:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(driver, "save_state", save)
        find(settings, folder)
    assert [path.name for path in (folder / VALUE).iterdir()] == [CHECKPOINT]


@pytest.fixture
def restored(monkeypatch) -> list[dict[str, Any]]:
    """Return a list that every search adds to: the state that it went on from."""
    states: list[dict[str, Any]] = []
    for name in SETTINGS:
        kind = METHODS[name].load()
        real = kind.restore
        monkeypatch.setattr(kind, "restore", lambda self, state, real=real: states.append(state) or real(self, state))
    return states


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@runs
def test_a_killed_search_goes_on_to_the_same_bytes_as_one_without_a_break(
    method, n_saves, restored, monkeypatch, tmp_path
):
    settings = SETTINGS[method]
    kill(monkeypatch, settings, tmp_path / "killed", n_saves)
    (again,) = find(settings, tmp_path / "killed")
    (state,) = restored
    assert state["trace"]
    find(settings, tmp_path / "whole")
    assert files(tmp_path / "killed" / VALUE) == files(tmp_path / "whole" / VALUE)
    assert set(files(tmp_path / "whole" / VALUE)) == {Found.FILE, Found.TRACE}
    assert 0 < again.circuit.n_edges < again.circuit.graph.n_edges


@searches
@pytest.mark.parametrize("change", [{"weights_sha256": "another"}, {"task": "months"}])
def test_a_checkpoint_of_other_settings_is_not_used(method, change, restored, monkeypatch, tmp_path):
    kill(monkeypatch, SETTINGS[method], tmp_path, 2)
    (found,) = find(SETTINGS[method] | change, tmp_path)
    assert not restored
    (whole,) = find(SETTINGS[method] | change)
    assert (found.circuit.to_json(), found.result) == (whole.circuit.to_json(), whole.result)


@searches
def test_a_value_is_part_of_the_settings(method, restored, monkeypatch, tmp_path):
    kill(monkeypatch, SETTINGS[method], tmp_path, 2)
    (tmp_path / VALUE).rename(tmp_path / "0.5")
    (found,) = find(SETTINGS[method], tmp_path, "0.5")
    assert not restored and found.settings["value"] == "0.5"


@searches
def test_finished_results_are_read_and_those_of_other_settings_are_not(method, monkeypatch, tmp_path):
    (first,) = find(SETTINGS[method], tmp_path)
    calls, real = [], driver.search
    monkeypatch.setattr(driver, "search", lambda *arguments: calls.append(arguments) or real(*arguments))
    (again,) = find(SETTINGS[method], tmp_path)
    assert not calls
    assert (again.settings, again.result) == (first.settings, first.result)
    assert again.circuit.to_json() == first.circuit.to_json()
    (other,) = find(SETTINGS[method] | {"code_sha256": "another"}, tmp_path)
    assert len(calls) == 1 and other.settings["code_sha256"] == "another"
    (tmp_path / VALUE / Found.TRACE).unlink()
    find(SETTINGS[method] | {"code_sha256": "another"}, tmp_path)
    assert len(calls) == 2


def test_values_are_searched_one_after_another_each_in_its_folder(tmp_path):
    found = find(SETTINGS["acdc"], tmp_path, "1e-2", "10")
    assert [(one.settings["size_by"], one.value) for one in found] == [("threshold", "1e-2"), ("threshold", "10")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "1e-2"]
    assert found[0].circuit.n_edges > found[1].circuit.n_edges


@searches
def test_a_circuit_says_how_it_was_found(method):
    (found,) = find(SETTINGS[method])
    setup = engine("llama")
    kind = METRICS["kl_divergence"].load()
    assert SETTINGS[method].items() <= found.settings.items()
    (afresh,) = setup.measure(setup.metric(kind), setup.finals(found.circuit))
    assert found.result["final_metric"] == pytest.approx(afresh, abs=1e-5)
    assert found.result["origin"] == "found" and found.result["evaluations"] > 0
    assert found.trace is not None and (found.effects if method == "acdc" else len(found.trace) == 25)


def test_a_near_tie_is_warned_of():
    """A second search has the value of an effect as its threshold."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = find(SETTINGS["acdc"])
    effect = next(row.effect for row in found.trace.itertuples() if row.effect > float(VALUE) and not row.removed)
    with pytest.warns(UserWarning, match="decisions came as near to the threshold") as said:
        (tied,) = find(SETTINGS["acdc"], None, repr(effect))
    assert tied.result["near_ties"] >= 1
    assert f"{tied.result['near_ties']} of {len(tied.trace)} decisions" in str(said[0].message)


# Checkpoints.


def test_a_save_that_is_killed_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    def killed(*_):
        raise KilledError

    path, settings = tmp_path / "new" / CHECKPOINT, {"a": 1}
    save_state(path, settings, {"n": torch.tensor([0.1])})
    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KilledError):
        save_state(path, settings, {"n": torch.tensor([0.2])})
    assert load_state(path, settings)["n"] == torch.tensor([0.1])
    assert load_state(path, {"a": 2}) is None and load_state(tmp_path / "none.pt", settings) is None


# Scores.


def score(method: str, metric: str = "logit_difference", setup: Engine | None = None, **how) -> list[Found]:
    settings = {**LABELS, "method": method, "metric": metric, **METHODS[method].parse({})}
    return driver.score(setup or engine("llama"), settings, **how)


@pytest.mark.parametrize("method", [method.name for method in methods("score")])
def test_circuits_of_a_scoring_nest_and_are_measured(method):
    setup = engine("llama")
    metric = setup.metric(METRICS["logit_difference"].load())
    n_scored = int(setup.graph.exists.sum()) if METHODS[method].keeps == "edges" else len(setup.graph.receivers) - 1
    found = score(method, sizes=[9, 20, n_scored])
    size_by = f"n_{METHODS[method].keeps}"
    assert [(one.settings["size_by"], one.value) for one in found] == [(size_by, str(n)) for n in (9, 20, n_scored)]
    for one in found:
        (expected,) = setup.measure(metric, setup.finals(one.circuit))
        assert one.result["final_metric"] == pytest.approx(expected)
        if METHODS[method].keeps == "edges":
            assert one.circuit.present.sum() <= int(one.value)
    small, middle, large = (one.circuit.present for one in found)
    assert (middle <= large).all() and 0 < middle.sum() < large.sum()
    assert (small <= middle).all() or found[0].settings.get("select") in ("ratio", "program")
    assert found[-1].circuit == Circuit.full(setup.graph) and len(found[0].scores) == n_scored


def test_the_edges_are_those_of_the_largest_effects_whichever_their_sign_without_dead_ones():
    setup = engine("llama")
    (one,) = score("eap", sizes=[20])
    rows = one.scores
    assert one.settings["select"] == "absolute" and (rows["score"] > 0).any() and (rows["score"] < 0).any()
    matrix = np.full(setup.graph.exists.shape, np.nan)
    matrix[setup.graph.exists] = rows["score"]
    cut = EdgeScores(setup.graph, np.abs(matrix)).top(20)
    assert one.circuit == setup.without_dead(cut)
    assert one.row()["n_edges_pruned"] == len(cut) - len(one.circuit) > 0


def test_a_slope_by_a_distance_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr("acdc.methods.eap.over_prompts", pytest.fail)
    with pytest.raises(InputError, match="eap by kl_divergence scores everything 0"):
        score("eap", "kl_divergence", sizes=[1])


def scores(n_values: int | None, graph: Graph) -> EdgeScores:
    rng = np.random.default_rng(0)
    score = rng.random(graph.exists.shape) if n_values is None else rng.integers(n_values, size=graph.exists.shape)
    return EdgeScores(graph, np.where(graph.exists, score.astype(float), np.nan))


SMALL, LARGE = Graph(1, 2, 2), Graph(4, 4, 4)


def test_a_small_graph_is_cut_between_scores_and_never_between_equal_ones():
    n = int(SMALL.exists.sum())
    assert n <= EVERY_SIZE < LARGE.exists.sum()
    assert sizes_of(scores(None, SMALL), [0.5]) == list(range(1, n + 1))
    few = scores(3, SMALL)
    counts = [int((few.values == value).sum()) for value in (2, 1, 0)]
    assert sizes_of(few, [0.5]) == np.cumsum(counts).tolist()


def test_a_large_graph_is_cut_at_fractions_of_its_edges():
    n = int(LARGE.exists.sum())
    assert sizes_of(scores(None, LARGE), [0.5, 0.01, 0.5, 1e-9]) == [1, round(0.01 * n), round(0.5 * n)]
