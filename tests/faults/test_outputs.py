"""Test outputs that cannot be written: one sentence has the path and the remedy, and what was there stays as it was."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import forks
from tests.faults.commands import FROM_ELSEWHERE, TO_FILES, TO_FOLDERS
from tests.faults.table import a_copy


@pytest.fixture
def copy() -> Iterator[Path]:
    with a_copy() as folder:
        yield folder


def refused(arguments: list[str], folder: Path, spoil: Callable[[], object] = forks.nothing) -> str:
    """Run a command; return the one sentence in which it is refused, while every file stays as it was."""
    before = forks.signatures(folder)
    ended = forks.run(arguments, folder, spoil)
    said = forks.one_sentence(ended)
    assert said, (ended.status, ended.err[-1500:])
    assert forks.changes(before, folder) == {}
    return said


@pytest.mark.parametrize(("arguments", "out"), TO_FILES.values(), ids=TO_FILES)
def test_a_folder_where_a_file_is_to_be_written(copy, arguments, out):
    (copy / out).mkdir()
    assert f"{out} is a folder and a file should be there" in refused([*arguments, out], copy)


@pytest.mark.parametrize(("arguments", "out"), TO_FILES.values(), ids=TO_FILES)
def test_a_file_where_the_folder_of_a_file_should_be(copy, arguments, out):
    assert "prompts.csv is a file and a folder should be there" in refused([*arguments, f"prompts.csv/{out}"], copy)


@pytest.mark.parametrize("arguments", TO_FOLDERS.values(), ids=TO_FOLDERS)
def test_a_file_where_a_folder_is_to_be_written(copy, arguments):
    assert "prompts.csv is a file and a folder should be there" in refused([*arguments, "prompts.csv"], copy)


def as_nobody() -> None:
    """Give up the rights of an administrator, who may write anywhere."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)


@pytest.mark.parametrize("arguments", [*(given for given, _ in TO_FILES.values()), *TO_FOLDERS.values()])
def test_a_folder_that_may_not_be_written_to(copy, arguments):
    copy.chmod(0o777)
    (copy / "closed").mkdir(mode=0o555)
    out = "closed/auc_corrupted.csv" if "auc-tables" in arguments else "closed/o.pdf"
    said = refused([*arguments, out], copy, as_nobody)
    assert "closed may not be read or written by you: change its permissions, or give another path" in said


LIMIT = 40
"""Bytes of a file that an almost full disk has room for: less than any output has."""


def fill_disk() -> None:
    """Make this process fail as on a full disk, once it writes more than ``LIMIT`` bytes to a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


QUICK = {name: ([*given], out) for name, (given, out) in TO_FILES.items() if name not in FROM_ELSEWHERE}
FULL = {**QUICK, **{name: (given, "o") for name, given in TO_FOLDERS.items()}}


@pytest.mark.parametrize(("arguments", "out"), FULL.values(), ids=FULL)
def test_a_disk_that_is_full(copy, arguments, out):
    """Where a command has several outputs, the others are whole or as they were."""
    ended = forks.run([*arguments, out], copy, fill_disk)
    said = forks.one_sentence(ended)
    # Of a temporary file that a library writes there is no name.
    assert "larger than a file may be here" in said or "(File too large)" in said, (ended.status, ended.err[-1500:])
    assert all(path.stat().st_size != LIMIT for path in copy.rglob("*") if path.is_file())
    assert not [path for path in copy.rglob("*.partial")]


def test_what_was_there_before_a_full_disk_stays(copy):
    before = (copy / "auc.csv").read_bytes()
    said = refused(["auc", "--recovery", "recovery.csv", "--out", "auc.csv"], copy, fill_disk)
    assert "auc.csv cannot be written" in said
    assert (copy / "auc.csv").read_bytes() == before


def test_a_folder_of_something_else_is_not_taken_for_a_models(copy):
    said = refused(["model", "--build", "planted", "--out", "found"], copy)
    assert "found holds something other than sha256.txt and its files: empty it, or give another one" in said


def test_a_model_in_place_of_another_has_nothing_of_it(copy):
    """The first one's file that says how weights are processed would change the new model."""
    assert forks.run(["model", "--build", "planted", "--processed", "--out", "o"], copy).status == 0
    assert forks.run(["model", "--build", "planted", "--out", "o"], copy).status == 0
    assert forks.files(copy / "o") == forks.files(copy / "planted")
