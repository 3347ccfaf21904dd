"""Count what ACDC asks of a GPU, on a pretended one: kernels, uploads and downloads. No GPU is needed.

Run: python -m benchmarks.launches        (the graph of GPT-2 small; --help tells the rest)

Nodes are as many as in GPT-2 small and narrower, for how wide they are changes no count. Weights are random. Receivers
of sampled layers are pruned as the search would, in random circuits that keep a share of all edges. The last row is a
whole search: what a tried edge costs near a sampled receiver, times the edges that the search tries around there. A
kernel is an operation that computes or copies; an upload is one that the host awaits.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import pandas as pd
import torch

from acdc.catalogue import METRICS
from acdc.engine.model import Engine
from acdc.engine.removals import Removals
from acdc.graph import Circuit
from acdc.methods.acdc import Progress, sender_order
from acdc.methods.acdc_fast import Step
from acdc.methods.speculation import Speculation
from benchmarks.acdc_speed import (
    GPT2,
    at_layer,
    random_background,
    random_prompts,
    random_weights,
    sampled_layers,
    sampled_receivers,
    strata,
    stratum,
    total,
)
from tests.pretend_device import PretendDevice

NARROW = replace(GPT2, d_model=48, d_head=4, d_mlp=96, d_vocab=200)
REGIMES = {"sparse": (0.02, 1e-3), "dense": (0.3, 6e-6)}
"""The share of edges that circuits keep, and a threshold that keeps about that share at these widths."""
COUNTS = ("candidates", "kernels", "uploads", "free uploads", "downloads")


def counted(device: PretendDevice, engine: Engine, threshold: float, background: Circuit, every: int) -> list[dict]:
    """Return a row for each sampled receiver: what its edges cost."""
    metric, rows = engine.metric(METRICS["kl_divergence"].load()), []
    for layer in sampled_layers(engine.graph, every):
        progress = Progress(at_layer(background, layer), layer)
        removals, guesses = CountedRemovals(engine, progress.circuit, layer, metric), Speculation()
        for receiver in sampled_receivers(progress.circuit, layer):
            n_before, before, n_blocks = len(progress.trace), device.counts.copy(), removals.n_blocks
            n_measured = progress.evaluations
            step = Step(removals, guesses, progress, receiver, threshold)
            step.prune(sender_order(engine.graph, receiver, "descending"))
            tried = progress.trace[n_before:]
            kept = sum(not row.removed for row in tried)
            row = {
                "layer": layer,
                "stratum": stratum(receiver),
                "edges": len(tried),
                "kept": kept,
                "candidates": progress.evaluations - n_measured,
                "blocks": removals.n_blocks - n_blocks,
            }
            rows.append({name: (device.counts - before)[name] for name in COUNTS} | row)
    return rows


class CountedRemovals(Removals):
    """Remove edges as ``Removals`` does, and count the blocks of candidates that are measured."""

    n_blocks = 0

    def try_removing(self, senders: list[int], stays: list[bool]) -> list[float]:
        self.n_blocks += 1
        return super().try_removing(senders, stays)


def table(rows: list[dict], background: Circuit) -> tuple[pd.DataFrame, Counter, int]:
    """Return the counts of a block, by layer and in a whole search, the counts of that search, and its tried edges."""
    layers = pd.DataFrame(rows).drop(columns="stratum").groupby("layer", sort=False).sum()
    found = layers[["edges", "blocks", *COUNTS]].div(layers["blocks"], axis=0)
    found = found.rename(columns={"edges": "edges a block"}).drop(columns="blocks").assign(kept=layers["kept"])
    found["kept"] = layers["kept"] / layers["edges"]
    tried = strata(background)
    per_edge = {name: {row["stratum"]: row[name] / row["edges"] for row in rows} for name in (*COUNTS, "blocks")}
    whole = Counter({name: total(costs, tried) for name, costs in per_edge.items()})
    n_tried = sum(tried.values())
    a_block = {"edges a block": n_tried / whole["blocks"], **{name: whole[name] / whole["blocks"] for name in COUNTS}}
    return pd.concat([found, pd.DataFrame([a_block], index=["a block of a search"])]), whole, n_tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--positions", type=int, default=15)
    parser.add_argument("--every", type=int, default=3, help="sample every so many layers")
    parser.add_argument("--regimes", choices=REGIMES, nargs="+", default=[*REGIMES])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = random_prompts(arguments.prompts, arguments.positions, d_vocab=NARROW.d_vocab)
    with PretendDevice() as device:
        engine = Engine(random_weights(NARROW).to("pretend", torch.float32), data, ablation="corrupted")
        for regime in arguments.regimes:
            density, threshold = REGIMES[regime]
            background = random_background(engine.graph, density)
            rows, whole, n_tried = table(counted(device, engine, threshold, background, arguments.every), background)
            print(f"\n{regime}: {n_tried:,} tried edges, {whole['kernels']:,.0f} kernels\n")
            print(rows.to_markdown(floatfmt=".2f"), flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
