"""Time tried edges of the original ACDC at GPT-2 small's shape. benchmarks/peers_acdc.py runs it.

PYTHONPATH must have a checkout of ArthurConmy/Automatic-Circuit-Discovery. Prints one line: by layer, wall and process
seconds of each edge that was tried there, after one that warms up. Edges of later receivers are removed at random but
for a share, as a search would have left them, and their hooks are there as a search adds them. Of each layer that is
asked for, the last one down from there is taken that has a receiver which leads on to the logits.
"""

from __future__ import annotations

import random
import time
from functools import partial

import torch
from acdc.acdc_utils import kl_divergence
from acdc.TLACDCEdge import EdgeType
from acdc.TLACDCExperiment import TLACDCExperiment
from gpt2 import Seconds, layer_of, print_seconds, random_model, random_prompts


def experiment(n_prompts: int, n_pos: int) -> TLACDCExperiment:
    model = random_model()
    clean, corrupted = random_prompts(n_prompts, n_pos)
    own = torch.log_softmax(model(clean), -1)[:, -1]
    metric = partial(kl_divergence, base_model_logprobs=own, last_seq_element_only=True)
    # The settings of its own main.py.
    return TLACDCExperiment(
        model=model, ds=clean, ref_ds=corrupted, threshold=0.0, metric=metric, verbose=False, indices_mode="normal",
        names_mode="normal", add_sender_hooks=True, add_receiver_hooks=False, remove_redundant=False,
    )  # fmt: skip


def edges_of(exp: TLACDCExperiment) -> list:
    """Return the edges into the current node: their place, and the edge."""
    node = exp.current_node
    senders = exp.corr.edges[node.name][node.index]
    return [((node.name, node.index, name, index), edge) for name, of in senders.items() for index, edge in of.items()]


def hook(exp: TLACDCExperiment) -> None:
    """Add the hooks that a step adds at the current node."""
    kind = exp.current_node.incoming_edge_type
    if kind != EdgeType.PLACEHOLDER:
        exp.add_receiver_hook(exp.current_node, override=True, prepend=True)
    if kind == EdgeType.DIRECT_COMPUTATION:
        exp.add_sender_hook(exp.current_node, override=True)


def tried(exp: TLACDCExperiment, n_edges: int) -> list[tuple[float, float]]:
    """Return wall and process seconds of edges that are tried at the current node, without the first."""
    found = []
    for _, edge in edges_of(exp)[: n_edges + 1]:
        edge.present = False
        wall, process = time.perf_counter(), time.process_time()
        exp.update_cur_metric(recalc_edges=False)
        found.append((time.perf_counter() - wall, time.process_time() - process))
        edge.present = True
    return found[1:]


def leave(exp: TLACDCExperiment, density: float) -> None:
    """Remove edges into the current node at random, and go on to the next node that leads on to the logits.

    On the way the original measures every node that does not: that is spared here, for no edge is tried there.
    """
    for place, edge in edges_of(exp):
        if edge.edge_type == EdgeType.ADDITION and random.random() >= density:
            exp.corr.remove_edge(*place)
    measure, exp.update_cur_metric = exp.update_cur_metric, lambda **_: None
    exp.cur_metric = 0.0
    exp.increment_current_node()
    exp.update_cur_metric = measure


def main(n_prompts: int, n_pos: int, density: float, n_edges: int, layers: list[int]) -> Seconds:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    random.seed(0)
    exp, found = experiment(n_prompts, n_pos), {}
    while layers and exp.current_node is not None:
        hook(exp)
        layer, kind = layer_of(exp.current_node.name), exp.current_node.incoming_edge_type
        if layer <= layers[0] and kind == EdgeType.ADDITION:
            found[layer] = tried(exp, n_edges)
            layers = [other for other in layers if other < layer]
        leave(exp, density)
    return found


if __name__ == "__main__":
    print_seconds(main)
