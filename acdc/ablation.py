"""Define the ablations: what an edge carries once it is removed.

A removed edge carries what its sender writes in the *ablated run*. An ``Ablation`` says how that run differs from a
plain run on the corrupted prompts. The engine, the masked model and the oracle ask it; none of them compares names.

The four that ship, with their sources:

* corrupted: a plain run on the corrupted prompts (Conmy et al. 2023, section 3).
* corrupted_permuted: a plain run on the corrupted prompts, with the position embeddings permuted across positions. The
  original's code permutes them whenever it splits the embeddings (TLACDCExperiment.py:414-455). The paper's published
  points for tracr come back without it.
* zero: every sender writes zero. Biases of attention outputs, norms, q, k and v still act (the same lines).
* mean: every sender writes its mean over all corrupted prompts, position by position (Wang et al. 2022, arXiv
  2211.00593, who take the mean over prompts of another distribution). Prompts of several lengths are refused: padding
  would be in the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc import catalogue
from acdc.errors import InputError

if TYPE_CHECKING:
    from acdc.data import Dataset

Written = list[Float[Tensor, "..."]]
"""A tensor per sender, in the senders' order: a head's z [..., d_head], and [..., d_model] of any other sender.

Where a norm follows the heads, a head's z is divided by what the norm divides by (``acdc.engine.runs.scale_after``).
"""


@runtime_checkable
class Senders(Protocol):
    """Tell an ablation what a model's senders write."""

    def zeros(self) -> Written:
        """Return zeros of every sender's shape: Float[pos d]."""

    def on_corrupted(self) -> Iterator[Written]:
        """Yield what every sender writes on the corrupted prompts, some prompts at a time: Float[prompt pos d]."""


class Ablation:
    """Run the corrupted prompts as they are: corrupted ablation, and the base of the others.

    Attributes:
        is_plain: whether the ablated run is a plain forward pass on the corrupted prompts, so that a circuit without
            edges has that pass's logits.
        can_starve: whether a circuit may leave a receiver with nothing in its input but what biases write.
    """

    is_plain = True
    can_starve = False

    def check(self, dataset: Dataset) -> None:
        """Raise InputError where the ablation makes no sense on these prompts."""

    def position_order(self, n_pos: int) -> Int[Tensor, "pos"] | None:
        """Return the order in which positions take their embeddings; None where each takes its own."""
        return None

    def outputs(self, senders: Senders) -> Written | None:
        """Return what every sender writes whatever the prompt, Float[pos d]; None where the prompt decides."""
        return None


class CorruptedPermuted(Ablation):
    """Permute the position embeddings in the corrupted run, so that edges which carry positions can matter."""

    is_plain = False

    def position_order(self, n_pos: int) -> Int[Tensor, "pos"]:
        """Return the one permutation that the original uses for all prompts (``shuffle_tensor``, seed 49)."""
        return torch.randperm(n_pos, generator=torch.Generator().manual_seed(49))


class Zero(Ablation):
    """Let every sender write zero."""

    is_plain = False
    can_starve = True

    def outputs(self, senders: Senders) -> Written:
        """Return zeros."""
        return senders.zeros()


class Mean(Ablation):
    """Let every sender write its mean over the corrupted prompts, position by position."""

    is_plain = False

    def check(self, dataset: Dataset) -> None:
        """Raise InputError for prompts that are padded: the mean would depend on the token of the padding."""
        if dataset.padding is not None:
            raise InputError(
                "mean ablation takes means position by position and these prompts differ in length, so that padding"
                " would be in them: take prompts of one length, or another ablation"
            )

    def outputs(self, senders: Senders) -> Written:
        """Return the means. They have no rounding where all prompts agree, so that no difference arises there."""
        means: Written = []
        seen = 0
        for batch in senders.on_corrupted():
            seen += len(batch[0])
            means = means or [x[0] for x in batch]
            means = [mean + (x - mean).sum(0) / seen for mean, x in zip(means, batch, strict=True)]
        return means


def named(ablation: str | Ablation) -> Ablation:
    """Return the ablation of this name in the catalogue, or the ablation itself where one is given.

    Raises:
        InputError: the catalogue has no ablation of that name.
    """
    return catalogue.ABLATIONS[ablation].load()() if isinstance(ablation, str) else ablation
