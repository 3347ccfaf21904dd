"""Run the command line in a forked child: its libraries are there already, and it may be killed or spoilt."""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import acdc
from acdc.cli import main

LONGEST = 120
"""Seconds after which a child is killed: a file must not make a command run for ever."""


class Ended(NamedTuple):
    """How a command ended: its exit status, less than 0 where a signal ended it, and what it printed."""

    status: int
    out: str
    err: str


def import_all() -> None:
    """Import what commands import when they run, so that no child has to."""
    for module in pkgutil.walk_packages(acdc.__path__, "acdc."):
        if module.name != "acdc.__main__":
            importlib.import_module(module.name)


def run(arguments: Sequence[object], folder: Path, spoil: Callable[[], object] = lambda: None) -> Ended:
    """Run ``acdc`` with these arguments in a folder, in a child.

    Args:
        spoil: what the child does first, such as to replace a function by one that kills.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            be_child([str(argument) for argument in arguments], folder, spoil, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Ended(os.waitstatus_to_exitcode(status), *texts)


def be_child(arguments: list[str], folder: Path, spoil: Callable[[], object], out: int, err: int) -> None:
    """Run the command, and end the process as Python would."""
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(i, "wb"), write_through=i == 2) for i in (1, 2))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LONGEST)
        os.chdir(folder)
        torch.set_num_threads(1)
        spoil()
        main(arguments)
        status = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def one_sentence(ended: Ended) -> str:
    """Return the sentence that a refused command ended with; the empty text where it did not end so."""
    said = re.sub(r"[^\n]*%\|[^\n]*\n?", "", ended.err)  # without progress bars
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("acdc: warning: ")]
    is_one = ended.status == 1 and len(lines) == 1 and lines[0].startswith("acdc: ")
    return lines[0] if is_one else ""


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
