"""Make random decoders whose tokenizer has whole words, so that every task runs on them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from acdc.models.toy.word_tokenizer import task_tokenizer

LLAMA: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
"""The sizes of a model, by the names in the configs of Llama and of most later decoders."""


def save_random(kind: type[PreTrainedConfig], folder: Path, **sizes: Any) -> None:
    """Write a random model of a kind, and a tokenizer with the words of all tasks, to ``folder``."""
    tokenizer = task_tokenizer()
    config = kind(vocab_size=len(tokenizer), **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
