"""Edge attribution patching: what removing each edge would change in the metric, to first order.

The score of an edge is the product of what its sender changes, from clean to ablated, with the gradient at its
receiver, summed over positions and prompts. EAP (Syed et al. 2023, arXiv 2310.10348) takes the gradient at the clean
run; EAP-IG (Hanna et al. 2024, arXiv 2403.17806) its mean over inputs between the ablated and the clean one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine import Engine
from acdc.engine.masked import Mask, MaskedModel
from acdc.errors import InputError
from acdc.graph import Circuit, EdgeScores
from acdc.metrics import L2, KLDivergence, Metric

DISTANCES = (KLDivergence, L2)
PROMPTS_AT_ONCE = 8
"""A gradient needs every activation of the masked forward pass, half a gigabyte for two prompts of SmolLM2-135M."""


def eap(model: MaskedModel, kind: type[Metric]) -> EdgeScores:
    """Signed first-order effects: positive where removing an edge makes the metric worse.

    Raises:
        InputError: the metric measures the distance from the model itself (KL divergence, L2), whose gradient at
            the clean run is zero.
    """
    if issubclass(kind, DISTANCES):
        raise InputError(
            f"EAP by {kind.__name__} scores every edge 0, for its gradient is zero where nothing is removed:"
            " use a metric of the answers, or EAP-IG"
        )
    return eap_ig(model, kind, steps=1)


def eap_ig(model: MaskedModel, kind: type[Metric], steps: int) -> EdgeScores:
    """As ``eap``, with the mean gradient at 1/steps, 2/steps, ... 1 of the way from ablated to clean embeddings."""
    metric, gradient = model.metric(kind), 0.0
    for step in range(1, steps + 1):
        embeddings = zip(model.clean, model.ablated.sender, strict=False)
        written = [ablated + step / steps * (clean - ablated) for clean, ablated in embeddings]
        gradient = gradient + gradient_at_receivers(model, metric, written) / steps
    effect = -torch.einsum("spd,rpd->sr", model.changes(), gradient).double().cpu().numpy()
    return EdgeScores(model.graph, np.where(model.graph.exists, effect, np.nan))


def over_prompts(engine: Engine, score: Callable[[MaskedModel], EdgeScores]) -> EdgeScores:
    """Scores on an engine's dataset, a few prompts at a time: what a score is the mean over, it is the mean of."""
    dataset, total = engine.dataset, 0.0
    for start in range(0, len(dataset), PROMPTS_AT_ONCE):
        part = dataset.select(slice(start, start + PROMPTS_AT_ONCE))
        model = MaskedModel(engine.weights, part, ablation=engine.ablation, split_embed=engine.graph.split_embed)
        total = total + dataset.share(part) * score(model).score
    return EdgeScores(engine.graph, total)


def gradient_at_receivers(
    model: MaskedModel, metric: Metric, written: list[Float[Tensor, "row d_model"]]
) -> Float[Tensor, "receiver row d_model"]:
    """Of the metric, in the whole model with these embeddings."""
    everything = Mask.of(Circuit.full(model.graph), model.weights.embed)
    rows = model.ablated.sender.shape[1:]
    added = model.weights.embed.new_zeros(len(model.graph.receivers), *rows).requires_grad_()
    value = model.value(metric, model.logits(everything, written, added))
    return torch.autograd.grad(value, added)[0]
