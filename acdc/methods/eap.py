"""Score edges by attribution patching: estimate, to first order, how removing each edge changes the metric.

The score of an edge is the product of what its sender changes, from clean to ablated, with the gradient at its
receiver, summed over positions and prompts. EAP (Syed et al. 2023, arXiv 2310.10348) takes the gradient at the clean
run; EAP-IG (Hanna et al. 2024, arXiv 2403.17806) its mean over inputs between the ablated and the clean one.
"""

from __future__ import annotations

import numpy as np
import torch

from acdc.engine.masked import MaskedModel
from acdc.engine.model import Engine
from acdc.graph import EdgeScores
from acdc.methods.driver import Scored
from acdc.methods.gradients import gradients, over_prompts
from acdc.metrics import MetricKind


def eap(engine: Engine, kind: MetricKind) -> Scored:
    """Score edges by the gradient at the clean run: positive where removing an edge makes the metric worse."""
    return eap_ig(engine, kind, ig_steps=1)


def eap_ig(engine: Engine, kind: MetricKind, *, ig_steps: int) -> Scored:
    """Score edges as ``eap`` does, by the mean gradient over inputs between the ablated and the clean embeddings.

    Args:
        ig_steps: gradients are taken at 1/ig_steps, 2/ig_steps, ... 1 of the way.
    """
    return Scored(over_prompts(engine, lambda model: edge_scores(model, kind, ig_steps)), evaluations=ig_steps)


def edge_scores(model: MaskedModel, kind: MetricKind, steps: int) -> EdgeScores:
    """Return the signed first-order effect of removing each edge, on the model's prompts."""
    metric, gradient = model.metric(kind), torch.zeros(())
    for step in range(1, steps + 1):
        embeddings = zip(model.clean, model.ablated.sender, strict=False)
        written = [ablated + step / steps * (clean - ablated) for clean, ablated in embeddings]
        gradient = gradient + gradients(model, metric, written)[0] / steps
    effect = -torch.einsum("spd,rpd->sr", model.changes, gradient).double().cpu().numpy()
    return EdgeScores(model.graph, np.where(model.graph.exists, effect, np.nan))
