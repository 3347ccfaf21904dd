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
from gpt2 import random_model, random_prompts


def main(n_prompts: int, n_pos: int, samples: int, repeats: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = random_model()
    clean, corrupted = random_prompts(n_prompts, n_pos)
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
