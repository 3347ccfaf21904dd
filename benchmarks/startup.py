"""Measure what every stage of the workflow costs before it computes, against ``import torch``.

Run: snakemake --cores all --configfile workflow/config/test.yaml && python -m benchmarks.startup

Of every stage one job of the small study is done again, as Snakemake would call it, in turns with ``import torch``;
what such a job computes takes a fraction of a second, so its time is that of starting.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONFIG = "workflow/config/test.yaml"
SMALL = "tracr_reverse"
"""A task whose jobs compute next to nothing."""
MADE = Path("results/test/evaluation.csv")


def commands() -> dict[str, str]:
    """Return a shell command of every stage, of the small task where the stage has one."""
    snakemake = [sys.executable, "-P", "-m", "snakemake", "--dry-run", "--forceall", "--printshellcmds"]
    listed = subprocess.run([*snakemake, "--configfile", CONFIG], capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for command in re.findall(r"^(?:Shell command: |\s+)(python -m acdc .*)$", listed, re.MULTILINE):
        stage = command.split()[3]
        # The shortest command of the small task: a search by as few methods as there is.
        rank = (SMALL not in command, len(command))
        if stage not in found or rank < (SMALL not in found[stage], len(found[stage])):
            found[stage] = command
    return found


def seconds(command: str) -> float:
    """Return how long a shell command takes, whose ``python`` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = time.monotonic()
    subprocess.run(command, shell=True, check=True, env={**os.environ, "PATH": path}, **quiet)
    return time.monotonic() - started


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    if not MADE.exists():
        parser.error(f"there is no {MADE}: run snakemake --cores all --configfile {CONFIG} first")
    every = {"import torch": f"{sys.executable} -c 'import torch'", **commands()}
    taken: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(repeats):
        for name, command in every.items():
            taken[name].append(seconds(command))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print("| stage | seconds | import torch |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['import torch']:.2f} |")


if __name__ == "__main__":
    main()
