"""Score nodes by HISP: head importance score for pruning (Michel et al. 2019, arXiv 1905.10650; Conmy et al. 2023).

Every q, k and v of a head and every MLP has a score: the absolute gradient of the metric with respect to the share of
the node that is not ablated, averaged over prompts, and divided by the L2 norm of its layer's scores (the original's
sixteen_heads.py). The nodes of largest score keep all edges among them, see ``Circuit.among``.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import MaskedModel
from acdc.engine.model import Engine
from acdc.graph import NodeScores
from acdc.methods.driver import Scored
from acdc.methods.gradients import gradients, over_prompts
from acdc.metrics import MetricKind

SMALLEST_NORM = 1e-6
"""The smallest norm by which a layer's scores are divided (as in the original)."""


def hisp(engine: Engine, kind: MetricKind) -> Scored:
    """Score every port and MLP by its importance, which is at least 0.

    Returns:
        The score of every receiver, Float[receiver]; NaN for the logits. The L2 norm of a layer's scores is 1.
    """
    scores = over_prompts(engine, lambda model: slopes(model, kind))
    layer = np.array([node.layer for node in engine.graph.receivers])
    for i in range(engine.graph.n_layers):
        scores.score[layer == i] /= max(np.linalg.norm(scores.score[layer == i]), SMALLEST_NORM)
    return Scored(scores, evaluations=1)


def slopes(model: MaskedModel, kind: MetricKind) -> NodeScores:
    """Average over prompts the metric's absolute gradient in the share of each port's value and MLP's output."""
    graph, changes = model.graph, model.changes
    at_receivers, of_shares = gradients(model, model.metric(kind))
    for r, receiver in enumerate(graph.receivers):
        if receiver.component == "mlp":
            s = graph.sender_index[receiver]
            read = torch.as_tensor(graph.exists[s], device=changes.device)
            of_shares[r] = (changes[s] * at_receivers[read].sum(0)).sum(-1)
    of_shares[-1] = torch.nan
    return NodeScores(graph, by_prompt(model, of_shares).abs().sum(-1).double().cpu().numpy())


def by_prompt(model: MaskedModel, of_rows: Float[Tensor, "receiver row"]) -> Float[Tensor, "receiver prompt"]:
    """Sum over the positions of each prompt: Float[receiver prompt]."""
    return of_rows.unflatten(1, (model.rows.n_prompts, model.rows.n_pos)).sum(-1)
