"""What replaces a removed edge: the activations of an ablated run.

``corrupted``: the corrupted prompts; where token and position embeddings are two senders, position embeddings
are permuted too, or no position edge could ever matter. ``zero``: every sender writes zero, while biases of
attention outputs, norms, q, k and v still act. (The original's TLACDCExperiment.py:414-455.)
"""

from __future__ import annotations

import torch

NAMES = ("corrupted", "zero")


def shuffled_positions(n_pos: int) -> torch.Tensor:
    """The one permutation of positions that the original uses for all prompts (``shuffle_tensor``, seed 49)."""
    return torch.randperm(n_pos, generator=torch.Generator().manual_seed(49))
