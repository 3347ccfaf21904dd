"""Build a random Llama 3.1 of three layers, whose rotations are scaled."""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaConfig

from acdc.models.toy.random_decoder import LLAMA, save_random

ROTATIONS = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def build(folder: Path) -> None:
    """Write the model and its tokenizer to ``folder``."""
    save_random(LlamaConfig, folder, **LLAMA, rope_parameters=ROTATIONS)
