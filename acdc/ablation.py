"""Define the ablations: what an edge carries once it is removed.

A removed edge carries its sender's output in the *ablated run*. An ``Ablation`` says how that run differs from a plain
run on the corrupted prompts. The engine, the masked model and the oracle call it; none of them compares names.

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

If a norm follows the heads, a head's z is multiplied by that norm's scale (``acdc.engine.runs.scale_after``).
"""


@runtime_checkable
class Senders(Protocol):
    """Give an ablation the outputs of a model's senders."""

    def zeros(self) -> Written:
        """Return zeros in the shape of every sender's output: Float[pos d]."""

    def on_corrupted(self) -> Iterator[Written]:
        """Yield every sender's output on the corrupted prompts, batch by batch: Float[prompt pos d]."""


class Ablation:
    """Define an ablation by how its run differs from a plain run on the corrupted prompts; here it does not.

    Attributes:
        is_plain: whether the ablated run is a plain forward pass on the corrupted prompts, so that a circuit without
            edges has that pass's logits.
        can_starve: whether a receiver in a circuit may have no input but biases.
    """

    is_plain = True
    can_starve = False

    def check(self, dataset: Dataset) -> None:
        """Check that the ablation is defined on these prompts; raise InputError if not."""

    def position_order(self, n_pos: int) -> Int[Tensor, "pos"] | None:
        """Return for each position the position whose embedding it takes, Int[pos]; None where each keeps its own."""
        return None

    def outputs(self, senders: Senders) -> Written | None:
        """Return every sender's output if all prompts share it, Float[pos d]; None if it depends on the prompt."""
        return None


class CorruptedPermuted(Ablation):
    """Permute the position embeddings of the corrupted run, so that edges that carry positions can matter."""

    is_plain = False

    def position_order(self, n_pos: int) -> Int[Tensor, "pos"]:
        """Return the original's permutation of positions, one for all prompts (``shuffle_tensor``, seed 49)."""
        return torch.randperm(n_pos, generator=torch.Generator().manual_seed(49))


class Zero(Ablation):
    """Set every sender's output to zero."""

    is_plain = False
    can_starve = True

    def outputs(self, senders: Senders) -> Written:
        """Return zeros for every sender: Float[pos d]."""
        return senders.zeros()


class Mean(Ablation):
    """Set every sender's output to its mean over the corrupted prompts, position by position."""

    is_plain = False

    def check(self, dataset: Dataset) -> None:
        """Check that no prompt is padded, since padding would enter the mean; raise InputError if one is."""
        if dataset.padding is not None:
            raise InputError(
                "mean ablation takes means position by position and these prompts differ in length, so that padding"
                " would be in them: take prompts of one length, or another ablation"
            )

    def outputs(self, senders: Senders) -> Written:
        """Return every sender's mean output over the corrupted prompts: Float[pos d].

        The running mean has no rounding error where all prompts agree, so that no difference arises there.
        """
        means: Written = []
        seen = 0
        for batch in senders.on_corrupted():
            seen += len(batch[0])
            means = means or [x[0] for x in batch]
            means = [mean + (x - mean).sum(0) / seen for mean, x in zip(means, batch, strict=True)]
        return means


def named(ablation: str | Ablation) -> Ablation:
    """Return the ablation that has this name in the catalogue; return an ablation object unchanged.

    Raises:
        InputError: the catalogue has no ablation of that name.
    """
    return catalogue.ABLATIONS[ablation].load()() if isinstance(ablation, str) else ablation
