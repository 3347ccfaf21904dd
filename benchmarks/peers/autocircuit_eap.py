"""Time AutoCircuit's attribution patching at GPT-2 small's shape. benchmarks/gradient_speed.py runs it.

Prints one line per repeat: seconds of one gradient at the clean run, and of integrated gradients of so many samples.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
from auto_circuit.utils.graph_utils import patchable_model
from transformer_lens import HookedTransformer, HookedTransformerConfig


def main(n_prompts: int, n_pos: int, samples: int, repeats: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=12, n_heads=12, d_model=768, d_head=64, d_mlp=3072, d_vocab=50257, n_ctx=64, act_fn="gelu_new",
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    model = HookedTransformer(config)
    model.cfg.use_attn_result = model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    model.eval()
    clean, corrupted = (torch.randint(50257, (n_prompts, n_pos)) for _ in range(2))
    answers, wrong = ([torch.tensor([token]) for token in range(i, n_prompts + i)] for i in (5, 50))
    loader = PromptDataLoader(PromptDataset(clean, corrupted, answers, wrong), None, 0, batch_size=n_prompts)
    patched = patchable_model(model, factorized=True, slice_output="last_seq", separate_qkv=True)
    how = {"official_edges": None, "grad_function": "logit", "answer_function": "avg_diff"}
    for _ in range(repeats):
        seconds = {}
        for name, setting in (("eap", {"mask_val": 0.0}), ("eap_ig", {"integrated_grad_samples": samples})):
            started = time.perf_counter()
            mask_gradient_prune_scores(patched, loader, **how, **setting)
            seconds[name] = time.perf_counter() - started
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
