"""Give the scripts beside this file, which run under the peers' own Pythons, the model and the prompts that they time.

The model is GPT-2 small's shape with random weights, as in ``benchmarks.acdc_speed``, but in TransformerLens: of the
version that the peer needs. acdc is not installed there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

N_LAYERS, D_VOCAB = 12, 50257
Seconds = dict[int, list[tuple[float, float]]]
"""By layer, wall and process seconds of each tried edge."""


def random_model() -> HookedTransformer:
    """Return the model, with each head's output and the inputs of q, k, v and MLPs apart, as peers need them."""
    config = HookedTransformerConfig(
        n_layers=N_LAYERS, n_heads=12, d_model=768, d_head=64, d_mlp=3072, d_vocab=D_VOCAB, n_ctx=64, act_fn="gelu_new",
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    model = HookedTransformer(config)
    model.cfg.use_attn_result = model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    return model.eval()


def random_prompts(n_prompts: int, n_pos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens of clean and of corrupted prompts."""
    clean, corrupted = torch.randint(D_VOCAB, (2, n_prompts, n_pos))
    return clean, corrupted


def layer_of(hook: str) -> int:
    """Return the layer of a hook; of the logits, that after the last."""
    return N_LAYERS if hook.endswith("resid_post") else int(hook.split(".")[1])


def print_seconds(time_edges: Callable[[int, int, float, int, list[int]], Seconds]) -> None:
    """Time tried edges as the command line says, and print one line: the seconds as JSON."""
    n_prompts, n_pos, density, n_edges, *layers = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        seconds = time_edges(int(n_prompts), int(n_pos), float(density), int(n_edges), [*map(int, layers)])
    print(json.dumps(seconds))
