"""What replaces a removed edge: the activations of an ablated run.

``corrupted``: the corrupted prompts. ``corrupted_permuted``: the same with position embeddings permuted across
positions, or no edge that carries positions could ever matter. ``zero``: every sender
writes zero, while biases of attention outputs, norms, q, k and v still act. (The original's
TLACDCExperiment.py:414-455. Its corrupted ablation permutes whenever the embeddings are split; the paper's
published points for tracr come back without the permutation.) ``mean``: as ``zero``, but every sender writes the mean,
position by position, of what it writes on all corrupted prompts of the dataset. (Mean ablation as in Wang et al. 2022,
the IOI paper, arXiv 2211.00593, whose mean is over the prompts of another distribution, too. It is meant for prompts
of one length: where they are padded, padding is in the mean.)
"""

from __future__ import annotations

import torch

PERMUTED = "corrupted_permuted"
MEAN = "mean"
NAMES = ("corrupted", PERMUTED, "zero", MEAN)


def shuffled_positions(n_pos: int) -> torch.Tensor:
    """The one permutation of positions that the original uses for all prompts (``shuffle_tensor``, seed 49)."""
    return torch.randperm(n_pos, generator=torch.Generator().manual_seed(49))
