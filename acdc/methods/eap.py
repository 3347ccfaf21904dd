"""Edge attribution patching: what removing each edge would change in the metric, to first order.

The score of an edge is the product of what its sender changes, from clean to ablated, with the gradient at its
receiver, summed over positions and prompts. EAP (Syed et al. 2023, arXiv 2310.10348) takes the gradient at the clean
run; EAP-IG (Hanna et al. 2024, arXiv 2403.17806) its mean over inputs between the ablated and the clean one.
"""

from __future__ import annotations

import numpy as np
import torch

from acdc.engine.masked import MaskedModel
from acdc.graph import EdgeScores
from acdc.methods.gradients import gradients, refuse_distance
from acdc.metrics import Metric


def eap(model: MaskedModel, kind: type[Metric]) -> EdgeScores:
    """Signed first-order effects: positive where removing an edge makes the metric worse.

    Raises:
        InputError: see ``refuse_distance``.
    """
    refuse_distance("EAP", kind)
    return eap_ig(model, kind, steps=1)


def eap_ig(model: MaskedModel, kind: type[Metric], steps: int) -> EdgeScores:
    """As ``eap``, with the mean gradient at 1/steps, 2/steps, ... 1 of the way from ablated to clean embeddings."""
    metric, gradient = model.metric(kind), 0.0
    for step in range(1, steps + 1):
        embeddings = zip(model.clean, model.ablated.sender, strict=False)
        written = [ablated + step / steps * (clean - ablated) for clean, ablated in embeddings]
        gradient = gradient + gradients(model, metric, written)[0] / steps
    effect = -torch.einsum("spd,rpd->sr", model.changes, gradient).double().cpu().numpy()
    return EdgeScores(model.graph, np.where(model.graph.exists, effect, np.nan))
