"""Compute what one search of ACDC costs on the models of MIB, by formula: no model is loaded, nothing is timed.

Run: python -m benchmarks.mib_cost        (IOI's 20 tokens, MIB's 100 prompts; --help tells the rest)

Edges are counted as MIB does, with a key and a value for each query head. The arithmetic is that which no exact method
avoids (``benchmarks.flops``), of receivers of sampled layers in random circuits that keep a share of all edges, times
the edges that a search with such a result tries around there. Hours are at half of an H100's 67 TFLOP/s in float32. GiB
are of weights and of what a search holds beside candidates.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd
import torch

from acdc.engine.memory import held, of_weights
from acdc.engine.runs import Rows
from acdc.models.architecture import Architecture
from benchmarks.acdc_speed import (
    GPT2,
    at_layer,
    nearest,
    random_background,
    random_prompts,
    sampled_layers,
    sampled_receivers,
    strata,
    stratum,
)
from benchmarks.flops import unavoidable
from benchmarks.gpu_report import LARGE, LLAMA

MODELS = {
    "GPT-2 small": GPT2,
    "Qwen2.5-0.5B": replace(
        LLAMA, n_layers=24, d_model=896, n_heads=14, n_kv_heads=2, d_head=64, d_mlp=4864, d_vocab=151936
    ),
    "Gemma-2-2B": replace(LARGE["Gemma-2-2B"], norm_after=True),
    "Llama-3.1-8B": replace(
        LLAMA, n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, d_head=128, d_mlp=14336, d_vocab=128256
    ),
}
DENSITIES = (0.02, 0.3)
"""The shares of edges that circuits keep."""
N_COLUMNS = 2
"""The logits that a logit difference reads at a prompt's last position."""
RATE = 67e12 / 2
"""Operations a second."""
FLOAT32, GIB = 4, 2**30


def cost(architecture: Architecture, rows: Rows, density: float, every: int) -> dict[str, float]:
    """Return the edges that a search tries, and the operations that these cost."""
    background = random_background(architecture.graph(), density)
    per_edge: dict[tuple[int, str], float] = {}
    for layer in sampled_layers(background.graph, every):
        circuit = at_layer(background, layer)
        for receiver in sampled_receivers(circuit, layer):
            index = circuit.graph.receiver_index[receiver]
            per_edge[stratum(receiver)] = unavoidable(architecture, circuit, index, rows, N_COLUMNS).total()
    tried = strata(background)
    return {
        "tried": sum(tried.values()),
        "operations": 1.0 * sum(n * per_edge[nearest(per_edge, key)] for key, n in tried.items()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--positions", type=int, default=20)
    parser.add_argument("--every", type=int, default=4, help="sample every so many layers")
    parser.add_argument("--models", choices=MODELS, nargs="+", default=[*MODELS])
    arguments = parser.parse_args()
    data, table = random_prompts(arguments.prompts, arguments.positions), []
    rows = Rows.of(data, torch.device("cpu"))
    for name in arguments.models:
        architecture = MODELS[name].per_query_head()
        graph = architecture.graph()
        for density in DENSITIES:
            found = cost(architecture, rows, density, arguments.every)
            bytes_held = of_weights(architecture, FLOAT32) + held(architecture, graph, data, FLOAT32)
            more = {"hours": found["operations"] / RATE / 3600, "GiB": bytes_held / GIB}
            table.append({"model": name, "edges": int(graph.exists.sum()), "kept": density} | found | more)
    print(pd.DataFrame(table).to_markdown(index=False, intfmt=",", floatfmt=("", "", "g", "", ".2g", ".2g", ".0f")))


if __name__ == "__main__":
    main()
