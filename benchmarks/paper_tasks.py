"""Run every search of the paper's text tasks at one threshold, on random weights of the paper's shapes.

Run: python -m benchmarks.paper_tasks [--prompts 4] [--share 0.1] [--device cuda]

It shows that each of them runs at full size, and what it costs; the circuits of random weights mean nothing. The
threshold is a share of what separates a few circuits, from all edges to none, in the metric. GPT-2's tokenizer stands
in for that of attn-only-4l, and random sequences for induction's.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from acdc import tasks
from acdc.catalogue import METHODS, METRICS
from acdc.engine.model import Engine
from acdc.graph import Circuit
from acdc.methods.acdc_fast import acdc_fast
from acdc.methods.random_order import random_scores
from acdc.metrics import Metric
from acdc.models.architecture import Architecture
from benchmarks.acdc_speed import GPT2, random_weights
from tests.gpt2 import gpt2_tokenizer

CONFIG = Path(__file__).parents[1] / "workflow/config/paper.yaml"
ATTENTION_ONLY = replace(GPT2, n_heads=8, n_kv_heads=8, d_mlp=0, activation=None)
SHAPES: dict[str, Architecture] = {
    "gpt2": GPT2,
    "attn-only-4l": replace(ATTENTION_ONLY, n_layers=4, d_model=512, d_head=64),
    "redwood_attn_2l": replace(ATTENTION_ONLY, n_layers=2, d_model=256, d_head=32, n_ctx=512, positions="shortformer"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, help="instead of the paper's number")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", nargs="*", help="all, if left out")
    arguments = parser.parse_args()
    rows = []
    for task in yaml.safe_load(CONFIG.read_text())["tasks"]:
        if task["model"] in SHAPES and task["name"] in (arguments.tasks or [task["name"]]):
            for row in searches(task, arguments.prompts, arguments.share, arguments.device):
                rows.append(row)
                print(pd.DataFrame([row]).to_markdown(index=False, floatfmt=".4g"), flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4g"))


def searches(task: dict[str, Any], n_prompts: int | None, share: float, device: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each metric and ablation of a task."""
    definition = tasks.load(task["name"])
    dataset = definition.make_dataset(gpt2_tokenizer(), n_prompts or task["n_prompts"], task["seed"])
    weights = random_weights(SHAPES[task["model"]]).to(device, torch.float32)
    settings = METHODS["acdc"].parse(task.get("methods", {}).get("acdc", {}))
    for ablation in task["ablations"]:
        engine = Engine(weights, dataset, ablation=ablation)
        for search in task["searches"]:
            kind = METRICS[search["metric"]].load()
            threshold = share * spread(engine, engine.metric(kind))
            start = time.perf_counter()
            found = acdc_fast(engine, kind, threshold, settings["head_order"])
            yield {
                "task": task["name"],
                "metric": search["metric"],
                "ablation": ablation,
                "prompts": len(dataset),
                "tokens": dataset.clean.shape[1],
                "edges": engine.graph.n_edges,
                "tried": len(found.trace),
                "kept": found.circuit.n_edges,
                "seconds": time.perf_counter() - start,
                "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }


def spread(engine: Engine, metric: list[Metric]) -> float:
    """Return how far apart a metric is for all edges, none, and halves of them."""
    graph = engine.graph
    halves = [random_scores(graph, seed).top(round(0.5 * int(graph.exists.sum()))) for seed in range(3)]
    circuits = [Circuit.full(graph), Circuit.empty(graph), *halves]
    values = [engine.measure(metric, engine.finals(circuit))[0] for circuit in circuits]
    return max(values) - min(values)


if __name__ == "__main__":
    main()
