"""Build a random Gemma 2 of three layers, with windows, caps, and norms after heads and MLPs."""

from __future__ import annotations

from pathlib import Path

from transformers import Gemma2Config

from acdc.models.toy.random_decoder import LLAMA, save_random


def build(folder: Path) -> None:
    """Write the model and its tokenizer to ``folder``."""
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
    save_random(Gemma2Config, folder, **LLAMA, **caps, head_dim=12, query_pre_attn_scalar=12, sliding_window=6)
