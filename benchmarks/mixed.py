"""Measure what mixed precision costs and measures twice: ACDC on a pinned model, in it and in float32.

Run: python -m benchmarks.mixed                (--help tells the rest; the package index is needed once)

Both run in one process with one thread. Seconds are the processor's, so that other work beside counts little.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import pandas as pd
import torch

import acdc
from acdc.catalogue import METRICS
from acdc.engine.load import device_of
from acdc.engine.memory import keep_freed_memory
from acdc.engine.model import Engine
from acdc.methods.acdc_fast import acdc_fast
from tests.search import decisions

SEARCHES = (("logit_difference", 0.15), ("kl_divergence", 0.1))


def row(weights: Any, data: Any, metric: str, threshold: float) -> dict[str, Any]:
    """Return one row of the table."""
    found, seconds = [], []
    for is_mixed in (False, True):
        engine = Engine(weights, data, ablation="corrupted", mixed=is_mixed)
        start = time.process_time()
        found.append(acdc_fast(engine, METRICS[metric].load(), threshold))
        seconds.append(time.process_time() - start)
    usual, mixed = found
    return {
        "metric": metric,
        "threshold": threshold,
        "tried": len(usual.trace),
        "kept": usual.circuit.n_edges,
        "same decisions": decisions(usual) == decisions(mixed),
        "circuits measured": mixed.evaluations,
        "of them twice": mixed.remeasured,
        "share": mixed.remeasured / mixed.evaluations,
        "float32, s": seconds[0],
        "mixed, s": seconds[1],
        "mixed / float32": seconds[1] / seconds[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-q4")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model = acdc.load_model(arguments.model)
    data = acdc.task_prompts(model, arguments.task, arguments.prompts)
    weights = model.weights.to(device_of(arguments.device), torch.float32)
    print(pd.DataFrame([row(weights, data, *search) for search in SEARCHES]).to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    with torch.no_grad():
        main()
