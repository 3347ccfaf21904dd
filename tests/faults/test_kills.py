"""Test kills of every rule's command: killed as it writes and run again, it gives the bytes of an unbroken run."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from acdc.models import wheel
from tests.checkout import ROOT
from tests.faults import forks
from tests.faults.commands import FROM_ELSEWHERE, TO_FILES, TO_FOLDERS
from tests.faults.table import a_copy

WHEEL = b"a wheel"
FETCH = ["download", "--requirement", "none==1", "--out", "o.whl", "--sha256", hashlib.sha256(WHEEL).hexdigest()]
RULES = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
TRAINS = {"retrain"}
"""Commands that take minutes. Its files are written as those of the others."""
CALLED = set(re.findall(r"python -m acdc ([\w-]+)", RULES)) - FROM_ELSEWHERE - TRAINS
COMMANDS: dict[str, list[str]] = {
    **{name: [*given, out] for name, (given, out) in TO_FILES.items() if given[0] in CALLED},
    **{name: [*given, "o"] for name, given in TO_FOLDERS.items()},
}
TIMED = {"circuits, timing": "o.csv"}
"""Outputs that say how long something took."""


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_replacing(nth: int, after: bool) -> None:
    """Make this process kill itself before or after it moves its nth file or folder into place."""
    seen: list[int] = []

    def counted(move: Callable) -> Callable:
        def moved(*places: object) -> None:
            seen.append(1)
            if len(seen) == nth and not after:
                kill()
            move(*places)
            if len(seen) == nth:
                kill()

        return moved

    os.replace, os.rename = counted(os.replace), counted(os.rename)


def kill_while_writing() -> None:
    """Make this process kill itself halfway through the first file that it writes, or after a library wrote one."""

    def half(path: Path, data: str | bytes, **_: object) -> None:
        with path.open("wb") as file:
            written = data.encode() if isinstance(data, str) else bytes(data)
            file.write(written[: len(written) // 2])
        kill()

    Path.write_text = Path.write_bytes = half
    kill_at_replacing(1, after=False)


MOMENTS: dict[str, Callable[[], None]] = {
    "while it writes": kill_while_writing,
    "after the first output": partial(kill_at_replacing, 1, after=True),
    "before the third output": partial(kill_at_replacing, 3, after=False),
}


def outputs(folder: Path, before: dict[str, tuple[int, ...]], name: str) -> dict[str, bytes | None]:
    """Return what a command made, without what says how long it took."""
    return {file: data for file, data in forks.changes(before, folder).items() if file != TIMED.get(name)}


@pytest.mark.parametrize(("name", "arguments"), COMMANDS.items(), ids=COMMANDS)
def test_a_killed_command_is_run_again_to_the_same_bytes(name, arguments):
    with a_copy() as folder:
        before = forks.signatures(folder)
        assert forks.run(arguments, folder).status == 0
        expected = outputs(folder, before, name)
    moments = list(MOMENTS.values()) if len(expected) > 1 else [kill_while_writing]
    assert was_killed(name, arguments, moments[0], expected)
    for spoil in moments[1:]:
        was_killed(name, arguments, spoil, expected)  # it may have fewer outputs


def was_killed(name: str, arguments: list[str], spoil: Callable[[], None], expected: dict[str, bytes | None]) -> bool:
    """Kill a command, check that it left only whole files, run it again; return whether it came to the kill."""
    with a_copy() as folder:
        before = forks.signatures(folder)
        status = forks.run(arguments, folder, spoil).status
        assert status in (-signal.SIGKILL, 0)
        left = outputs(folder, before, name)
        assert {file: data for file, data in left.items() if expected.get(file, data) != data} == {}  # no halves
        again = forks.run(arguments, folder)
        assert again.status == 0, again.err
        assert outputs(folder, before, name) == expected
        return status != 0


def test_every_rule_is_killed_here():
    assert CALLED and {arguments[0] for arguments in COMMANDS.values()} >= CALLED


def fetched(command: list[str]) -> str:
    """Write a wheel, as pip would."""
    Path(command[command.index("--dest") + 1], "none-1-py3-none-any.whl").write_bytes(WHEEL)
    return ""


def replace_pip() -> None:
    """Make this process ask no package index."""
    wheel.failure = fetched


def replace_pip_and_kill() -> None:
    replace_pip()
    kill_at_replacing(1, after=False)


def test_a_killed_download_leaves_no_half_of_a_wheel():
    with a_copy() as folder:
        before = forks.signatures(folder)
        assert forks.run(FETCH, folder, replace_pip_and_kill).status == -signal.SIGKILL
        assert not (folder / "o.whl").exists()
        assert forks.run(FETCH, folder, replace_pip).status == 0
        assert forks.changes(before, folder) == {"o.whl": WHEEL}
