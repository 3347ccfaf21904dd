"""Compute gradients of a metric in the whole model, a few prompts at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import NOTHING, Given, Mask, MaskedModel, masked_models
from acdc.engine.model import Engine
from acdc.graph import AnyScores, Circuit
from acdc.metrics import Metric

PROMPTS_AT_ONCE = 8
"""The number of prompts whose gradients are computed at once. A gradient needs every activation of the masked forward
pass: half a gigabyte for two prompts of SmolLM2-135M."""


def over_prompts(
    engine: Engine, score: Callable[[MaskedModel], AnyScores], kind: type[MaskedModel] = MaskedModel
) -> AnyScores:
    """Score an engine's dataset a few prompts at a time, and return the mean of the scores.

    Args:
        score: a function that scores some prompts by their masked model.
        kind: the class of these models.
    """
    total = np.zeros(())
    for model in masked_models(engine, PROMPTS_AT_ONCE, kind):
        scores = score(model)
        total = total + engine.dataset.share(model.dataset) * scores.score
    return replace(scores, score=total)


def gradients(
    model: MaskedModel, metric: Metric, given: Given = NOTHING
) -> tuple[Float[Tensor, "receiver row d_model"], Float[Tensor, "receiver row"]]:
    """Compute the metric's gradients in the whole model: at receivers' inputs, and in the shares of direct edges.

    Args:
        given: changes of senders' outputs that replace the computed ones, see ``acdc.engine.masked``.
    """
    mask = replace(Mask.of(Circuit.full(model.graph), model.weights.embed), all_present=True)
    n_rows, d_model = model.ablated.sender.shape[1:]
    mask.direct = mask.direct[:, None, None].repeat(1, n_rows, 1).requires_grad_()
    # One tensor for all receivers would get a gradient of its whole size from each of these places.
    added = {
        first: mask.direct.new_zeros(n, n_rows, d_model, requires_grad=True) for first, n in model.graph.read_together
    }
    value = model.value(metric, model.logits(mask, given, added))
    of = (mask.direct, *added.values())
    # Nothing reads the ports of heads whose outputs are given: their gradient is 0.
    found = torch.autograd.grad(value, of, allow_unused=True, materialize_grads=True)
    return torch.cat(found[1:]), found[0][..., 0]
