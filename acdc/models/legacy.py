"""Convert models in the format of TransformerLens 1.x: a config.json without ``model_type`` and a .pth state dict.

The paper's attn-only-4l and redwood_attn_2l are such repositories on the Hugging Face hub. TransformerLens 4 loads the
first and refuses the second, whose positions are a Shortformer's. This module converts both.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint
from transformers import AutoTokenizer

from acdc.errors import InputError, reading
from acdc.models import hub
from acdc.models.bridge import SHORTFORMER, boot_native, save_native
from acdc.models.files import read_config
from acdc.models.tokenizer import NO_CODE, load_tokenizer
from acdc.tensor_files import load_torch

GET_AGAIN = "get the model again"
KEYS = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "act_fn", "attn_only")


def convert(source: Path, folder: Path, *, shortformer: bool) -> None:
    """Convert a model of TransformerLens 1.x to a folder that ``load_bridge`` reads, with its tokenizer if available.

    Args:
        shortformer: whether the model's positions are a Shortformer's though its config does not say so.

    Raises:
        InputError: a setting or the weights are missing.
    """
    with reading(source / "config.json", GET_AGAIN):
        config = native_config(read_config(source), shortformer)
        bridge = boot_native(config)
    file, state = read_weights(source)
    with reading(file, GET_AGAIN):
        weights = convert_tl_checkpoint(state, TransformerBridgeConfig(**for_conversion(config)))
    missing = [name for name in bridge.state_dict() if name not in weights and name != "unembed.bias"]
    if missing:
        raise InputError(f"model folder {source}: the weights lack {missing[0]}")
    # Some of these repositories leave the bias out. TransformerLens 1.x then took 0 for it.
    weights.setdefault("unembed.bias", torch.zeros(config["d_vocab"]))
    with reading(file, GET_AGAIN):
        bridge.load_state_dict({name: weights[name] for name in bridge.state_dict()})
    save_native(bridge, config, folder)
    save_tokenizer(source, folder)


def native_config(old: dict[str, Any], shortformer: bool) -> dict[str, Any]:
    """Return a TransformerLens 1.x config as a native model's; raise InputError if a setting is missing."""
    missing = [key for key in KEYS if key not in old]
    if missing:
        raise InputError(f"config.json is neither Hugging Face's nor TransformerLens 1.x's: it lacks {missing[0]}")
    shortformer |= bool(old.get("shortformer_pos")) or old.get("positional_embedding_type") == SHORTFORMER
    config = {key: old[key] for key in KEYS}
    config["d_mlp"] = old["d_mlp"] or 4 * old["d_model"]  # attention-only models may have none
    config["normalization_type"] = old.get("normalization", old.get("normalization_type"))
    config["positional_embedding_type"] = SHORTFORMER if shortformer else "standard"
    return config | {"act_fn": old["act_fn"] or "relu", "gated_mlp": False, "seed": 0}


def for_conversion(config: dict[str, Any]) -> dict[str, Any]:
    """Return a native model's config as TransformerLens's converter takes it, without Shortformer positions."""
    kept = {key: value for key, value in config.items() if key not in ("seed", "positional_embedding_type")}
    return kept | {"positional_embedding_type": "standard", "architecture": "TransformerLensNative"}


def read_weights(source: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Read the final state dict of a TransformerLens 1.x model, tensors only, and return it with its file.

    Raises:
        InputError: there is no such file or more than one, or it is damaged.
    """
    files = sorted(source.glob("*final.pth")) or sorted(source.glob("*.pth"))
    if len(files) != 1:
        raise InputError(f"model folder {source} has {len(files)} files *.pth: it needs one, the final weights")
    state = load_torch(files[0], GET_AGAIN)
    with reading(files[0], GET_AGAIN):
        return files[0], {name: tensor.float() for name, tensor in state.items()}


def save_tokenizer(source: Path, folder: Path) -> None:
    """Save the folder's own tokenizer or else the one that its config names; warn if neither is available."""
    name = read_config(source).get("tokenizer_name")
    own = load_tokenizer(source)
    if own:
        own.save_pretrained(folder)
    elif name:
        try:
            AutoTokenizer.from_pretrained(name, **NO_CODE).save_pretrained(folder)
        except Exception as error:  # any error of a library that uses the hub
            reason, remedy = hub.explained(error)
            warnings.warn(
                f"the model has no tokenizer and reads numbers alone, for that of {name}, which its config.json names, "
                f"could not be had ({reason}): {remedy}, and make the model again",
                stacklevel=2,
            )
