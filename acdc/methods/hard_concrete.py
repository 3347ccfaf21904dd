"""Draw shares of nodes or edges from hard concrete distributions (Louizos et al. 2018, arXiv 1712.01312).

A share lies in [0, 1], and has a chance to be 0 and one to be 1: gradient descent can learn it, and yet it can end as
all or nothing. Its distribution has one parameter, the score: where that is 0, half of all draws are above 1/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.graph import Node

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""The temperature and the ends of the distribution before it is clamped to [0, 1]: those of SP and of Edge Pruning."""


def shares_at(noise: Float[Tensor, "..."], score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the shares at the logits of uniform draws."""
    stretched = torch.sigmoid((noise + score) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def chance_of_any(score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the chance that a share is above 0: equation 12 of the paper."""
    return torch.sigmoid(score - BETA * log(-GAMMA / ZETA))


def alike(nodes: Sequence[Node]) -> Iterator[list[int]]:
    """Yield the nodes of each layer and kind, by their index: their scores are one tensor in the originals."""
    kinds = [(node.layer, node.component, node.port) for node in nodes]
    for kind in dict.fromkeys(kinds):
        yield [i for i, other in enumerate(kinds) if other == kind]
