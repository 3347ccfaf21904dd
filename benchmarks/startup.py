"""Measure what every stage of the workflow costs before it computes, against ``import torch``.

Run it in a checkout where the small study is finished (snakemake --configfile workflow/config/test.yaml). Of every
stage one job of that study is done again, as Snakemake would call it, in turns with ``import torch``; what such a job
computes takes a fraction of a second, so its time is that of starting.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

CONFIG = "workflow/config/test.yaml"
SMALL = "tracr_reverse"
"""A task whose jobs compute next to nothing."""
ROUNDS = 5


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
    """Return how long a shell command takes."""
    started = time.monotonic()
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Print a table of medians."""
    every = {"import torch": f"{sys.executable} -c 'import torch'", **commands()}
    taken: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(ROUNDS):
        for name, command in every.items():
            taken[name].append(seconds(command))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print("| stage | seconds | import torch |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['import torch']:.2f} |")


if __name__ == "__main__":
    main()
