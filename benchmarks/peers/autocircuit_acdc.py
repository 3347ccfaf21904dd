"""Time tried edges of AutoCircuit's ACDC at GPT-2 small's shape. benchmarks/peers_acdc.py runs it.

Prints one line: by layer, wall and process seconds of each edge that was tried there, after one that warms up. Edges of
later receivers are removed at random but for a share, as a search would have left them. An edge is tried as in
``acdc_prune_scores``: from its receiver's layer on, with what senders before it write.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from auto_circuit.utils.ablation_activations import src_ablations
from auto_circuit.utils.graph_utils import patch_mode, patchable_model, set_all_masks
from auto_circuit.utils.tensor_ops import multibatch_kl_div
from gpt2 import N_LAYERS, Seconds, layer_of, print_seconds, random_model, random_prompts
from torch.nn.functional import log_softmax


@contextmanager
def trying(model, clean: torch.Tensor, corrupted: torch.Tensor) -> Iterator:
    """Yield what tries an edge: it returns the KL divergence with the edge removed."""
    patched, current = src_ablations(model, corrupted), src_ablations(model, clean)
    own = log_softmax(model(clean)[model.out_slice], -1)
    _, tokens, short_embed, mask = model.input_to_embed(clean)
    _, cache = model.run_with_cache(clean)
    residuals = [cache[f"blocks.{i}.hook_resid_pre"].clone() for i in range(N_LAYERS)]
    set_all_masks(model, val=0.0)

    def try_edge(edge) -> float:
        edge.patch_mask(model).data[edge.patch_idx] = 1.0
        start = int(edge.dest.module_name.split(".")[1])
        how = {"tokens": tokens, "shortformer_pos_embed": short_embed, "attention_mask": mask}
        out = model(residuals[start], start_at_layer=start, **how)[model.out_slice]
        return multibatch_kl_div(log_softmax(out, -1), own).item()

    with patch_mode(model, patched, curr_src_outs=current):
        yield try_edge


def main(n_prompts: int, n_pos: int, density: float, n_edges: int, layers: list[int]) -> Seconds:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    model = patchable_model(random_model(), factorized=True, slice_output="last_seq", separate_qkv=True)
    clean, corrupted = random_prompts(n_prompts, n_pos)
    found: Seconds = {}
    edges = sorted(model.edges, key=lambda edge: (-edge.dest.layer, edge.name))
    with torch.inference_mode(), trying(model, clean, corrupted) as try_edge:
        for edge in edges:
            layer = layer_of(edge.dest.module_name)
            of_layer = found.setdefault(layer, []) if layer in layers else None
            if of_layer is not None and len(of_layer) <= n_edges:
                wall, process = time.perf_counter(), time.process_time()
                try_edge(edge)
                of_layer.append((time.perf_counter() - wall, time.process_time() - process))
            edge.patch_mask(model).data[edge.patch_idx] = float(random.random() >= density)
    return {layer: seconds[1:] for layer, seconds in found.items()}


if __name__ == "__main__":
    print_seconds(main)
