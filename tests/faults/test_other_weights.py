"""Test that nothing found with other weights is used, where the model's name, its prompts and its files' names stay.

Between the kill and the next run the model is made again: with its weights processed, reset, or reset by another seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acdc.found import Found
from tests.faults import forks
from tests.faults.small_study import BEHAVIOUR, DISCOVERY, ENGINE, FOUND, SEARCH, STABILITY, TEST
from tests.faults.table import a_copy

ONE = ["circuits", *ENGINE, *SEARCH, *DISCOVERY, "--methods", "acdc=0.01"]
FILES = ("circuit.json", "trace.csv", "nodes.csv")
CHANGES = {
    "processed": ["--build", "planted", "--processed"],
    "reset": ["--reset", "trained", "--seed", "0"],
    "another seed": ["--reset", "trained", "--seed", "1"],
}


def done(arguments: list[str], folder: Path) -> None:
    ended = forks.run(arguments, folder)
    assert ended.status == 0, ended.err


@pytest.fixture(scope="module", params=CHANGES.values(), ids=CHANGES)
def changed(request) -> Iterator[Path]:
    """Yield a study whose model and logits were made again, with a search by the new model in ``fresh``."""
    with a_copy() as folder:
        (folder / "planted").rename(folder / "trained")
        done(["model", *request.param, "--out", "planted"], folder)
        done([*BEHAVIOUR, "--out", "behaviour.csv", "--logits", DISCOVERY[-1], TEST[-1]], folder)
        done([*ONE, "--out", "fresh"], folder)
        yield folder


def weights_of(folder: Path, file: str) -> str:
    return json.loads((folder / file).read_text())["settings"]["weights_sha256"]


@pytest.mark.parametrize("left", ("begun", "found"))
def test_no_checkpoint_and_no_circuit_of_other_weights_is_used(changed, left):
    """``begun`` holds the checkpoint of a killed search, ``found`` all that a finished one leaves."""
    there = changed / left / "acdc/0.01"
    assert [path.name for path in there.iterdir()] == ["checkpoint.pt"] or (there / Found.FILE).exists()
    done([*ONE, "--out", left], changed)
    for name in FILES:
        assert (there / name).read_bytes() == (changed / "fresh/acdc/0.01" / name).read_bytes(), name


def test_no_resample_of_other_weights_is_used(changed):
    done([*STABILITY, "--work", "elsewhere", "--out", "fresh.csv"], changed)
    done([*STABILITY, "--work", "work", "--out", "stability.csv"], changed)
    assert (changed / "stability.csv").read_bytes() == (changed / "fresh.csv").read_bytes()


def test_the_weights_are_others_and_lead_to_others_where_they_compute_others(changed, request):
    fresh = "fresh/acdc/0.01/circuit.json"
    with a_copy() as before:
        assert weights_of(changed, fresh) != weights_of(before, FOUND)
        if "processed" not in request.node.name:  # processed weights compute the same
            assert Found.load(changed / fresh).circuit != Found.load(before / FOUND).circuit


def test_the_same_weights_made_again_go_on_where_the_search_was():
    with a_copy() as folder:
        done(["model", "--build", "planted", "--out", "planted"], folder)
        ended = forks.run([*ONE, "--out", "found"], folder)
        assert ended.status == 0 and "edge/s" not in ended.err  # a search would show its progress
        started = forks.run([*ONE, "--out", "begun"], folder)
        assert started.status == 0 and " 0/" not in started.err  # progress does not start at 0 edges
