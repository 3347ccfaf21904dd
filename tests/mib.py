"""Make small models whose weights are the same with every version of every library, and prompts for them.

EAP-IG and MIB need another TransformerLens than acdc does, so what they compute is made in an environment of its own,
see tests/vectors/mib/README.md. There acdc is not installed: only ``setup`` imports it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from acdc.engine.model import Engine

N_VOCABULARY, N_PROMPTS, N_POS = 50, 6, 7
METHODS = ("EAP", "EAP-IG-inputs", "EAP-IG-activations", "clean-corrupted")
"""EAP-IG's names of its methods."""
ABLATIONS = {"patching": "corrupted", "zero": "zero", "mean-positional": "mean"}
"""Our names of ablations by EAP-IG's."""
SHAPES: dict[str, tuple[Any, Any]] = {
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(n_layer=2, n_head=4, n_embd=32, n_positions=16, vocab_size=N_VOCABULARY, attn_pdrop=0.0),
    ),
    "llama_grouped": (
        LlamaForCausalLM,
        LlamaConfig(
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            hidden_size=32,
            intermediate_size=48,
            max_position_embeddings=16,
            vocab_size=N_VOCABULARY,
            tie_word_embeddings=False,
        ),
    ),
}


def model(name: str) -> Any:
    """Return a Hugging Face model with weights of numpy's oldest generator, which never changes."""
    kind, config = SHAPES[name]
    made = kind(config).eval()
    draw = np.random.RandomState(0)
    for key, tensor in sorted(made.named_parameters()):
        values = torch.tensor(draw.standard_normal(tuple(tensor.shape)), dtype=torch.float32)
        is_norm = tensor.ndim == 1 and key.endswith("weight")
        tensor.data = 1 + 0.1 * values if is_norm else 0.25 * values
    return made


def prompts() -> dict[str, torch.Tensor]:
    """Return tokens of clean and corrupted prompts, Int[prompt pos], and correct and incorrect answers, Int[prompt]."""
    draw = np.random.RandomState(4)
    shape = (N_PROMPTS, N_POS)
    clean, corrupted = (torch.tensor(draw.randint(N_VOCABULARY, size=shape)) for _ in range(2))
    correct = torch.tensor(draw.randint(N_VOCABULARY, size=N_PROMPTS))
    return {"clean": clean, "corrupted": corrupted, "correct": correct, "incorrect": (correct + 7) % N_VOCABULARY}


@cache
def setup(name: str, ablation: str = "corrupted", split_embed: bool = False) -> Engine:
    """Return an engine of a model and the prompts, with a key and a value for each query head."""
    from acdc.data import Dataset
    from acdc.engine.load import Options
    from acdc.models.bridge import of_hugging_face
    from acdc.models.convert import weights_of

    given = prompts()
    scored = torch.zeros(N_PROMPTS, N_POS, dtype=torch.bool)
    scored[:, -1] = True
    answers = {key: given[key] for key in ("correct", "incorrect")}
    data = Dataset(given["clean"], given["corrupted"], scored, answers)
    options = Options(ablation, split_embed, device="cpu", kv_heads="per_query_head")
    return options.engine(options.place(weights_of(of_hugging_face(model(name), None))), data, None)
