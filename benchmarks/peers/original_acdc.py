"""Time tried edges of the original ACDC at GPT-2 small's shape. benchmarks/peers_acdc.py runs it.

PYTHONPATH must have a checkout of ArthurConmy/Automatic-Circuit-Discovery. Prints one line: by layer, wall and process
seconds of each edge that was tried there, after one that warms up. Edges of later receivers are removed at random but
for a share, as a search would have left them, and their hooks are there as a search adds them. Of each layer that is
asked for, the last one down from there is taken that has a receiver which leads on to the logits.
"""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import redirect_stdout
from functools import partial

import torch
from acdc.acdc_utils import kl_divergence
from acdc.TLACDCEdge import EdgeType
from acdc.TLACDCExperiment import TLACDCExperiment
from transformer_lens import HookedTransformer, HookedTransformerConfig

N_LAYERS = 12


def experiment(n_prompts: int, n_pos: int) -> TLACDCExperiment:
    config = HookedTransformerConfig(
        n_layers=N_LAYERS, n_heads=12, d_model=768, d_head=64, d_mlp=3072, d_vocab=50257, n_ctx=64, act_fn="gelu_new",
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    model = HookedTransformer(config)
    model.cfg.use_attn_result = model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    clean, corrupted = (torch.randint(50257, (n_prompts, n_pos)) for _ in range(2))
    own = torch.log_softmax(model(clean), -1)[:, -1]
    metric = partial(kl_divergence, base_model_logprobs=own, last_seq_element_only=True)
    # The settings of its own main.py.
    return TLACDCExperiment(
        model=model, ds=clean, ref_ds=corrupted, threshold=0.0, metric=metric, verbose=False, indices_mode="normal",
        names_mode="normal", add_sender_hooks=True, add_receiver_hooks=False, remove_redundant=False,
    )  # fmt: skip


def layer_of(name: str) -> int:
    """Return the layer of a hook; of the logits, that after the last."""
    return N_LAYERS if name.endswith("resid_post") else int(name.split(".")[1])


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


def main(n_prompts: int, n_pos: int, density: float, n_edges: int, layers: list[int]) -> dict[int, list]:
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
    with redirect_stdout(sys.stderr):
        seconds = main(*map(int, sys.argv[1:3]), float(sys.argv[3]), int(sys.argv[4]), [*map(int, sys.argv[5:])])
    print(json.dumps(seconds))
