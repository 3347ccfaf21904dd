"""Convert a TransformerLens model to the engine's ``Architecture`` and ``Weights``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, sqrt
from typing import Any, cast, get_args, overload

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc.engine.weights import Block, Weights
from acdc.errors import InputError
from acdc.models.architecture import Activation, Architecture, Norm, Positions, QueryKeyNorm
from acdc.models.black_box import BlackBox
from acdc.models.bridge import NATIVE, SHORTFORMER, hugging_face_config
from acdc.models.positions import (
    context,
    layer_types,
    position_embeddings,
    rotary_of,
    rotation,
    slopes_of,
    windows,
)

NORMS: dict[str | None, Norm] = {"LN": "layer", "RMS": "rms", None: "none"}
POSITIONS: dict[str, Positions] = {
    "standard": "learned",
    "rotary": "rotary",
    "alibi": "alibi",
    SHORTFORMER: "shortformer",
}
NOT_COVERED = {
    "OpenAIGPTLMHeadModel": "its norms take the residual stream itself",
    "NanoChatForCausalLM": "it rotates backwards and has a norm after its embeddings",
    "XGLMForCausalLM": "its position embeddings are no weights",
    "ModernBertDecoderForCausalLM": "its MLPs are gated by one half of a wider projection",
    "JetMoeForCausalLM": "its attention is a mixture of experts",
}
"""Architectures that differ from the engine's computation in a way that no setting tells, with the difference."""

UNSCALED_ATTENTION = "GPTNeoForCausalLM"
"""The architecture that does not divide attention scores by the square root of ``d_head``."""
QUERY_KEY_NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"), ("query_layernorm", "key_layernorm"))
"""Names of norms of q and k (Qwen3, StableLM, HunYuan)."""
NORMED_AFTER_ROTATION = "HunYuanDenseV1ForCausalLM"
"""The architecture whose norms of q and k come after the rotation."""
ACTIVATION_SETTINGS = ("hidden_activation", "hidden_act", "activation_function", "activation")
"""The settings of Hugging Face configs that name the activation function."""
UNNAMED_ACTIVATIONS = {"BloomForCausalLM": "gelu_new", "MptForCausalLM": "gelu"}
"""Activations of architectures whose config names none."""
ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "gelu_python": "gelu", "swish": "silu"}
"""Other names of activations."""

COVERED: dict[str, tuple] = {
    "attn_types": (None,),
    "use_local_attn": (False, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "attention_dir": ("causal", "bidirectional"),
    "attn_scale": (-1.0, None),
    "use_qk_norm": (False, None),
    "use_normalization_before_and_after": (False, None),
    "post_embedding_ln": (False, None),
    "positional_embedding_type": tuple(POSITIONS),
    "normalization_type": tuple(NORMS),
}
"""Settings of a TransformerLens config that the engine depends on, with the values that it covers."""
NO_CAP = (-1.0, 0.0, None)
COVERED_IN_NATIVE = COVERED | {
    "rmsnorm_uses_offset": (False, None),
    "logit_scale": (1.0, None),
    "num_experts": (None,),
    "positional_embedding_type": tuple(kind for kind in POSITIONS if kind != "alibi"),
    "attn_scores_soft_cap": NO_CAP,
    "output_logits_soft_cap": NO_CAP,
}
"""Settings of native models, with the values that the engine covers; native models have no module or other config."""


def architecture_of(bridge: TransformerBridge) -> Architecture:
    """Return the architecture of a model, as the engine computes it.

    Raises:
        InputError: the engine does not cover the model; the message names the setting.
    """
    config: Any = bridge.cfg
    check_covered(bridge)
    black_box = is_black_box(bridge)
    return Architecture(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_kv_heads=config.n_key_value_heads or config.n_heads,
        d_head=config.d_head,
        d_mlp=mlp_width(bridge, black_box),
        d_vocab=bridge.unembed.W_U.shape[1],
        n_ctx=context(bridge),
        norm=NORMS[config.normalization_type],
        eps=config.eps,
        positions=POSITIONS[config.positional_embedding_type],
        activation=None if config.attn_only or black_box else activation_of(bridge),
        gated=bool(config.gated_mlp),
        parallel=bool(config.parallel_attn_mlp) and not config.attn_only,
        causal=config.attention_dir == "causal",
        windows=windows(bridge),
        norm_before=config.normalization_type is None or getattr(bridge.blocks[0], "ln1", None) is not None,
        norm_after=getattr(bridge.blocks[0], "ln1_post", None) is not None,
        query_key_norm=query_key_norm(bridge),
        attention_cap=cap(config.attn_scores_soft_cap),
        logit_cap=cap(config.output_logits_soft_cap),
        clip=clip_of(bridge),
        black_box=black_box,
        **(rotation(bridge) if config.positional_embedding_type == "rotary" else {}),
    )


def mlp_width(bridge: TransformerBridge, black_box: bool) -> int:
    """Return the width of the MLPs' hidden layers, 0 without MLPs; TransformerLens's setting is wrong for OPT."""
    config: Any = bridge.cfg
    if config.attn_only or black_box:
        return 0 if config.attn_only else config.d_mlp
    return bridge.blocks[0].mlp.W_in.shape[-1]


def cap(setting: float | None) -> float | None:
    """Return a soft cap; None if the setting means that there is none."""
    return None if setting in NO_CAP else setting


def clip_of(bridge: TransformerBridge) -> float | None:
    """Return the bound to which a model's attention clips q, k and v; None if it clips nothing."""
    config = hugging_face_config(bridge)
    return getattr(getattr(config, "attn_config", config), "clip_qkv", None) or None


def is_black_box(bridge: TransformerBridge) -> bool:
    """Return whether a model's MLPs are of a form that the engine does not compute."""
    config: Any = bridge.cfg
    if hugging_face_config(bridge) is None or config.attn_only:
        return False
    return bool(config.num_experts) or activation_name(bridge) not in get_args(Activation)


def check_modules_covered(bridge: TransformerBridge) -> None:
    """Check that the engine covers the modules and the config of a Hugging Face model; raise InputError if not."""
    if hugging_face_config(bridge) is None:
        return
    for reason in reasons_against(bridge):
        raise InputError(f"the engine does not cover {bridge.cfg.architecture}: {reason}")
    check_norms_after(bridge.blocks, bridge.cfg.normalization_type)


def reasons_against(bridge: TransformerBridge) -> Iterator[str]:
    """Yield the reasons why the engine does not cover a Hugging Face model."""
    if bridge.cfg.architecture in NOT_COVERED:
        yield NOT_COVERED[bridge.cfg.architecture]
    blocks = getattr(bridge, "blocks", [])
    if not blocks or not all(hasattr(block, "attn") for block in blocks):
        yield "it has layers without attention"
        return
    attention, block = (part.original_component for part in (blocks[0].attn, blocks[0]))
    names = [name for name, _ in attention.named_children()]
    if getattr(attention, "sinks", None) is not None:
        yield "its attention has sinks"
    if getattr(attention, "attn_temperature_tuning", None):
        yield "its attention has a temperature"
    if any("gate" in name or name == "g_proj" for name in names):
        yield "its heads' outputs are gated"
    if any("kv_a" in name for name in names):
        yield "its keys and values come from a latent vector that all heads share (MLA)"
    if any("mamba" in name for name, _ in block.named_children()):
        yield "its layers have a Mamba beside their heads"
    unknown = set(layer_types(bridge)) - {"full_attention", "sliding_attention", "global", "local"}
    yield from (f"it has layers of type {kind!r}" for kind in sorted(unknown))


def check_norms_after(blocks: Any, kind: str | None) -> None:
    """Check that norms after attention and MLP are RMS norms in all layers, without biases; raise InputError if not."""
    names = ("ln1_post", "ln2_post")
    norms = [norm for block in blocks for name in names if (norm := getattr(block, name, None)) is not None]
    if not norms:
        return
    biases = [getattr(block.attn, "b_O", None) for block in blocks]
    if len(norms) < len(names) * len(blocks) or kind != "RMS":
        raise InputError(f"the engine does not cover {kind} norms after attention or MLP that are not in every layer")
    if any(bias is not None and bias.any() for bias in biases):
        raise InputError("the engine does not cover a norm after attention whose heads share a bias")


def check_covered(bridge: TransformerBridge) -> None:
    """Check that the engine covers all settings of a model; raise InputError that names the setting if not."""
    config: Any = bridge.cfg
    check_modules_covered(bridge)
    for name, covered in (COVERED_IN_NATIVE if config.architecture == NATIVE else COVERED).items():
        if getattr(config, name, None) not in covered:
            raise InputError(f"the engine does not cover models with {name} = {getattr(config, name)!r}")
    if config.final_rms and config.normalization_type != "RMS":
        raise InputError(f"the engine does not cover final_rms = True with {config.normalization_type} norms")
    # Hugging Face's encoders, such as BERT, have norms after their blocks, and no setting says so.
    if config.attention_dir != "causal" and config.architecture != NATIVE:
        raise InputError(f"the engine does not cover attention_dir = {config.attention_dir!r} in {config.architecture}")
    # TransformerLens's native models ignore the setting.
    if config.parallel_attn_mlp and config.architecture == NATIVE:
        raise InputError("the engine does not cover parallel_attn_mlp = True in TransformerLens native models")


def activation_of(bridge: TransformerBridge) -> Activation:
    """Return the activation function of a model's MLPs, by its Hugging Face config before TransformerLens's setting.

    Raises:
        InputError: the engine does not cover the activation.
    """
    name = activation_name(bridge)
    if name not in get_args(Activation):
        raise InputError(f"the engine does not cover models with act_fn = {name!r}")
    return cast(Activation, name)


def activation_name(bridge: TransformerBridge) -> str:
    """Return the name of a model's activation function, whether or not the engine covers it."""
    config, by_default = hugging_face_config(bridge), UNNAMED_ACTIVATIONS.get(bridge.cfg.architecture)
    named = (getattr(config, setting, None) for setting in ACTIVATION_SETTINGS)
    name = next((name for name in named if isinstance(name, str)), by_default or bridge.cfg.act_fn)
    return ALIASES.get(name, name)


@dataclass(frozen=True)
class Scales:
    """Hold the factors by which a model multiplies beside its weights, and which the engine's weights include.

    Attributes:
        embed: the factor of the token embeddings (Gemma, Granite).
        residual: the factor of the outputs of heads and MLPs (Granite).
        logits: the factor of the logits (Cohere, Granite).
    """

    embed: float = 1.0
    residual: float = 1.0
    logits: float = 1.0


def scales_of(bridge: TransformerBridge) -> Scales:
    """Return the factors by which a model multiplies beside its weights, from its Hugging Face config and modules."""
    config: Any = hugging_face_config(bridge)
    if config is None:
        return Scales()
    of_module = getattr(bridge.embed.original_component, "scalar_embed_scale", 1.0)
    return Scales(
        embed=of_module * getattr(config, "embedding_multiplier", 1.0),
        residual=getattr(config, "residual_multiplier", 1.0),
        logits=(getattr(config, "logit_scale", None) or 1.0) / getattr(config, "logits_scaling", 1.0),
    )


def query_scale(bridge: TransformerBridge, attention: Any) -> float:
    """Return the factor of q beyond one over the square root of ``d_head``, from the attention's module."""
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
    """Multiply a weight by a factor, without a copy if nothing changes."""
    return x if x is None or factor == 1.0 else x * factor


def weights_of(bridge: TransformerBridge) -> Weights:
    """Return the model's weights in the engine's form, without copies of those that have that form already.

    Raises:
        InputError: the engine does not cover the model.
    """
    architecture = architecture_of(bridge)
    rotary = rotary_of(bridge, architecture) if architecture.positions == "rotary" else (None, None)
    scales, offset = scales_of(bridge), norm_offset(bridge)
    w_final, b_final = norm_weights(getattr(bridge, "ln_final", None), offset)
    weights = Weights(
        architecture,
        embed=normed_embedding(bridge, times(bridge.embed.W_E, scales.embed)),
        pos_embed=position_embeddings(bridge, architecture.n_ctx) if architecture.embeds_positions else None,
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
        slopes=slopes_of(bridge) if architecture.positions == "alibi" else None,
    )
    check_shapes(weights, str(bridge.cfg.architecture))
    check_finite(weights)
    return weights


def check_finite(weights: Weights) -> None:
    """Check that every weight is finite, as in a sound file; raise InputError if not."""
    for name, tensor in weights.named():
        if not tensor.isfinite().all():
            raise InputError(f"the model's weights are damaged: {name} has entries that are no numbers; get it again")


def check_shapes(weights: Weights, name: str) -> None:
    """Check that weights have the architecture's shapes; raise InputError if not (OPT-350m's embeddings)."""
    a = weights.architecture
    model = {"embed": (None, a.d_model), "pos_embed": (None, a.d_model), "unembed": (a.d_model, None)}
    n_ports = a.n_heads + 2 * a.n_kv_heads
    mlp = {"w_in": (a.d_model, a.d_mlp), "w_gate": (a.d_model, a.d_mlp), "w_out": (a.d_mlp, a.d_model)}
    heads = {"w_port": (n_ports, a.d_model, a.d_head), "w_o": (a.n_heads, a.d_head, a.d_model)}
    records: list[tuple[Weights | Block, dict]] = [
        (weights, model),
        *((block, mlp | heads) for block in weights.blocks),
    ]
    for record, shapes in records:
        for field, expected in shapes.items():
            found = getattr(record, field)
            if found is not None and any(n not in (None, m) for n, m in zip(expected, found.shape, strict=True)):
                raise InputError(f"the engine does not cover {name}: its {field} has the shape {tuple(found.shape)}")


def normed_embedding(bridge: TransformerBridge, embed: Tensor) -> Float[Tensor, "d_vocab d_model"]:
    """Return token embeddings after the norm that some models apply to them (BLOOM), the same at every position."""
    norm = getattr(bridge, "embed_ln", None)
    return embed if norm is None else getattr(norm, "original_component", norm)(embed)


def norms_of_queries_and_keys(attention: Any) -> list[Any]:
    """Return an attention's norms of q and of k; an empty list without such norms.

    Raises:
        InputError: the attention has other norms.
    """
    modules = dict(getattr(attention, "original_component", attention).named_children())
    norms = {name: module for name, module in modules.items() if "norm" in name}
    for names in QUERY_KEY_NORMS:
        if set(names) == set(norms):
            return [norms[name] for name in names]
    if norms:
        raise InputError(f"the engine does not cover attention with {' and '.join(norms)} of this kind")
    return []


def query_key_norm(bridge: TransformerBridge) -> QueryKeyNorm | None:
    """Return whether norms of q and k take each head or all heads together; None without such norms."""
    norms = norms_of_queries_and_keys(bridge.blocks[0].attn)
    if not norms:
        return None
    weight = getattr(norms[0], "weight", None)
    if weight is not None and weight.dim() == 1 and len(weight) == bridge.cfg.n_heads * bridge.cfg.d_head:
        return "all heads"
    return "each head, rotated" if bridge.cfg.architecture == NORMED_AFTER_ROTATION else "each head"


def query_key_weights(
    attention: Any, architecture: Architecture, offset: float
) -> Float[Tensor, "qk_port d_head"] | None:
    """Return the weights of the norms of q and k for every head; None without such norms.

    Args:
        offset: the number that is added to the weights, see ``norm_offset``.
    """
    norms = norms_of_queries_and_keys(attention)
    counts = (architecture.n_heads, architecture.n_kv_heads)
    weights = [head_norms(norm, n, architecture.d_head) for norm, n in zip(norms, counts, strict=False)]
    return torch.cat(weights) + offset if weights else None


def head_norms(norm: Any, n_heads: int, d_head: int) -> Float[Tensor, "head d_head"]:
    """Return a norm's weights for every head: the same for all heads or, in StableLM, each head's own."""
    each = getattr(norm, "norms", None)
    if each is not None:
        return torch.stack([one.weight for one in each])
    return norm.weight.reshape(-1, d_head).expand(n_heads, -1)


def mlp_norm(block: Any) -> Any:
    """Return the norm before a block's MLP, which some parallel blocks share with their heads (GPT-J, Phi)."""
    return getattr(block, "ln2", None) or getattr(block, "ln1", None)


def norm_offset(bridge: TransformerBridge) -> float:
    """Return the number that a model adds to the weights of its norms (Gemma adds 1)."""
    return 1.0 if getattr(bridge.cfg, "rmsnorm_uses_offset", False) else 0.0


def norm_weights(norm: Any, offset: float) -> tuple[Tensor | None, Tensor | None]:
    """Return the weight and the bias of a norm; None for one that it lacks."""
    weight = getattr(norm, "weight", None)
    return weight + offset if offset and weight is not None else weight, getattr(norm, "bias", None)


def block_weights(block: Any, architecture: Architecture, residual: float, query: float, offset: float) -> Block:
    """Return the weights of one block in the engine's form, see ``weights_of``.

    Args:
        residual: the factor of outputs, see ``Scales``.
        query: the factor of q, see ``query_scale``.
        offset: the number that is added to weights of norms, see ``norm_offset``.
    """
    attention = block.attn
    projections = [getattr(attention, f"W_{port}") for port in "QKV"]
    given = [getattr(attention, f"b_{port}", None) for port in "QKV"]
    biases = [w.new_zeros(w.shape[0], w.shape[2]) if b is None else b for w, b in zip(projections, given, strict=True)]
    of_norms = query_key_weights(attention, architecture, offset)
    if of_norms is None:
        projections[0], biases[0] = times(projections[0], query), times(biases[0], query)
    elif query != 1.0:  # a norm of q would undo what is multiplied in before it
        of_norms[: architecture.n_heads] *= query
    b_o = getattr(attention, "b_O", None)
    ln1_w, ln1_b = norm_weights(getattr(block, "ln1", None), offset)
    weights = Block(
        ln1_w=ln1_w,
        ln1_b=ln1_b,
        w_port=torch.cat(projections),
        b_port=torch.cat(biases),
        w_o=times(attention.W_O, residual),
        b_o=projections[0].new_zeros(architecture.d_model) if b_o is None else times(b_o, residual),
        qk_norm_w=of_norms,
        ln1_post_w=norm_weights(getattr(block, "ln1_post", None), offset)[0],
    )
    if architecture.d_mlp:
        weights.ln2_w, weights.ln2_b = norm_weights(mlp_norm(block), offset)
        weights.ln2_post_w = norm_weights(getattr(block, "ln2_post", None), offset)[0]
        if architecture.black_box:
            weights.black_box = BlackBox(block.mlp.original_component)
            return weights
        if architecture.gated:
            weights.w_gate, weights.b_gate = block.mlp.W_gate, getattr(block.mlp, "b_gate", None)
        weights.w_in, weights.b_in = block.mlp.W_in, getattr(block.mlp, "b_in", None)
        weights.w_out = times(block.mlp.W_out, residual)
        weights.b_out = times(getattr(block.mlp, "b_out", None), residual)
    return weights
