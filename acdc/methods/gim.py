"""Score edges by attribution patching with gradients that do not cancel where softmax and products saturate.

Gradient interaction modifications (GIM, Edin et al. 2025, arXiv 2505.17630) change only the backward pass. A norm's
scale counts as a constant. Attention's softmax has the gradient of a softmax at twice the temperature. The factors of a
product share its gradient: values get half of it, queries and keys a quarter each, since their product is itself a
factor. The constants are those of the authors' code (gim-explain 0.1.4).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import NOTHING
from acdc.engine.model import Engine
from acdc.methods.backward import NORMS, ModifiedModel, partly
from acdc.methods.driver import Scored
from acdc.methods.eap import edge_scores
from acdc.methods.gradients import over_prompts
from acdc.metrics import MetricKind

TEMPERATURE = 2.0
OF_QUERIES, OF_KEYS, OF_VALUES = 0.25, 0.25, 0.5
"""The factors of the gradients at attention's queries, keys and values."""


def gim(engine: Engine, kind: MetricKind) -> Scored:
    """Score edges as EAP does, by modified gradients. Removing an edge of positive score makes the metric worse.

    Returns:
        The score of every addition edge, Float[sender receiver].
    """
    scores = over_prompts(engine, lambda model: edge_scores(model, kind, [NOTHING]), GimModel)
    return Scored(scores, evaluations=1)


class Softmax(torch.autograd.Function):
    """Compute a softmax over the last dimension, with the gradient of a softmax at ``TEMPERATURE``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        """Return the softmax, and keep the one at ``TEMPERATURE``."""
        ctx.save_for_backward((x / TEMPERATURE).softmax(dim))
        return x.softmax(dim)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the one that was kept."""
        (gradient,), (softer,) = above, ctx.saved_tensors
        return softer * (gradient - (gradient * softer).sum(-1, keepdim=True)), None


class GimModel(ModifiedModel):
    """Compute the masked model's logits with GIM's modified gradients."""

    rules: ClassVar = {**NORMS, Tensor.softmax: Softmax.apply}

    def attention(self, layer: int, ports: Float[Tensor, "port row d_head"]) -> Float[Tensor, "head row d_head"]:
        n_heads, n_kv = self.graph.n_heads, self.graph.n_kv_heads
        parts = [OF_QUERIES] * n_heads + [OF_KEYS] * n_kv + [OF_VALUES] * n_kv
        part = torch.tensor(parts).to(ports)[:, None, None]
        return super().attention(layer, partly(ports, part))
