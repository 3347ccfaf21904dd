"""Store attention patterns of heads on some prompts, small enough for a page: shares of attention in 255ths."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.analysis.attention import patterns, places, runs_of
from acdc.analysis.heads import heads_of
from acdc.data import NOWHERE, Dataset
from acdc.engine.model import Engine
from acdc.text import piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_SHOWN = 4
"""The largest number of prompts whose attention patterns are stored."""
MOST_BYTES = 2**19
"""The largest size of all stored patterns in bytes. With many heads fewer prompts are stored; with a long first prompt,
none."""
STEPS = 255
SIDES = ("clean", "corrupted")


def head_patterns(engine: Engine, tokenizer: PreTrainedTokenizerBase | None, kept: Collection[str]) -> dict[str, Any]:
    """Return the attention patterns of some heads on the first prompts of a dataset.

    Args:
        kept: names of the heads.

    Returns:
        ``prompts``: for each prompt its ``clean`` and ``corrupted`` tokens as texts, up to the last scored one, and
        ``labels``, each with its position in both (None where it has none). ``patterns``: for each head and prompt, the
        shares of attention on the clean and on the corrupted prompt, query by query, as bytes in base64.
    """
    lengths = engine.dataset.scored.int().cumsum(1).argmax(1) + 1
    affordable = (2 * len(kept) * lengths.square()).cumsum(0) <= MOST_BYTES
    n_shown = min(N_SHOWN, int(affordable.sum()))
    data, size = engine.dataset.select(slice(n_shown)), lengths[:n_shown].tolist()
    if not n_shown:
        return {"prompts": [], "patterns": {}}
    sides = [of_side(engine, data.to(engine.device), side) for side in range(len(SIDES))]
    names = [node.name for node in heads_of(engine.graph)]
    return {
        "prompts": [shown_prompt(data, i, n, tokenizer) for i, n in enumerate(size)],
        "patterns": {
            name: [[encoded(side[h, i, :n, :n]) for side in sides] for i, n in enumerate(size)]
            for h, name in enumerate(names)
            if name in kept
        },
    }


def of_side(engine: Engine, data: Dataset, side: int) -> Float[Tensor, "head prompt query key"]:
    """Return the attention patterns of all heads on the clean (0) or corrupted (1) prompts."""
    of, rows = runs_of(engine.weights, data, (data.clean, data.corrupted)[side])
    return torch.cat(list(patterns(engine.weights, of, rows)))


def encoded(pattern: Float[Tensor, "query key"]) -> str:
    """Encode a pattern of attention as bytes in base64."""
    steps = (pattern * STEPS).round().to(torch.uint8).cpu().numpy()
    return base64.b64encode(steps.tobytes()).decode()


def shown_prompt(data: Dataset, i: int, n: int, tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any]:
    """Return a prompt's tokens as texts, and the positions of its labels."""
    at = [places(data, side) for side in range(len(SIDES))]
    labels = {name: [int(side[name][i]) for side in at] for name in at[0]}
    texts = {
        name: [str(token) if tokenizer is None else piece(tokenizer, token) for token in tokens[i, :n].tolist()]
        for name, tokens in zip(SIDES, (data.clean, data.corrupted), strict=True)
    }
    return {**texts, "labels": {name: [None if p == NOWHERE else p for p in both] for name, both in labels.items()}}
