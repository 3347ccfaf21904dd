"""What replaces a removed edge: the activations of an ablated run."""

from __future__ import annotations

import torch

from acdc.data import Dataset
from acdc.engine.runs import Rows, Run, run
from acdc.models.architecture import Weights

NAMES = ("corrupted", "zero")


def shuffled_positions(n_pos: int) -> torch.Tensor:
    """The one permutation of positions that the original uses for all prompts (``shuffle_tensor``, seed 49)."""
    return torch.randperm(n_pos, generator=torch.Generator().manual_seed(49))


def ablated_run(weights: Weights, dataset: Dataset, rows: Rows, ablation: str, split_embed: bool) -> Run:
    """The run whose activations stand in for removed edges (TLACDCExperiment.py:414-455).

    ``corrupted``: the corrupted prompts; where token and position embeddings are two senders, position
    embeddings are permuted too, or no position edge could ever matter. ``zero``: every sender writes zero.
    """
    if ablation == "zero":
        return run(weights, dataset.clean, rows, split_embed=split_embed, zero=True)
    order = shuffled_positions(dataset.clean.shape[1]) if split_embed else None
    return run(weights, dataset.corrupted, rows, split_embed=split_embed, position_order=order)
