"""Convert a TransformerLens model into what the engine computes with: an ``Architecture`` and ``Weights``."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose, sqrt
from typing import Any, cast, get_args, overload

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc.engine.weights import Block, Weights, rotary_tables
from acdc.errors import InputError
from acdc.models.architecture import Activation, Architecture, Norm, Positions
from acdc.models.bridge import NATIVE, SHORTFORMER

NORMS: dict[str | None, Norm] = {"LN": "layer", "RMS": "rms", None: "none"}
POSITIONS: dict[str, Positions] = {"standard": "learned", "rotary": "rotary", SHORTFORMER: "shortformer"}
ADJACENT_ROTARY = (NATIVE, "GPTJForCausalLM", "CodeGenForCausalLM", "CohereForCausalLM")
"""Architectures that rotate dimensions (0, 1), (2, 3), ... of a head though their config does not say so."""

UNSCALED_ATTENTION = "GPTNeoForCausalLM"
"""The architecture that divides attention scores by nothing."""
QUERY_KEY_NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"))
"""Names of norms of q and k, before rotation (Qwen3, StableLM)."""
NORMS_AFTER = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_self_attn_layernorm")
"""Names of norms of what heads or an MLP write (Gemma 2 and 3, OLMo 2, GLM-4)."""
WINDOWS = ("sliding_window", "window_size")
"""Where configs say how many positions a query sees (Mistral; GPT-Neo in every second layer)."""
ACTIVATION_SETTINGS = ("hidden_activation", "hidden_act", "activation_function", "activation")
"""Where the configs of Hugging Face name the activation."""
ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "gelu_python": "gelu", "swish": "silu"}
"""Other names of activations."""

COVERED: dict[str, tuple] = {
    "attn_scores_soft_cap": (-1.0, 0.0, None),
    "output_logits_soft_cap": (-1.0, 0.0, None),
    "attn_types": (None,),
    "use_local_attn": (False, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "attention_dir": ("causal", "bidirectional"),
    "attn_scale": (-1.0, None),
    "use_qk_norm": (False, None),
    "use_normalization_before_and_after": (False, None),
    "num_experts": (None,),
    "scale_embedding": (None,),
    "alibi": (False, None),
    "post_embedding_ln": (False, None),
    "positional_embedding_type": tuple(POSITIONS),
    "normalization_type": tuple(NORMS),
}
"""Settings of a TransformerLens config that the engine depends on, with the values that it covers."""
COVERED_IN_NATIVE = COVERED | {"rmsnorm_uses_offset": (False, None), "logit_scale": (1.0, None)}
"""The same of TransformerLens native models, which have no module or config that says more."""


def architecture_of(bridge: TransformerBridge) -> Architecture:
    """Return what the engine must know of a model.

    Raises:
        InputError: the engine does not cover the model; the message names the setting.
    """
    config: Any = bridge.cfg
    check_covered(bridge)
    return Architecture(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_kv_heads=config.n_key_value_heads or config.n_heads,
        d_head=config.d_head,
        d_mlp=0 if config.attn_only else config.d_mlp,
        d_vocab=bridge.unembed.W_U.shape[1],
        n_ctx=context(bridge),
        norm=NORMS[config.normalization_type],
        eps=config.eps,
        positions=POSITIONS[config.positional_embedding_type],
        activation=None if config.attn_only else activation_of(bridge),
        gated=bool(config.gated_mlp),
        parallel=bool(config.parallel_attn_mlp) and not config.attn_only,
        causal=config.attention_dir == "causal",
        **(rotation(bridge) if config.positional_embedding_type == "rotary" else {}),
    )


def check_modules_covered(bridge: TransformerBridge) -> None:
    """Raise InputError for what the modules and the config of a Hugging Face model have and the engine does not."""
    config = hugging_face_config(bridge)
    if config is None:
        return
    blocks = getattr(bridge, "blocks", [])
    if not blocks or not all(hasattr(block, "attn") for block in blocks):
        raise InputError(f"the engine does not cover {bridge.cfg.architecture}: it has layers without attention")
    modules = dict(blocks[0].original_component.named_children())
    after = [name for name in NORMS_AFTER if name in modules]
    if after:
        raise InputError(f"the engine does not cover norms after attention and MLP: {', '.join(after)}")
    if not all(getattr(config, "no_rope_layers", None) or [1]):
        raise InputError(f"the engine does not cover layers without rotation: no_rope_layers = {config.no_rope_layers}")
    if getattr(config, "clip_qkv", None):
        raise InputError(f"the engine does not cover clip_qkv = {config.clip_qkv}")


def check_covered(bridge: TransformerBridge) -> None:
    """Raise InputError for a setting that the engine does not cover; the message names it."""
    config: Any = bridge.cfg
    for name, covered in (COVERED_IN_NATIVE if config.architecture == NATIVE else COVERED).items():
        if getattr(config, name, None) not in covered:
            raise InputError(f"the engine does not cover models with {name} = {getattr(config, name)!r}")
    if config.final_rms and config.normalization_type != "RMS":
        raise InputError(f"the engine does not cover final_rms = True with {config.normalization_type} norms")
    # Hugging Face's encoders, such as BERT, have norms after their blocks, and no setting says so.
    if config.attention_dir != "causal" and config.architecture != NATIVE:
        raise InputError(f"the engine does not cover attention_dir = {config.attention_dir!r} in {config.architecture}")
    check_modules_covered(bridge)
    # TransformerLens's native models ignore the setting.
    if config.parallel_attn_mlp and config.architecture == NATIVE:
        raise InputError("the engine does not cover parallel_attn_mlp = True in TransformerLens native models")


def hugging_face_config(bridge: TransformerBridge) -> Any:
    """Return the config of a Hugging Face model; None for a TransformerLens native model."""
    return None if bridge.cfg.architecture == NATIVE else bridge.original_model.config


def activation_of(bridge: TransformerBridge) -> Activation:
    """Return the activation of a model's MLPs: that of its Hugging Face config, where TransformerLens may have another.

    Raises:
        InputError: the engine does not cover it.
    """
    config = hugging_face_config(bridge)
    named = (getattr(config, setting, None) for setting in ACTIVATION_SETTINGS)
    name = next((name for name in named if isinstance(name, str)), bridge.cfg.act_fn)
    name = ALIASES.get(name, name)
    if name not in get_args(Activation):
        raise InputError(f"the engine does not cover models with act_fn = {name!r}")
    return cast(Activation, name)


@dataclass(frozen=True)
class Scales:
    """Hold what a model multiplies by beside its weights. The engine's weights carry it.

    Attributes:
        embed: of the token embeddings (Gemma, Granite).
        residual: of what heads and MLPs write (Granite).
        logits: of the logits (Cohere, Granite).
    """

    embed: float = 1.0
    residual: float = 1.0
    logits: float = 1.0


def scales_of(bridge: TransformerBridge) -> Scales:
    """Return what a model multiplies by beside its weights, as its Hugging Face config and modules say."""
    config: Any = hugging_face_config(bridge)
    if config is None:
        return Scales()
    of_module = getattr(bridge.embed.original_component, "scalar_embed_scale", 1.0)
    return Scales(
        embed=of_module * getattr(config, "embedding_multiplier", 1.0),
        residual=getattr(config, "residual_multiplier", 1.0),
        logits=getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0),
    )


def query_scale(bridge: TransformerBridge, attention: Any) -> float:
    """Return what q is multiplied by beyond one over the square root of ``d_head``, as an attention's module says."""
    if bridge.cfg.architecture == UNSCALED_ATTENTION:
        return sqrt(bridge.cfg.d_head)
    scaling = getattr(getattr(attention, "original_component", None), "scaling", None)
    scale = scaling * sqrt(bridge.cfg.d_head) if isinstance(scaling, float) else 1.0
    return 1.0 if isclose(scale, 1.0) else scale


@overload
def times(x: Tensor, factor: float) -> Tensor: ...
@overload
def times(x: None, factor: float) -> None: ...
def times(x: Tensor | None, factor: float) -> Tensor | None:
    """Multiply a weight, without a copy where nothing changes."""
    return x if x is None or factor == 1.0 else x * factor


def rope(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the kind of a model's rotary positions, such as ``llama3``, and their settings (Hugging Face)."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return parameters.get("rope_type") or parameters.get("type") or "default", parameters


def context(bridge: TransformerBridge) -> int:
    """Return how many positions a prompt may have.

    A model of kind ``longrope`` rotates otherwise in prompts beyond its original context. The engine has the rotations
    of shorter ones. A model with sliding windows has none in prompts that fit into one, and of such the engine runs it.
    """
    config: Any = bridge.cfg
    kind, parameters = rope(config)
    limits = [config.n_ctx, *(getattr(hugging_face_config(bridge), name, None) for name in WINDOWS)]
    limits.append(parameters.get("original_max_position_embeddings") if kind == "longrope" else None)
    return min(limit for limit in limits if limit)


def rotary_module(bridge: TransformerBridge) -> torch.nn.Module | None:
    """Return the module of a Hugging Face model that computes its rotations; None where attention itself does."""
    if bridge.cfg.architecture == NATIVE:
        return None
    modules = bridge.original_model.named_modules()
    return next((module for name, module in modules if name.endswith("rotary_emb")), None)


def rotary_of(
    bridge: TransformerBridge, architecture: Architecture
) -> tuple[Float[Tensor, "n_ctx rotary_dim"], Float[Tensor, "n_ctx rotary_dim"]]:
    """Return the cosine and sine of every position's rotation, scaled as the model scales them."""
    module = rotary_module(bridge)
    if module is None:
        return rotary_tables(architecture)
    if isinstance(getattr(module, "rope_type", None), dict):  # by the type of a layer
        raise InputError(f"the engine does not cover {bridge.cfg.architecture}: its layers rotate in several ways")
    cos, sin = module(torch.zeros(1), torch.arange(architecture.n_ctx)[None])
    return in_pairs(cos[0], architecture), in_pairs(sin[0], architecture)


def in_pairs(table: Float[Tensor, "n_ctx rotary_dim"], architecture: Architecture) -> Tensor:
    """Return a table of rotations in the architecture's pairs of dimensions, whatever the model's module has."""
    is_adjacent = torch.equal(table[:, ::2], table[:, 1::2])
    one_of_each = table[:, ::2] if is_adjacent else table[:, : table.shape[1] // 2]
    return one_of_each.repeat_interleave(2, -1) if architecture.rotary_adjacent else one_of_each.repeat(1, 2)


def rotation(bridge: TransformerBridge) -> dict[str, Any]:
    """Return the architecture's settings of rotary positions.

    Hugging Face's ``rope_parameters`` go before TransformerLens's own settings, which keep their defaults for models
    such as Llama and Pythia, whatever the model has.

    Raises:
        InputError: rotations are scaled, and the model has no module that says how.
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
    }


def weights_of(bridge: TransformerBridge) -> Weights:
    """Return the model's weights as the engine takes them, without a copy of those that have that form already."""
    architecture = architecture_of(bridge)
    rotary = rotary_of(bridge, architecture) if architecture.positions == "rotary" else (None, None)
    scales, offset = scales_of(bridge), norm_offset(bridge)
    w_final, b_final = norm_weights(getattr(bridge, "ln_final", None), offset)
    return Weights(
        architecture,
        embed=times(bridge.embed.W_E, scales.embed),
        pos_embed=None if architecture.positions == "rotary" else position_embeddings(bridge, architecture.n_ctx),
        blocks=[
            block_weights(block, architecture, scales.residual, query_scale(bridge, block.attn), offset)
            for block in bridge.blocks
        ],
        ln_final_w=w_final,
        ln_final_b=b_final,
        unembed=times(bridge.unembed.W_U, scales.logits),
        b_unembed=times(getattr(bridge.unembed, "b_U", None), scales.logits),
        rotary_cos=rotary[0],
        rotary_sin=rotary[1],
    )


def query_key_norm(attention: Any, architecture: Architecture) -> Float[Tensor, "qk_port d_head"] | None:
    """Return the weights of the norms of q and k, of each head its own; None without such norms.

    Raises:
        InputError: the engine does not cover these norms: they take all heads together, or come after the rotation.
    """
    modules = dict(getattr(attention, "original_component", attention).named_children())
    norms = {name: module for name, module in modules.items() if "norm" in name}
    if not norms:
        return None
    for names in QUERY_KEY_NORMS:
        if set(names) == set(norms):
            counts = (architecture.n_heads, architecture.n_kv_heads)
            weights = [head_norms(norms[name], n) for name, n in zip(names, counts, strict=True)]
            if all(weight.shape[1] == architecture.d_head for weight in weights):
                return torch.cat(weights)
    raise InputError(f"the engine does not cover attention with {' and '.join(norms)} of this kind")


def head_norms(norm: Any, n_heads: int) -> Float[Tensor, "head size"]:
    """Return the weights of a norm of q or k for every head. They have one for all, or one each (StableLM)."""
    each = getattr(norm, "norms", None)
    return norm.weight.expand(n_heads, -1) if each is None else torch.stack([one.weight for one in each])


def mlp_norm(block: Any) -> Any:
    """Return the norm before a block's MLP. Some parallel blocks share one with their heads (GPT-J, Phi)."""
    return getattr(block, "ln2", None) or getattr(block, "ln1", None)


def position_embeddings(bridge: TransformerBridge, n_ctx: int) -> Float[Tensor, "n_ctx d_model"]:
    """Return a model's position embeddings. OPT's first rows are for no position."""
    rows = bridge.pos_embed.W_pos
    return rows[len(rows) - bridge.cfg.n_ctx :][:n_ctx]


def norm_offset(bridge: TransformerBridge) -> float:
    """Return what a model adds to the weights of its norms (Gemma adds 1)."""
    return 1.0 if getattr(bridge.cfg, "rmsnorm_uses_offset", False) else 0.0


def norm_weights(norm: Any, offset: float) -> tuple[Tensor | None, Tensor | None]:
    """Return a norm's weight and bias; None for what it does not have."""
    weight = getattr(norm, "weight", None)
    return weight + offset if offset and weight is not None else weight, getattr(norm, "bias", None)


def block_weights(block: Any, architecture: Architecture, residual: float, query: float, offset: float) -> Block:
    """Return the weights of one block, see ``weights_of``.

    Args:
        residual: see ``Scales``.
        query: see ``query_scale``.
        offset: see ``norm_offset``.
    """
    attention = block.attn
    projections = [getattr(attention, f"W_{port}") for port in "QKV"]
    given = [getattr(attention, f"b_{port}", None) for port in "QKV"]
    biases = [w.new_zeros(w.shape[0], w.shape[2]) if b is None else b for w, b in zip(projections, given, strict=True)]
    projections[0], biases[0] = times(projections[0], query), times(biases[0], query)
    b_o = getattr(attention, "b_O", None)
    ln1_w, ln1_b = norm_weights(getattr(block, "ln1", None), offset)
    weights = Block(
        ln1_w=ln1_w,
        ln1_b=ln1_b,
        w_port=torch.cat(projections),
        b_port=torch.cat(biases),
        w_o=times(attention.W_O, residual),
        b_o=projections[0].new_zeros(architecture.d_model) if b_o is None else times(b_o, residual),
        qk_norm_w=query_key_norm(attention, architecture),
    )
    if architecture.d_mlp:
        weights.ln2_w, weights.ln2_b = norm_weights(mlp_norm(block), offset)
        if architecture.gated:
            weights.w_gate, weights.b_gate = block.mlp.W_gate, getattr(block.mlp, "b_gate", None)
        weights.w_in, weights.b_in = block.mlp.W_in, getattr(block.mlp, "b_in", None)
        weights.w_out = times(block.mlp.W_out, residual)
        weights.b_out = times(getattr(block.mlp, "b_out", None), residual)
    return weights
