"""Draw shares of nodes or edges from hard concrete distributions (Louizos et al. 2018, arXiv 1712.01312).

A share lies in [0, 1], and is exactly 0 and exactly 1 with probabilities above 0. So gradient descent can train it, and
it can still end as all or nothing. Its distribution has one parameter, the score; at score 0 half of all draws are
above 1/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.graph import Node

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""The temperature, and the ends of the distribution before it is clamped to [0, 1], as in SP and Edge Pruning."""


def shares_at(noise: Float[Tensor, "..."], score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the shares for the logits of uniform random numbers."""
    stretched = torch.sigmoid((noise + score) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def chance_of_any(score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the probability that a share is above 0: equation 12 of Louizos et al. 2018."""
    return torch.sigmoid(score - BETA * log(-GAMMA / ZETA))


def alike(nodes: Sequence[Node]) -> Iterator[list[int]]:
    """Yield the indices of the nodes of each layer and kind, whose scores are one tensor in the original codes."""
    kinds = [(node.layer, node.component, node.port) for node in nodes]
    for kind in dict.fromkeys(kinds):
        yield [i for i, other in enumerate(kinds) if other == kind]
