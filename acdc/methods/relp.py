"""Score edges by relevance patching: attribution patching with the coefficients of layer-wise relevance propagation.

RelP (Jafari et al. 2025, arXiv 2508.21258) replaces gradients by coefficients of three rules. A norm's scale counts as
a constant (LN-rule). An activation function f has the gradient f(x) / x (identity rule). The gradient of a gated
product is halved (half-rule). The rules are those of the authors' code (FarnoushRJ/RelP at aa0e228).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import NOTHING
from acdc.engine.model import Engine
from acdc.engine.weights import Block
from acdc.methods.backward import NORMS, ModifiedModel, partly
from acdc.methods.driver import Scored
from acdc.methods.eap import edge_scores
from acdc.methods.gradients import over_prompts
from acdc.metrics import MetricKind

SMALLEST = 1e-6
"""The smallest distance of a divisor x from 0."""


def relp(engine: Engine, kind: MetricKind) -> Scored:
    """Score edges as EAP does, by RelP's coefficients. Removing an edge of positive score makes the metric worse.

    Returns:
        The score of every addition edge, Float[sender receiver].
    """
    scores = over_prompts(engine, lambda model: edge_scores(model, kind, [NOTHING]), RelpModel)
    return Scored(scores, evaluations=1)


def by_identity(f: Callable[..., Tensor], x: Float[Tensor, "..."], **how: Any) -> Float[Tensor, "..."]:
    """Compute an activation function f with the gradient f(x) / x."""
    away = x.detach().sign()
    bottom = x + SMALLEST * away.masked_fill(away == 0, 1)
    return bottom * (f(x, **how) / bottom).detach()


class RelpModel(ModifiedModel):
    """Compute the masked model's logits, with RelP's coefficients in place of gradients."""

    rules: ClassVar = {
        **NORMS,
        F.gelu: partial(by_identity, F.gelu),
        F.silu: partial(by_identity, F.silu),
        F.relu: partial(by_identity, F.relu),
        # The square of a rectified x, which is an activation too.
        Tensor.square: partial(by_identity, Tensor.square),
    }

    def mlp(self, block: Block, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        out = super().mlp(block, x)
        # All of a gated MLP's gradient goes through the product.
        return partly(out, 0.5) if self.weights.architecture.gated else out
