"""Load TransformerLens models from folders, and make them from Hugging Face models."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from acdc.errors import InputError, first_line, reading
from acdc.models.files import NATIVE_CONFIG, check_folder, loading
from acdc.models.reset import RESET, reset
from acdc.models.tokenizer import NO_CODE, load_tokenizer

PROCESSED = "processed"
"""The file that marks a folder whose weights are processed when they are loaded, see ``load_bridge``."""
NATIVE = "TransformerLensNative"
SHORTFORMER = "shortformer"


def load_bridge(folder: Path, *, process: bool = True) -> TransformerBridge:
    """Load the model in a folder that is in the Hugging Face format or that ``save_native`` wrote.

    The weights are processed if there is a file ``PROCESSED`` beside them: LayerNorm is folded into the weights that
    read from it, the weights that write to the residual stream and the unembedding are centred, value biases are folded
    into the output's bias. That was TransformerLens 1.x's default. It changes neither the model's outputs nor, under
    corrupted ablation, any circuit's. Under zero ablation it changes circuits, since a folded value bias is no longer
    part of a head's output.

    Then the weights are permuted if there is a file ``RESET``, see ``acdc.models.reset``.

    Args:
        process: whether to heed the file ``PROCESSED``; False leaves the weights as they are.

    Raises:
        InputError: the folder holds no model, or its weights cannot be permuted as ``RESET`` says.
    """
    check_folder(folder)
    if (folder / NATIVE_CONFIG).exists():
        with reading(folder / NATIVE_CONFIG, "make the model again by `acdc model`"):
            bridge = boot_native(json.loads((folder / NATIVE_CONFIG).read_text()))
        with reading(folder / "model.safetensors", "make the model again by `acdc model`"):
            bridge.load_state_dict(load_file(folder / "model.safetensors"))
    else:
        tokenizer = load_tokenizer(folder)  # before the weights, which take longer
        bridge = boot(load_hugging_face(folder), tokenizer)
    compatible(bridge, process and (folder / PROCESSED).exists())
    if (folder / RESET).exists():
        with reading(folder / RESET, "make the model again by `acdc model`"):
            settings = json.loads((folder / RESET).read_text())
            reset(bridge, **settings)
    return bridge.requires_grad_(False).eval()


def mark_processed(folder: Path) -> None:
    """Mark a model's folder so that its weights are processed when they are loaded, see ``load_bridge``.

    Raises:
        InputError: the model is a Shortformer. Its positions bypass LayerNorm, so folding LayerNorm changes the model.
    """
    native = folder / NATIVE_CONFIG
    if native.exists() and json.loads(native.read_text())["positional_embedding_type"] == SHORTFORMER:
        raise InputError(f"model folder {folder} is a shortformer, which processing would change: leave out processed")
    (folder / PROCESSED).touch()


def load_hugging_face(folder: Path) -> PreTrainedModel:
    """Load a model in the Hugging Face format by Transformers, in float32.

    Raises:
        InputError: Transformers cannot load the model, or only by running code that comes with it, or the folder lacks
            weights, which Transformers would draw at random.
    """
    with loading(folder):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **NO_CODE
        )
    if missing := sorted(loaded["missing_keys"]):
        raise InputError(
            f"model folder {folder} lacks weights, {missing[0]} and {len(missing) - 1} more, which Transformers draws"
            " at random: take a model that is whole"
        )
    return model.requires_grad_(False).eval()


def of_hugging_face(model: PreTrainedModel, tokenizer: Any | None) -> TransformerBridge:
    """Return a bridge of a Hugging Face model, which stays as it is and shares its float32 weights."""
    bridge = boot(private(model), tokenizer)
    compatible(bridge)
    return bridge.requires_grad_(False).eval()


def of_bridge(bridge: TransformerBridge) -> TransformerBridge:
    """Return a bridge of the same model as the given one, which stays as it is.

    The new bridge has no gradients, no dropout and no temporary hooks, and is in compatibility mode. Weights that
    TransformerLens has processed stay processed.
    """
    copied = private(bridge)
    copied.reset_hooks()
    if not copied.compatibility_mode:
        compatible(copied)
    return copied.requires_grad_(False).eval()


def hugging_face_config(bridge: TransformerBridge) -> Any:
    """Return the config of a Hugging Face model; None for a TransformerLens native model."""
    return None if bridge.cfg.architecture == NATIVE else bridge.original_model.config


Module = TypeVar("Module", bound=torch.nn.Module)


def private(module: Module) -> Module:
    """Return a copy of a module in float32, without gradients and dropout, that shares the float32 tensors."""
    shared: dict[int, Any] = {id(b): b for b in module.buffers()}
    shared |= {id(p): torch.nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, shared).float().eval()


def boot(model: PreTrainedModel, tokenizer: Any | None) -> TransformerBridge:
    """Make a bridge of a Hugging Face model, which becomes a part of the bridge."""
    # TransformerLens recognises a model by this list, which only saved models have.
    model.config.architectures = [type(model).__name__]
    # The quicker ways to run a mixture of experts do not compute in float64.
    model.set_experts_implementation("eager")
    with tempfile.TemporaryDirectory() as folder:
        # TransformerLens wants a tokenizer, and loads it a second time from where it was loaded first.
        (tokenizer or unknown_words()).save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder, **NO_CODE)
        try:
            bridge = TransformerBridge.boot_transformers(type(model).__name__, hf_model=model, tokenizer=loaded)
        except Exception as error:  # any error of a library that does not know the model
            raise InputError(f"TransformerLens cannot run {type(model).__name__}: {first_line(error)}") from error
    if tokenizer is None:
        bridge.tokenizer = None
    return bridge


def compatible(bridge: TransformerBridge, process: bool = False) -> None:
    """Put a bridge into compatibility mode, in which all models have the same hook points.

    Raises:
        InputError: TransformerLens has no compatibility mode for this model.
    """
    try:
        bridge.enable_compatibility_mode(no_processing=not process)
    except RuntimeError as error:
        raise InputError(f"TransformerLens cannot run {bridge.cfg.architecture}: {first_line(error)}") from error


def unknown_words() -> PreTrainedTokenizerFast:
    """Return a tokenizer with no word, for models that have no tokenizer."""
    only = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=only, unk_token="<unk>")


def boot_native(config: dict[str, Any]) -> TransformerBridge:
    """Make an untrained TransformerLens native model; Shortformer positions, which TransformerLens lacks, work too."""
    is_shortformer = config.get("positional_embedding_type") == SHORTFORMER
    known = config | ({"positional_embedding_type": "standard"} if is_shortformer else {})
    # TransformerLens adds this method after the class, where no type checker sees it.
    bridge: TransformerBridge = TransformerBridge.boot_native(known)
    if is_shortformer:
        make_shortformer(bridge)
    return bridge


def make_shortformer(bridge: TransformerBridge) -> None:
    """Move a native model's learned position embeddings from the residual stream to the inputs of q and k.

    They are added there after the norm, and v does not see them (Press et al. 2021; TransformerLens 1.x calls it
    shortformer). Permanent hooks add them, so that other hooks can come and go. Position embeddings must stay as they
    were trained, so no norm may be folded into W_Q and W_K.
    """
    bridge.pos_embed.hook_out.add_perma_hook(lambda x, hook: torch.zeros_like(x))
    for block in bridge.blocks:
        for port in "qk":
            add = partial(add_positions, bridge, block.attn, f"W_{port.upper()}")
            getattr(block.attn, port).hook_out.add_perma_hook(add)
    bridge.cfg.positional_embedding_type = SHORTFORMER


def add_positions(
    bridge: TransformerBridge, attention: Any, weight: str, x: Float[Tensor, "prompt pos head d_head"], hook: Any
) -> Float[Tensor, "prompt pos head d_head"]:
    """Add to q or k, as a hook, the projection of the position embeddings in their input."""
    positions = bridge.pos_embed.W_pos[: x.shape[1]]
    return x + torch.einsum("pm,hmd->phd", positions, getattr(attention, weight))


def save_native(bridge: TransformerBridge, config: dict[str, Any], folder: Path) -> None:
    """Write a model of ``boot_native`` to a folder that ``load_bridge`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in bridge.state_dict().items()}, folder / "model.safetensors")
    (folder / NATIVE_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
