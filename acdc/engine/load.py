"""Make an engine from files: a model's folder and a dataset."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc import __version__, fingerprint
from acdc.ablation import Ablation
from acdc.data import Dataset
from acdc.engine.check import check_engine
from acdc.engine.model import Engine
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.models.bridge import load_bridge, weights_of

LIBRARIES = ("torch", "transformer_lens", "transformers", "numpy")


def load_engine(
    model: Path,
    dataset: Path,
    *,
    ablation: str,
    split_embed: bool = False,
    device: str = "auto",
    precision: str = "float32",
    memory_gib: float = 2.0,
    threads: int = 1,
    resample: int | None = None,
) -> Engine:
    """Load a model and a dataset, and return their engine after a comparison with TransformerLens.

    Args:
        model: folder of the model.
        ablation: a name in the catalogue.
        device: ``auto`` takes CUDA where there is one.
        precision: ``float32`` or ``float64``.
        memory_gib: what candidates may use, in GiB. Less is slower and never gives another result.
        threads: how many torch uses.
        resample: the seed of a bootstrap resample of the dataset; None for the dataset itself.

    Raises:
        InputError: the folder holds no model, or the engine does not cover it.
    """
    torch.set_num_threads(threads)
    data = Dataset.load(dataset)
    data = data if resample is None else data.resample(resample)
    return engine_of(load_bridge(model), data, ablation, split_embed, device, precision, memory_gib)


def engine_of(
    bridge: TransformerBridge,
    data: Dataset,
    ablation: Ablation | str,
    split_embed: bool = False,
    device: str = "auto",
    precision: str = "float32",
    memory_gib: float = 2.0,
) -> Engine:
    """Return the engine of a bridge, after a comparison with the bridge's logits; arguments as of ``load_engine``."""
    place = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    weights = weights_of(bridge).to(place, getattr(torch, precision))
    check_fits(weights, data)
    memory = round(memory_gib * 2**30)
    engine = Engine(weights, data, ablation=ablation, split_embed=split_embed, memory=memory)
    corrupted = bridge_logits(bridge, data, data.corrupted).to(place) if engine.ablation.is_plain else None
    check_engine(engine, bridge_logits(bridge, data, data.clean).to(place), corrupted)
    return engine


def check_fits(weights: Weights, data: Dataset) -> None:
    """Raise InputError where prompts are longer than the model's context or have tokens that it does not have."""
    tokens, n_ctx, last = torch.cat([data.clean, data.corrupted]), weights.architecture.n_ctx, len(weights.embed) - 1
    if tokens.shape[1] > n_ctx:
        raise InputError(f"a prompt has {tokens.shape[1]} tokens and the model takes {n_ctx}: shorten the prompts")
    wrong = tokens[(tokens < 0) | (tokens > last)].tolist()
    if wrong:
        raise InputError(
            f"the prompts have token {wrong[0]} and the model's are 0 to {last}: make them with this model's tokenizer"
        )


@torch.no_grad()
def bridge_logits(
    bridge: TransformerBridge, data: Dataset, tokens: Int[Tensor, "prompt pos"]
) -> Float[Tensor, "scored d_vocab"]:
    """Return TransformerLens's logits at the scored positions, on the bridge's device."""
    place = next(bridge.parameters()).device
    return bridge(tokens.to(place))[data.scored.to(place)]


def versions() -> dict[str, str]:
    """Return the versions of acdc and of the libraries that it computes with."""
    return {"acdc": __version__, **{name: version(name) for name in LIBRARIES}}


def settings_of(
    labels: dict[str, str],
    own: dict[str, Any],
    weights_sha256: str,
    data: Dataset,
    *,
    split_embed: bool,
    precision: str,
) -> dict[str, Any]:
    """Return all that decides what a search finds, but for the value that sets a circuit's size, and the device.

    Args:
        labels: the ``method``, ``metric`` and ``ablation`` by their names in the catalogue, and what else names the
            search in tables.
        own: the method's settings.
    """
    return {
        **labels,
        **own,
        "split_embed": split_embed,
        "code_sha256": fingerprint.of_search(labels["method"], labels["metric"], labels["ablation"]),
        "weights_sha256": weights_sha256,
        "dataset_sha256": data.sha256,
        "versions": versions(),
        "precision": precision,
    }
