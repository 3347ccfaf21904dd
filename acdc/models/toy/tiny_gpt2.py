"""Build a random GPT-2 of three layers."""

from __future__ import annotations

from pathlib import Path

from transformers import GPT2Config

from acdc.models.toy.random_decoder import save_random


def build(folder: Path) -> None:
    """Write the model and its tokenizer to ``folder``."""
    save_random(GPT2Config, folder, n_embd=48, n_layer=3, n_head=4, n_positions=64, initializer_range=0.3)
