"""Run the command line in a forked child, which has imported the libraries and may be killed or spoilt.

Children are forks of a server that does nothing else, not of the tests' process: once that has computed a gradient
beside a device, pretended or real, autograd refuses to run in its forks.
"""

from __future__ import annotations

import fcntl
import io
import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from acdc.cli import main

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.faults.imports", "tests.faults.forks"])
MOST_PRINTED = 2**20
"""Bytes that a command can print."""
LONGEST = 30
"""Seconds after which a child is killed: a file must not make a command run for ever."""


class Ended(NamedTuple):
    """Hold how a command ended: its exit status, negative where a signal ended it, and what it printed."""

    status: int
    out: str
    err: str


def nothing() -> None:
    """Spoil nothing."""


def run(arguments: Sequence[object], folder: Path, spoil: Callable[[], object] = nothing) -> Ended:
    """Run ``acdc`` with these arguments, in a folder and in a child.

    Args:
        spoil: what the child does first, such as to replace a function by one that kills. It is pickled: a function of
            a module, or a ``partial`` of one.
    """
    pipes = [SERVER.Pipe(duplex=False) for _ in range(2)]
    ends = [end for _, end in pipes]
    for end in ends:
        fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, MOST_PRINTED)
    child = SERVER.Process(target=be_child, args=([str(argument) for argument in arguments], folder, spoil, *ends))
    child.start()
    for end in ends:
        end.close()
    child.join()
    texts = []
    for beginning, _ in pipes:
        with beginning, os.fdopen(beginning.fileno(), "rb", closefd=False) as printed:
            texts.append(printed.read().decode(errors="replace"))
    return Ended(child.exitcode, *texts)


def be_child(arguments: list[str], folder: Path, spoil: Callable[[], object], out: Connection, err: Connection) -> None:
    """Run the command, and end the process as Python would."""
    status = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
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
    """Return the sentence that a refused command ended with; an empty text where it did not end so."""
    said = re.sub(r"[^\n]*%\|[^\n]*\n?", "", ended.err)  # without progress bars
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("acdc: warning: ")]
    is_one = ended.status == 1 and len(lines) == 1 and lines[0].startswith("acdc: ")
    return lines[0] if is_one else ""


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def signatures(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return for every file of a folder, by name, what changes whenever the file does."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            known = os.stat(f"{place}/{name}")
            found[os.path.relpath(f"{place}/{name}", folder)] = (known.st_ino, known.st_mtime_ns, known.st_size)
    return found


def changes(before: dict[str, tuple[int, ...]], folder: Path) -> dict[str, bytes | None]:
    """Return the files of a folder that were made or changed, by name; None for one that is gone."""
    after = signatures(folder)
    gone: dict[str, bytes | None] = {name: None for name in before if name not in after}
    return gone | {name: (folder / name).read_bytes() for name, known in after.items() if before.get(name) != known}
