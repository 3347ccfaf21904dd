"""Determine how a TransformerLens model uses positions: rotations, windows, slopes, the longest prompt."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from acdc.engine.weights import rotary_tables
from acdc.errors import InputError
from acdc.models.architecture import Architecture
from acdc.models.bridge import NATIVE, hugging_face_config

ADJACENT_ROTARY = (
    NATIVE,
    "GPTJForCausalLM",
    "CodeGenForCausalLM",
    "CohereForCausalLM",
    "Cohere2ForCausalLM",
)
"""Architectures that rotate dimensions (0, 1), (2, 3), ... of a head though their config does not say so."""
WINDOWS = ("sliding_window", "window_size")
"""The settings of configs for the number of positions that a query sees (Mistral; GPT-Neo in every second layer)."""
WINDOWED = ("sliding_attention", "local")
"""The types of layers, as in configs, whose queries see only a window."""
ROTATED_IN_WINDOWS = ("Cohere2ForCausalLM", "Exaone4ForCausalLM")
"""Architectures in which, if some layers have a window, only those rotate q and k."""


def rope(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the kind of a model's rotary positions, such as ``llama3``, and their settings (Hugging Face)."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return parameters.get("rope_type") or parameters.get("type") or "default", parameters


def context(bridge: TransformerBridge) -> int:
    """Return the largest number of positions in a prompt.

    A model of kind ``longrope`` has other rotations in prompts beyond its original context. The engine has those of
    shorter prompts.
    """
    config: Any = bridge.cfg
    kind, parameters = rope(config)
    original = parameters.get("original_max_position_embeddings") if kind == "longrope" else None
    return min(limit for limit in (config.n_ctx, original) if limit)


def layer_types(bridge: TransformerBridge) -> list[str]:
    """Return the name of each layer's type of attention in the config; an empty list if layers have no types."""
    config = hugging_face_config(bridge)
    named = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or []
    return [kind for kind in named if isinstance(kind, str)]


def windows(bridge: TransformerBridge) -> tuple[int, ...]:
    """Return the number of positions that queries of each layer see, 0 for all; an empty tuple if all see all."""
    config, kinds = hugging_face_config(bridge), layer_types(bridge)
    size = next((size for name in WINDOWS if (size := getattr(config, name, None))), 0)
    kinds = kinds or [WINDOWED[0]] * bridge.cfg.n_layers
    sizes = tuple(size if kind in WINDOWED else 0 for kind in kinds)
    return sizes if any(sizes) else ()


def rotary_module(bridge: TransformerBridge) -> torch.nn.Module | None:
    """Return the module of a Hugging Face model that computes rotations; None if attention itself does."""
    if bridge.cfg.architecture == NATIVE:
        return None
    modules = bridge.original_model.named_modules()
    return next((module for name, module in modules if name.endswith("rotary_emb")), None)


def table_names(module: torch.nn.Module | None) -> list[str]:
    """Return the names of a module's tables of rotations, if it has one for each type of layer (Gemma 3)."""
    kinds = getattr(module, "rope_type", None)
    return list(kinds) if isinstance(kinds, dict) else []


def rotations(bridge: TransformerBridge) -> tuple[int, ...]:
    """Return the index of each layer's table of rotations, -1 for none; an empty tuple if all use the only table."""
    names, kinds = table_names(rotary_module(bridge)), layer_types(bridge)
    tables = [names.index(kind) for kind in kinds] if names else [0] * bridge.cfg.n_layers
    found = tuple(table if rotates(bridge, layer) else -1 for layer, table in enumerate(tables))
    return found if any(found) else ()


def rotates(bridge: TransformerBridge, layer: int) -> bool:
    """Return whether a layer's attention rotates q and k at all."""
    attention, sizes = bridge.blocks[layer].attn, windows(bridge)
    if bridge.cfg.architecture in ROTATED_IN_WINDOWS and sizes:
        return sizes[layer] > 0
    return bool(getattr(getattr(attention, "original_component", attention), "use_rope", True))


def rotary_of(
    bridge: TransformerBridge, architecture: Architecture
) -> tuple[Float[Tensor, "table n_ctx rotary_dim"], Float[Tensor, "table n_ctx rotary_dim"]]:
    """Return the cosine and sine of every position's rotation, scaled as the model scales them."""
    module = rotary_module(bridge)
    if module is None:
        return rotary_tables(architecture)
    kinds, pos = table_names(module), torch.arange(architecture.n_ctx)[None]
    made = [module(torch.zeros(1), pos, kind) for kind in kinds] if kinds else [module(torch.zeros(1), pos)]
    cos, sin = (torch.stack([in_pairs(each[i][0], architecture) for each in made]) for i in (0, 1))
    return cos, sin


def in_pairs(table: Float[Tensor, "n_ctx rotary_dim"], architecture: Architecture) -> Tensor:
    """Return a table of rotations in the architecture's pairs of dimensions, whichever pairs the model's module has."""
    is_adjacent = torch.equal(table[:, ::2], table[:, 1::2])
    one_of_each = table[:, ::2] if is_adjacent else table[:, : table.shape[1] // 2]
    return one_of_each.repeat_interleave(2, -1) if architecture.rotary_adjacent else one_of_each.repeat(1, 2)


def rotation(bridge: TransformerBridge) -> dict[str, Any]:
    """Return the architecture's settings of rotary positions.

    Hugging Face's ``rope_parameters`` take precedence over TransformerLens's own settings, which keep their defaults
    for models such as Llama and Pythia, whatever the model has.

    Raises:
        InputError: rotations are scaled, and the model has no module that computes them.
    """
    config: Any = bridge.cfg
    kind, parameters = rope(config)
    if kind != "default" and rotary_module(bridge) is None:
        raise InputError(f"the engine does not cover rope_type = {kind!r} in {config.architecture}")
    fraction = parameters.get("partial_rotary_factor")
    flags = ("rotary_adjacent_pairs", "rotary_interleaved_cos_sin")
    return {
        "rotary_dim": int(config.d_head * fraction) if fraction else config.rotary_dim or config.d_head,
        "rotary_base": float(parameters.get("rope_theta", config.rotary_base)),
        "rotary_adjacent": config.architecture in ADJACENT_ROTARY or any(getattr(config, f, False) for f in flags),
        "rotations": rotations(bridge),
    }


def slopes_of(bridge: TransformerBridge) -> Float[Tensor, "head"]:
    """Return by how much each head's attention scores fall per position of distance (ALiBi, Press et al. 2022).

    The slopes come from the libraries' own tables of biases. Falcon divides its biases like its scores.
    """
    config, n_heads = hugging_face_config(bridge), bridge.cfg.n_heads
    if bridge.cfg.architecture == "MptForCausalLM":
        most = config.attn_config.alibi_bias_max
        biases = build_mpt_alibi_tensor(n_heads, 2, alibi_bias_max=most).reshape(n_heads, 2)
    else:
        biases = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32).reshape(n_heads, 2)
    divided = bridge.cfg.d_head**0.5 if bridge.cfg.architecture == "FalconForCausalLM" else 1.0
    return (biases[:, 1] - biases[:, 0]) / divided


def position_embeddings(bridge: TransformerBridge, n_ctx: int) -> Float[Tensor, "n_ctx d_model"]:
    """Return a model's position embeddings, without OPT's first rows, which are for no position."""
    rows = bridge.pos_embed.W_pos
    return rows[len(rows) - bridge.cfg.n_ctx :][:n_ctx]
