"""TransformerLens models: loaded from a folder, described as an ``Architecture``, read out as ``Weights``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from acdc.errors import InputError
from acdc.models.architecture import Activation, Architecture, Block, Weights, rotary_tables

NATIVE_CONFIG = "native.json"
NORMS = {"LN": "layer", "RMS": "rms", None: "none"}
POSITIONS = {"standard": "learned", "rotary": "rotary"}

COVERED: dict[str, tuple] = {
    "parallel_attn_mlp": (False, None),
    "attn_scores_soft_cap": (-1.0, 0.0, None),
    "output_logits_soft_cap": (-1.0, 0.0, None),
    "attn_types": (None,),
    "use_local_attn": (False, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "attention_dir": ("causal",),
    "attn_scale": (-1.0, None),
    "use_qk_norm": (False, None),
    "use_normalization_before_and_after": (False, None),
    "rmsnorm_uses_offset": (False, None),
    "num_experts": (None,),
    "rotary_dim": (None,),
    "scale_embedding": (None,),
    "post_embedding_ln": (False, None),
    "positional_embedding_type": tuple(POSITIONS),
    "normalization_type": tuple(NORMS),
}
"""Settings of a TransformerLens config that the engine depends on, with the values it covers."""


def load_bridge(folder: Path) -> TransformerBridge:
    """The model in ``folder``: a Hugging Face folder, or one that ``save_native`` wrote.

    Raises:
        InputError: no model is there.
    """
    check_folder(folder)
    if (folder / NATIVE_CONFIG).exists():
        bridge = TransformerBridge.boot_native(json.loads((folder / NATIVE_CONFIG).read_text()))
        bridge.load_state_dict(load_file(folder / "model.safetensors"))
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        bridge = TransformerBridge.boot_transformers(str(folder), hf_model=model, tokenizer=load_tokenizer(folder))
    bridge.enable_compatibility_mode(no_processing=True)
    return bridge.requires_grad_(False).eval()


def check_folder(folder: Path) -> None:
    """Raises InputError where ``folder`` holds no model; the message says what is missing."""
    if not folder.is_dir():
        raise InputError(f"model folder {folder} does not exist: check the path in the config")
    if not any((folder / name).exists() for name in (NATIVE_CONFIG, "config.json")):
        raise InputError(f"model folder {folder} has no config.json: it must be as save_pretrained writes it")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"model folder {folder} has no weights: it needs *.safetensors beside its config.json")


def load_tokenizer(folder: Path) -> Any | None:
    """The model's tokenizer; None for a model without one."""
    return AutoTokenizer.from_pretrained(folder) if (folder / "tokenizer.json").exists() else None


def save_native(bridge: TransformerBridge, config: dict[str, Any], folder: Path) -> None:
    """Write a ``boot_native`` model so that ``load_bridge`` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in bridge.state_dict().items()}, folder / "model.safetensors")
    (folder / NATIVE_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def architecture_of(bridge: TransformerBridge) -> Architecture:
    """The declared record of a model.

    Raises:
        InputError: the engine does not cover the model; the message names the setting.
    """
    config = bridge.cfg
    for name, covered in COVERED.items():
        if getattr(config, name, None) not in covered:
            raise InputError(f"the engine does not cover models with {name} = {getattr(config, name)!r}")
    if not config.attn_only and config.act_fn not in get_args(Activation):
        raise InputError(f"the engine does not cover models with act_fn = {config.act_fn!r}")
    if config.final_rms and config.normalization_type != "RMS":
        raise InputError(f"the engine does not cover final_rms = True with {config.normalization_type} norms")
    rotary = config.positional_embedding_type == "rotary"
    return Architecture(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_kv_heads=config.n_key_value_heads or config.n_heads,
        d_head=config.d_head,
        d_mlp=0 if config.attn_only else config.d_mlp,
        d_vocab=bridge.unembed.W_U.shape[1],
        n_ctx=config.n_ctx,
        norm=NORMS[config.normalization_type],
        eps=config.eps,
        positions=POSITIONS[config.positional_embedding_type],
        activation=None if config.attn_only else config.act_fn,
        gated=bool(config.gated_mlp),
        rotary_base=rotary_base(config) if rotary else None,
        rotary_adjacent=rotary and config.architecture == "TransformerLensNative",
    )


def rotary_base(config: Any) -> float:
    """Raises InputError for scaled rotations."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if parameters.get("rope_type", "default") != "default":
        raise InputError(f"the engine does not cover rope_type = {parameters['rope_type']!r}")
    return float(parameters.get("rope_theta", config.rotary_base))


def weights_of(bridge: TransformerBridge) -> Weights:
    """The model's weights as the engine wants them; no copy of what it already has in that form."""
    architecture = architecture_of(bridge)
    rotary = rotary_tables(architecture) if architecture.positions == "rotary" else (None, None)
    w_final, b_final = norm_weights(getattr(bridge, "ln_final", None))
    return Weights(
        architecture,
        embed=bridge.embed.W_E,
        pos_embed=bridge.pos_embed.W_pos if architecture.positions == "learned" else None,
        blocks=[block_weights(block, architecture) for block in bridge.blocks],
        ln_final_w=w_final,
        ln_final_b=b_final,
        unembed=bridge.unembed.W_U,
        b_unembed=getattr(bridge.unembed, "b_U", None),
        rotary_cos=rotary[0],
        rotary_sin=rotary[1],
    )


def norm_weights(norm: Any) -> tuple[Tensor | None, Tensor | None]:
    return getattr(norm, "weight", None), getattr(norm, "bias", None)


def block_weights(block: Any, architecture: Architecture) -> Block:
    attention = block.attn
    projections = [getattr(attention, f"W_{port}") for port in "QKV"]
    biases = [getattr(attention, f"b_{port}", None) for port in "QKV"]
    biases = [w.new_zeros(w.shape[0], w.shape[2]) if b is None else b for w, b in zip(projections, biases, strict=True)]
    b_o = getattr(attention, "b_O", None)
    ln1_w, ln1_b = norm_weights(getattr(block, "ln1", None))
    weights = Block(
        ln1_w=ln1_w,
        ln1_b=ln1_b,
        w_port=torch.cat(projections),
        b_port=torch.cat(biases),
        w_o=attention.W_O,
        b_o=projections[0].new_zeros(architecture.d_model) if b_o is None else b_o,
    )
    if architecture.d_mlp:
        weights.ln2_w, weights.ln2_b = norm_weights(getattr(block, "ln2", None))
        weights.w_gate = block.mlp.W_gate if architecture.gated else None
        weights.w_in, weights.b_in = block.mlp.W_in, getattr(block.mlp, "b_in", None)
        weights.w_out, weights.b_out = block.mlp.W_out, getattr(block.mlp, "b_out", None)
    return weights
