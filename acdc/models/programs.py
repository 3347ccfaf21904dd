"""Run a model by its own programs, Transformers and TransformerLens, to compare the engine with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from acdc.data import Dataset
from acdc.engine.check import Expected, Program, check_engine
from acdc.engine.model import Engine
from acdc.engine.weights import Weights
from acdc.models.bridge import PROCESSED, load_bridge, load_hugging_face
from acdc.models.files import NATIVE_CONFIG
from acdc.models.reset import RESET

TRIED = (2, 16)
"""The numbers of prompts and positions of random tokens on which a model is tried when it is converted."""


def programs_of(folder: Path) -> dict[str, Callable[[], Program]]:
    """Return functions that load the programs of the model in a folder, by name.

    TransformerLens runs every model, and Transformers also runs a Hugging Face model. TransformerLens's own models have
    no other program; if their weights are processed, the unprocessed model is run too. Processing centres the
    unembedding, so the logits of an unprocessed model are centred for the comparison. A reset network is run only by
    TransformerLens.
    """
    programs: dict[str, Callable[[], Program]] = {}
    is_processed, is_native = (folder / PROCESSED).exists(), (folder / NATIVE_CONFIG).exists()
    if not is_native and not (folder / RESET).exists():
        programs["Transformers"] = partial(run_by_transformers, folder, is_processed)
    elif is_native and is_processed and not (folder / RESET).exists():
        programs["the unprocessed model"] = partial(run_unprocessed, folder)
    return programs | {"TransformerLens": partial(load_bridge, folder)}


def run_by_transformers(folder: Path, is_processed: bool) -> Program:
    """Return Transformers' own forward pass, with centred logits if the model's weights are to be processed."""
    run = forward_of(load_hugging_face(folder))
    return centred(run) if is_processed else run


def forward_of(model: PreTrainedModel) -> Program:
    """Return a Hugging Face model's own forward pass."""
    return lambda tokens: model(tokens, use_cache=False).logits


def run_unprocessed(folder: Path) -> Program:
    """Return a TransformerLens model without processed weights, with centred logits."""
    return centred(load_bridge(folder, process=False))


def centred(program: Program) -> Program:
    """Return a program with its logits centred to mean 0 over the vocabulary."""

    def run(tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_vocab"]:
        logits = program(tokens)
        return logits - logits.mean(-1, keepdim=True)

    return run


def try_model(folder: Path, weights: Weights) -> None:
    """Compare a converted model with its programs on random tokens.

    Raises:
        InputError: the engine's logits differ from a program's by more than rounding.
    """
    n_prompts, n_pos = TRIED
    shape = (2 * n_prompts, min(n_pos, weights.architecture.n_ctx))
    tokens = torch.randint(len(weights.embed), shape, generator=torch.Generator().manual_seed(0))
    clean, corrupted = tokens.chunk(2)
    data = Dataset(clean, corrupted, torch.ones_like(clean, dtype=torch.bool), {})
    (expected,) = Expected.of(programs_of(folder), data)
    check_engine(Engine(weights, data, ablation="corrupted"), expected)
