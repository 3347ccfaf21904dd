"""Rotary positions are the model's own, however it scales them."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, GlmConfig, LlamaConfig, Phi3Config, PreTrainedModel

from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.engine.weights import Weights, rotary_tables
from acdc.errors import InputError
from acdc.models.bridge import of_hugging_face
from acdc.models.convert import weights_of

FLOAT_ERROR = 1e-4
N_CTX, ORIGINAL = 64, 32
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": N_CTX,
    "initializer_range": 0.3,
    "pad_token_id": 2,
}


def scaled(kind: str, **parameters: float | list[float]) -> dict:
    """Return sizes and the settings of rotations of one kind."""
    return SIZES | {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, "factor": 4.0} | parameters}


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": ORIGINAL}
LONGROPE = {
    "short_factor": [1.0, 1.5, 2.0, 2.5],
    "long_factor": [3.0, 3.5, 4.0, 4.5],
    "original_max_position_embeddings": ORIGINAL,
}
CONFIGS = {
    "llama3": LlamaConfig(**scaled("llama3", **LLAMA3)),
    "yarn": LlamaConfig(**scaled("yarn", original_max_position_embeddings=ORIGINAL)),
    "linear": LlamaConfig(**scaled("linear")),
    "dynamic": LlamaConfig(**scaled("dynamic")),
    "longrope": Phi3Config(**scaled("longrope", **LONGROPE), original_max_position_embeddings=ORIGINAL),
    "adjacent": GlmConfig(**SIZES, head_dim=8),
}
SAME_IN_SHORT_PROMPTS = ("dynamic", "adjacent")
"""Kinds whose rotations no setting scales in prompts within the context."""


@torch.no_grad()
def error(weights: Weights, model: PreTrainedModel) -> float:
    """Return the largest difference between the engine's logits and the model's own, on random prompts."""
    clean, corrupted = torch.randint(SIZES["vocab_size"], (2, 2, 16), generator=torch.Generator().manual_seed(0))
    data = Dataset(clean, corrupted, torch.ones_like(clean, dtype=torch.bool), {})
    found = Engine(weights, data, ablation="corrupted").model_logits
    return (found - model(clean).logits.flatten(0, 1)).abs().max().item()


def random_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()


@pytest.mark.parametrize("kind", CONFIGS)
def test_rotations_are_the_models_own_as_far_as_they_hold(kind):
    """Longrope changes the rotations of all positions in a prompt beyond the original context."""
    model = random_model(kind)
    weights = weights_of(of_hugging_face(model, None))
    assert error(weights, model) < FLOAT_ERROR
    assert weights.architecture.n_ctx == (ORIGINAL if kind == "longrope" else N_CTX)
    if kind not in SAME_IN_SHORT_PROMPTS:
        weights.rotary_cos, weights.rotary_sin = rotary_tables(weights.architecture)
        assert error(weights, model) > 100 * FLOAT_ERROR


def test_scaled_rotations_without_a_module_are_refused():
    bridge = of_hugging_face(random_model("linear"), None)
    bridge.original_model.model.rotary_emb = None
    with pytest.raises(InputError, match="rope_type = 'linear' in LlamaForCausalLM"):
        weights_of(bridge)
