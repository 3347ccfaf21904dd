"""Score edges by attribution patching with gradients that do not cancel where softmax and products saturate.

Gradient interaction modifications (GIM, Edin et al. 2025, arXiv 2505.17630) change the backward pass alone: a norm's
scale counts as a constant; attention's softmax has the slope of a softmax at twice the temperature; and of a product's
gradient each factor gets its part: half for values, a quarter each for queries and keys, whose product is a factor
itself. The constants are those of the authors' code (gim-explain 0.1.4).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import NOTHING, Added, Given, Mask, MaskedModel
from acdc.engine.model import Engine
from acdc.methods.backward import NORMS, Modified, partly
from acdc.methods.driver import Scored
from acdc.methods.eap import edge_scores
from acdc.methods.gradients import over_prompts
from acdc.metrics import MetricKind

TEMPERATURE = 2.0
OF_QUERIES, OF_KEYS, OF_VALUES = 0.25, 0.25, 0.5
"""The parts of a gradient that go on to attention's inputs."""


def gim(engine: Engine, kind: MetricKind) -> Scored:
    """Score edges as EAP does, by modified gradients: positive where removing an edge makes the metric worse."""
    scores = over_prompts(engine, lambda model: edge_scores(model, kind, [NOTHING]), GimModel)
    return Scored(scores, evaluations=1)


class GimModel(MaskedModel):
    """Compute what ``MaskedModel`` does, with modified gradients."""

    def logits(
        self,
        mask: Mask,
        given: Given = NOTHING,
        added: Added = NOTHING,
    ) -> Float[Tensor, "scored d_vocab"]:
        with Modified(RULES):
            return super().logits(mask, given, added)

    def attention(self, layer: int, ports: Float[Tensor, "port row d_head"]) -> Float[Tensor, "head row d_head"]:
        n_heads, n_kv = self.graph.n_heads, self.graph.n_kv_heads
        parts = [OF_QUERIES] * n_heads + [OF_KEYS] * n_kv + [OF_VALUES] * n_kv
        part = torch.tensor(parts).to(ports)[:, None, None]
        return super().attention(layer, partly(ports, part))


class Softmax(torch.autograd.Function):
    """Compute a softmax over the last dimension, with the gradient of one at ``TEMPERATURE``."""

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


RULES = {**NORMS, Tensor.softmax: Softmax.apply}
