"""Time attribution patching at GPT-2 small's shape: EAP, and EAP-IG of five steps, beside AutoCircuit's.

Run: python -m benchmarks.gradient_speed --autocircuit /path/to/its/python

The path is of a Python that has AutoCircuit (1.0.1 was tried, with TransformerLens 2.18); none of it comes with acdc.
Both have random weights, and the same prompts in number and length. Each repeat of theirs follows one of ours, in a
process of its own, one thread each; minima and medians are printed with their ratios. Theirs takes one gradient more
for integrated gradients of as many samples: the seconds are of all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from statistics import median

import torch

from acdc.engine.model import Engine
from acdc.methods.eap import eap, eap_ig
from acdc.metrics import LogitDifference
from benchmarks.acdc_speed import random_prompts, random_weights

PEER = Path(__file__).parent / "peers/autocircuit_eap.py"


def ours(engine: Engine, steps: int) -> dict[str, float]:
    seconds = {}
    for name, method in (
        ("eap", lambda: eap(engine, LogitDifference)),
        ("eap_ig", lambda: eap_ig(engine, LogitDifference, ig_steps=steps, ig_ends="ablated")),
    ):
        started = time.perf_counter()
        method()
        seconds[name] = time.perf_counter() - started
    return seconds


def theirs(python: Path, n_prompts: int, n_pos: int, steps: int) -> dict[str, float]:
    """Run theirs once after one run that warms up, in a process of its own."""
    command = [python, PEER, *map(str, (n_prompts, n_pos, steps, 2))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autocircuit", type=Path, help="a Python that has AutoCircuit")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = random_prompts(arguments.prompts, arguments.tokens)
    engine = Engine(random_weights(), data, ablation="corrupted")
    ours(engine, arguments.steps)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(arguments.repeats):
        runs["ours"].append(ours(engine, arguments.steps))
        if arguments.autocircuit:
            runs["theirs"].append(theirs(arguments.autocircuit, arguments.prompts, arguments.tokens, arguments.steps))
    for name in ("eap", "eap_ig"):
        values = {whose: [run[name] for run in of] for whose, of in runs.items() if of}
        said = [f"{whose} {min(of):.2f} s (median {median(of):.2f})" for whose, of in values.items()]
        if arguments.autocircuit:
            said.append(f"ratio of minima {min(values['ours']) / min(values['theirs']):.2f}")
        print(f"{name}: {', '.join(said)}")


if __name__ == "__main__":
    main()
