"""Time tried edges of ACDC at GPT-2 small's shape: ours, the original's and AutoCircuit's, in turns in one run.

Run: python -m benchmarks.peers_acdc --original /path/to/its/python --checkout /path/to/Automatic-Circuit-Discovery \\
         --autocircuit /path/to/its/python

The paths are of Pythons that have the peers' libraries, and of a checkout of ArthurConmy/Automatic-Circuit-Discovery
(bc99ace8 was tried, with TransformerLens 1.6.1; AutoCircuit 1.0.1 with 2.18); none of them comes with acdc. All have
random weights, the same prompts in number and length, KL, and one thread.

Our search is run whole, once. Then edges are tried at a few layers, in turns: ours in the circuit that it found, the
peers' in random circuits that keep a share as large. The peers' whole searches are extrapolated: seconds per tried edge
at the nearest layer that was measured, times the edges that are tried there: by the original those that our search
tried, and by AutoCircuit all, for it skips none. Seconds of the process are printed beside those of the wall, for a
machine with other work stretches the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from acdc.engine.memory import keep_freed_memory
from acdc.engine.model import Engine
from acdc.engine.removals import Removals
from acdc.graph import Circuit
from acdc.methods import speculation
from acdc.methods.acdc import Progress, sender_order
from acdc.methods.acdc_fast import Step
from acdc.metrics import KLDivergence
from benchmarks.acdc_speed import (
    at_layer,
    full_search,
    random_prompts,
    random_weights,
    sampled_receivers,
    strata,
    synchronise,
    tried_in,
)

PEERS = Path(__file__).parent / "peers"
LAYERS = (12, 11, 6, 1)
"""The logits, and a late, a middle and an early layer."""
Seconds = dict[int, tuple[float, float]]
"""By layer, wall and process seconds of one tried edge."""


def ours(engine: Engine, background: Circuit, threshold: float) -> Seconds:
    """Prune a receiver of each kind at the sampled layers, as the search would."""
    metric, found = engine.metric(KLDivergence), {}
    for layer in LAYERS:
        progress = Progress(at_layer(background, layer), layer)
        removals, guesses = Removals(engine, progress.circuit, layer, metric), speculation.Speculation()
        wall, process = time.perf_counter(), time.process_time()
        for receiver in sampled_receivers(progress.circuit, layer):
            step = Step(removals, guesses, progress, receiver, threshold)
            step.prune(sender_order(engine.graph, receiver, "descending"))
        synchronise(engine)
        spent, n_tried = (time.perf_counter() - wall, time.process_time() - process), len(progress.trace)
        if n_tried:
            found[layer] = spent[0] / n_tried, spent[1] / n_tried
    return found


def theirs(python: Path, script: str, arguments: argparse.Namespace, **environment: str) -> Seconds:
    """Try a peer's edges in a process of its own, after one a layer that warms up."""
    sizes = (arguments.prompts, arguments.tokens, arguments.density, arguments.edges, *LAYERS)
    command = [python, PEERS / script, *map(str, sizes)]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    result = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | one_thread | environment
    )
    by_layer = json.loads(result.stdout.strip().splitlines()[-1]).items()
    return {int(layer): (median(w for w, _ in of), median(p for _, p in of)) for layer, of in by_layer}


def edges_by_layer(tried: Counter) -> Counter:
    """Return the edges that a search tries, by layer of their receiver."""
    found: Counter = Counter()
    for (layer, _), n in tried.items():
        found[layer] += n
    return found


def extrapolated(seconds: Seconds, tried: Counter, which: int) -> float:
    """Return wall (0) or process (1) seconds of a whole search."""
    return sum(n * seconds[min(seconds, key=lambda known: abs(known - layer))][which] for layer, n in tried.items())


def row_of(name: str, runs: list[Seconds], tried: Counter) -> dict[str, object]:
    """Return a row of the table: medians over the repeats."""
    layers = {layer: 1000 * median(run[layer][1] for run in runs) for layer in runs[0]}
    wall, process = (median(extrapolated(run, tried, which) for run in runs) for which in (0, 1))
    return {"of": name, "tried": sum(tried.values()), "wall, s": wall, "process, s": process, **layers}


def searched(engine: Engine, threshold: float) -> tuple[Progress, dict[str, object]]:
    """Run our search whole, and return it with its row of the table."""
    started = time.process_time()
    found = full_search(engine, KLDivergence, threshold, minutes=60)
    if found is None:
        raise SystemExit("our search takes longer than an hour here: give a higher --threshold")
    tried, process = sum(tried_in(found[0]).values()), time.process_time() - started
    return found[0], {"of": "ours, whole", "tried": tried, "wall, s": found[1], "process, s": process}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, help="a Python that has TransformerLens 1.6.1")
    parser.add_argument("--checkout", type=Path, help="of ArthurConmy/Automatic-Circuit-Discovery")
    parser.add_argument("--autocircuit", type=Path, help="a Python that has AutoCircuit")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=15)
    parser.add_argument("--threshold", type=float, default=3e-4, help="of our search; the peers try single edges")
    parser.add_argument("--density", type=float, default=0.03, help="the share of edges that the peers' circuits keep")
    parser.add_argument("--edges", type=int, default=4, help="that peers try at each layer")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if (arguments.original is None) != (arguments.checkout is None):
        parser.error("--original and --checkout go together")
    return arguments


def main() -> None:
    arguments = parse()
    keep_freed_memory()  # as jobs do
    torch.set_num_threads(1)
    engine = Engine(random_weights(), random_prompts(arguments.prompts, arguments.tokens), ablation="corrupted")
    progress, whole = searched(engine, arguments.threshold)
    background, some = progress.circuit, edges_by_layer(tried_in(progress))
    every = edges_by_layer(strata(Circuit.full(engine.graph)))
    print(json.dumps(whole | {"kept": int(background.present.sum())}), flush=True)
    runs: dict[str, list[Seconds]] = {"ours": [], "the original": [], "AutoCircuit": []}
    for _ in range(arguments.repeats):
        runs["ours"].append(ours(engine, background, arguments.threshold))
        if arguments.original:
            paths = {"PYTHONPATH": str(arguments.checkout)}
            runs["the original"].append(theirs(arguments.original, "original_acdc.py", arguments, **paths))
        if arguments.autocircuit:
            runs["AutoCircuit"].append(theirs(arguments.autocircuit, "autocircuit_acdc.py", arguments))
        print(json.dumps({name: of[-1] for name, of in runs.items() if of}), flush=True)
    tried = {"ours": some, "the original": some, "AutoCircuit": every}
    rows = [row_of(f"{name}, extrapolated", of, tried[name]) for name, of in runs.items() if of]
    table = pd.DataFrame([whole, *rows])
    by_layer = sorted((name for name in table if isinstance(name, int)), reverse=True)
    table = table[[*whole, *by_layer]].rename(columns={layer: f"layer {layer}, ms" for layer in by_layer})
    table.insert(4, "ratio, process", table["process, s"] / table["process, s"][0])
    print(f"torch {torch.__version__}; process seconds of a tried edge by layer, medians")
    print(table.to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    with torch.no_grad():
        main()
