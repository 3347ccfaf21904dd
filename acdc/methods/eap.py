"""Score edges by attribution patching: a first-order estimate of how removing each edge changes the metric.

The score of an edge is the product of its sender's change, from clean to ablated, with the gradient at its receiver,
summed over positions and prompts. EAP (Syed et al. 2023, arXiv 2310.10348) takes the gradient at the clean run. EAP-IG
(Hanna et al. 2024, arXiv 2403.17806) takes its mean over inputs between the ablated and the clean
embeddings, or over outputs of one component after another between ablated and clean. The variants are those of the
authors' code (hannamw/EAP-IG at 795f560, src/eap/attribute.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from acdc.engine.masked import NOTHING, Given, MaskedModel
from acdc.engine.model import Engine
from acdc.graph import EdgeScores, Graph
from acdc.methods.driver import Scored
from acdc.methods.gradients import gradients, over_prompts
from acdc.metrics import MetricKind


def eap(engine: Engine, kind: MetricKind) -> Scored:
    """Score edges by EAP, the gradient at the clean run. Removing an edge of positive score makes the metric worse.

    Args:
        engine: the model on the discovery prompts.
        kind: the metric's class.

    Returns:
        The score of every addition edge in the metric's unit, Float[sender receiver].
    """
    return Scored(over_prompts(engine, lambda model: edge_scores(model, kind, [NOTHING])), evaluations=1)


def eap_ig(engine: Engine, kind: MetricKind, *, ig_steps: int, ig_ends: str) -> Scored:
    """Score edges by EAP-IG: by the mean gradient over inputs between the ablated and the clean embeddings.

    Args:
        ig_steps: m, the number of steps from the ablated to the clean embeddings.
        ig_ends: which ends are among the inputs: ``ablated`` takes 0, 1, ... m - 1 of m steps, as the authors' code
            does; ``clean`` 1, 2, ... m, as that code did before; ``both`` 0, 1, ... m. One step with both ends is that
            code's ``clean-corrupted``.

    Returns:
        Scores as those of ``eap``.
    """
    scores = over_prompts(engine, lambda model: edge_scores(model, kind, inputs_between(model, ig_steps, ig_ends)))
    return Scored(scores, evaluations=ig_steps + (ig_ends == "both"))


def inputs_between(model: MaskedModel, ig_steps: int, ig_ends: str) -> list[Given]:
    """Return the changes of the embeddings at each step from ablated to clean, see ``eap_ig``."""
    steps = range(ig_ends == "clean", ig_steps + (ig_ends != "ablated"))
    return [{0: step / ig_steps * model.changes[: model.graph.first_sender(0)]} for step in steps]


def eap_ig_activations(engine: Engine, kind: MetricKind, *, ig_steps: int) -> Scored:
    """Score edges by EAP-IG over activations: by the mean gradient as each part's output goes from ablated to clean.

    A part is the embeddings, the heads of a layer or an MLP. The parts before it have their clean outputs, and the
    parts after it are computed from its output. The authors' code differs in one place, by a slip: if the model has no
    position embeddings, it takes no gradient at the first layer's ports while the embeddings are the part.

    Args:
        ig_steps: m; the gradients are taken at 1, 2, ... m of m steps from the part's ablated to its clean output.

    Returns:
        Scores as those of ``eap``.
    """
    parts = list(parts_of(engine.graph))
    scores = over_prompts(engine, lambda model: edge_scores(model, kind, outputs_between(model, parts, ig_steps)))
    return Scored(scores, evaluations=ig_steps * len(parts))


def outputs_between(model: MaskedModel, parts: Sequence[slice], ig_steps: int) -> list[Given]:
    """Return the changes of one part's output after another at each step from ablated to clean."""
    steps = range(1, ig_steps + 1)
    return [{part.start: step / ig_steps * model.changes[part]} for part in parts for step in steps]


def parts_of(graph: Graph) -> Iterator[slice]:
    """Yield the senders of each part: the embeddings, then for each layer its heads and its MLP."""
    yield slice(0, graph.first_sender(0))
    for layer in range(graph.n_layers):
        first = graph.first_sender(layer)
        yield slice(first, first + graph.n_heads)
        if graph.has_mlp:
            yield slice(first + graph.n_heads, first + graph.n_heads + 1)


def edge_scores(model: MaskedModel, kind: MetricKind, runs: Sequence[Given]) -> EdgeScores:
    """Return the signed first-order effect of removing each edge, by the mean gradient of several runs."""
    metric, gradient = model.metric(kind), torch.zeros(())
    for given in runs:
        gradient = gradient + gradients(model, metric, given)[0] / len(runs)
    effect = -torch.einsum("spd,rpd->sr", model.changes, gradient).double().cpu().numpy()
    return EdgeScores(model.graph, np.where(model.graph.exists, effect, np.nan))
