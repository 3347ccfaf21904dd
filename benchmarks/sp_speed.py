"""Time a step of SP: one residual stream with shares of nodes, against the same shares on every edge.

Run: python -m benchmarks.sp_speed --model data/default/models/smollm2-135m-q4 \\
         --dataset data/default/datasets/smollm2-135m-q4/ioi/discovery.safetensors

Both give the same metric and the same gradient with respect to the shares; they are timed in turns in one process, and
the medians are printed with their ratio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acdc.catalogue import METRICS
from acdc.data import Dataset
from acdc.engine.masked import Mask, MaskedModel
from acdc.graph import Circuit
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of


def on_edges(model: MaskedModel, share: Tensor) -> Tensor:
    """Return the logits with every node's share on all of its edges."""
    graph, mask = model.graph, Mask.of(Circuit.full(model.graph), model.weights.embed)
    is_port = torch.from_numpy(graph.has_direct[:-1])
    mlps = [(graph.sender_index[node], r) for r, node in enumerate(graph.receivers) if node.component == "mlp"]
    of_sender = torch.ones(len(graph.senders)).index_put((torch.tensor([s for s, _ in mlps]),), share[~is_port])
    mask.present = mask.present * of_sender[:, None]
    mask.direct = torch.cat([torch.where(is_port, share, 1.0), torch.ones(1)])
    return model.logits(mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--metric", default="logit_difference")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights = weights_of(load_bridge(arguments.model)).to("cpu", torch.float32)
    dataset = Dataset.load(arguments.dataset).select(slice(arguments.prompts))
    model = MaskedModel(weights, dataset, ablation="corrupted")
    metric = model.metric(METRICS[arguments.metric].load())
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "nodes": model.logits_of_nodes,
        "edges": lambda share: on_edges(model, share),
    }
    generator, seconds, gradients = torch.Generator().manual_seed(0), {name: [] for name in ways}, {}
    start = torch.rand(len(model.graph.receivers) - 1, generator=generator)
    for _ in range(arguments.repeats):
        for name, logits in ways.items():
            share, before = start.clone().requires_grad_(), time.perf_counter()
            (gradients[name],) = torch.autograd.grad(model.value(metric, logits(share)), share)
            seconds[name].append(time.perf_counter() - before)
    error = (gradients["nodes"] - gradients["edges"]).abs().max() / gradients["edges"].abs().max()
    nodes, edges = (float(np.median(seconds[name])) for name in ("nodes", "edges"))
    print(f"prompts {len(dataset)} x {dataset.clean.shape[1]} tokens, gradients equal to {error:.1e} of the largest")
    print(f"edges {edges:.2f} s, nodes {nodes:.2f} s a step, ratio {edges / nodes:.1f}")


if __name__ == "__main__":
    main()
