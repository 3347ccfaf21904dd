"""Build a random Llama of three layers."""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaConfig

from acdc.models.toy.random_decoder import LLAMA, save_random


def build(folder: Path) -> None:
    """Write the model and its tokenizer to ``folder``."""
    save_random(LlamaConfig, folder, **LLAMA)
