"""Time tried edges of AutoCircuit's ACDC at GPT-2 small's shape. benchmarks/peers_acdc.py runs it.

Prints one line: by layer, wall and process seconds of each edge that was tried there, after one that warms up. Edges of
later receivers are removed at random but for a share, as a search would have left them. An edge is tried as in
``acdc_prune_scores``: from its receiver's layer on, with what senders before it write.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from auto_circuit.utils.ablation_activations import src_ablations
from auto_circuit.utils.graph_utils import patch_mode, patchable_model, set_all_masks
from auto_circuit.utils.tensor_ops import multibatch_kl_div
from torch.nn.functional import log_softmax
from transformer_lens import HookedTransformer, HookedTransformerConfig

N_LAYERS = 12


def model_of():
    config = HookedTransformerConfig(
        n_layers=N_LAYERS, n_heads=12, d_model=768, d_head=64, d_mlp=3072, d_vocab=50257, n_ctx=64, act_fn="gelu_new",
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    model = HookedTransformer(config)
    model.cfg.use_attn_result = model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    model.eval()
    return patchable_model(model, factorized=True, slice_output="last_seq", separate_qkv=True)


def layer_of(edge) -> int:
    """Return the layer of an edge's receiver; of the logits, that after the last."""
    name = edge.dest.module_name
    return N_LAYERS if name.endswith("resid_post") else int(name.split(".")[1])


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


def main(n_prompts: int, n_pos: int, density: float, n_edges: int, layers: list[int]) -> dict[int, list]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    model, found = model_of(), {}
    clean, corrupted = (torch.randint(50257, (n_prompts, n_pos)) for _ in range(2))
    edges = sorted(model.edges, key=lambda edge: (-edge.dest.layer, edge.name))
    with torch.inference_mode(), trying(model, clean, corrupted) as try_edge:
        for edge in edges:
            layer = layer_of(edge)
            of_layer = found.setdefault(layer, []) if layer in layers else None
            if of_layer is not None and len(of_layer) <= n_edges:
                wall, process = time.perf_counter(), time.process_time()
                try_edge(edge)
                of_layer.append((time.perf_counter() - wall, time.process_time() - process))
            edge.patch_mask(model).data[edge.patch_idx] = float(random.random() >= density)
    return {layer: seconds[1:] for layer, seconds in found.items()}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        seconds = main(*map(int, sys.argv[1:3]), float(sys.argv[3]), int(sys.argv[4]), [*map(int, sys.argv[5:])])
    print(json.dumps(seconds))
