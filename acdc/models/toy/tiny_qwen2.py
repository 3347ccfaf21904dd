"""Build a random Qwen 2.5 of three layers, whose q, k and v have biases."""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen2Config

from acdc.models.toy.random_decoder import LLAMA, save_random


def build(folder: Path) -> None:
    """Write the model and its tokenizer to ``folder``."""
    save_random(Qwen2Config, folder, **LLAMA)
