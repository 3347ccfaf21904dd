"""SP: subnetwork probing (Cao et al. 2021, arXiv 2104.03514), as Conmy et al. 2023 adapt it to nodes and ablations.

Every q, k and v of a head and every MLP has a mask of a hard concrete distribution (Louizos et al. 2018,
arXiv 1712.01312): a share in [0, 1] of it that is not ablated, drawn anew in each step. Gradient descent moves the
distributions so that the metric is low and, by a regularisation, few nodes are kept. The kept nodes keep all edges
among them, see ``Circuit.among``. (The original's subnetwork_probing/train.py and MaskedHookPoint; it has 10,000 steps
of Adam with a learning rate of 0.001 and every prompt in each.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import MaskedModel
from acdc.graph import Circuit, Graph, NodeScores
from acdc.metrics import Metric

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Temperature and ends of the distribution before it is clamped to [0, 1], as in the original."""
FIRST_SCORE = log(5)
"""Of every node: the logit of (0.9 - GAMMA) / (ZETA - GAMMA), so that the median share is about 1."""
SMALLEST_DRAW = 1e-4
SETTLED = 0.05


class Step(NamedTuple):
    """One step of training: a row of the trace."""

    step: int
    metric: float
    regularisation: float
    loss: float


@dataclass
class Probe:
    """What training found: a node is kept where its score is above 0, so in more than half of all draws."""

    scores: NodeScores
    trace: list[Step]

    @property
    def circuit(self) -> Circuit:
        return Circuit.among(self.scores.graph, self.scores.score > 0)

    @property
    def converged(self) -> bool:
        """The loss has settled: from the fourth to the last fifth of all steps its mean moved by little of the way
        it has come since the first. False where there are too few steps to tell.
        """
        if len(self.trace) < 5:
            return False
        first, *_, fourth, last = (part.mean() for part in np.array_split([step.loss for step in self.trace], 5))
        return bool(abs(last - fourth) <= SETTLED * abs(last - first))


class Training:
    """An SP run between two steps: enough to go on from.

    Attributes:
        score: Float64[node], of all receivers but the logits; the median share of a node is 1/2 where it is 0.
        draws: where the next step's random numbers come from.
    """

    def __init__(self, graph: Graph, learning_rate: float, seed: int, device: torch.device) -> None:
        nodes = len(graph.receivers) - 1
        self.score = torch.full((nodes,), FIRST_SCORE, device=device, dtype=torch.float64, requires_grad=True)
        self.adam = torch.optim.Adam([self.score], lr=learning_rate)
        self.draws = torch.Generator().manual_seed(seed)
        self.trace: list[Step] = []

    def state(self) -> dict[str, Any]:
        """What ``restore`` goes on from: tensors, numbers, lists and dictionaries of them."""
        score, trace = self.score.detach(), [list(step) for step in self.trace]
        return {"score": score, "adam": self.adam.state_dict(), "draws": self.draws.get_state(), "trace": trace}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self.score.data.copy_(state["score"])
        self.adam.load_state_dict(state["adam"])
        self.draws.set_state(state["draws"])
        self.trace = [Step(*step) for step in state["trace"]]


def sp(
    models: list[MaskedModel],
    kind: type[Metric],
    regularisation: float,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    state: dict[str, Any] | None = None,
    after_step: Callable[[Training], None] = lambda training: None,
) -> Probe:
    """Train one mask a node.

    Args:
        models: one on all prompts, or several on some of them each; every step takes the next.
        regularisation: weight of the expected share of nodes kept, in the metric's unit: what it may rise by for all.
        learning_rate: of Adam.
        seed: of the draws.
        state: of an interrupted run to go on with, see ``Training``.

    Raises:
        ArithmeticError: the metric is NaN; the message names the step.
    """
    graph, bound = models[0].graph, [(model, model.metric(kind)) for model in models]
    groups, training = list(groups_of(graph)), Training(graph, learning_rate, seed, models[0].clean[0].device)
    if state:
        training.restore(state)
    for step in range(len(training.trace), steps):
        model, metric = bound[step % len(bound)]
        share = draw(training.score, training.draws).to(model.clean[0].dtype)
        value = model.value(metric, model.logits_of_nodes(share))
        penalty = expected_share(training.score, groups)
        loss = value + regularisation * penalty
        if loss.isnan():
            raise ArithmeticError(f"the metric became NaN in step {step} of SP, regularisation {regularisation:g}")
        training.adam.zero_grad()
        loss.backward()
        training.adam.step()
        training.trace.append(Step(step, value.item(), penalty.item(), loss.item()))
        after_step(training)
    scores = training.score.detach().cpu().numpy()
    return Probe(NodeScores(graph, np.append(scores, np.nan)), training.trace)


def draw(score: Float[Tensor, "node"], draws: torch.Generator) -> Float[Tensor, "node"]:
    """Shares of nodes, each drawn from its distribution."""
    uniform = torch.rand(score.shape, generator=draws, dtype=score.dtype).clamp(SMALLEST_DRAW, 1 - SMALLEST_DRAW)
    stretched = torch.sigmoid((uniform.logit().to(score.device) + score) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def expected_share(score: Float[Tensor, "node"], groups: list[list[int]]) -> Float[Tensor, ""]:
    """How many of the nodes have a share above 0, the mean of every group's, each counted alike."""
    kept = torch.sigmoid(score - BETA * log(-GAMMA / ZETA))
    return torch.stack([kept[group].mean() for group in groups]).mean()


def groups_of(graph: Graph) -> Iterator[list[int]]:
    """Receivers of one layer and kind (q, k, v or MLP), whose masks are one tensor in the original."""
    kinds = [(node.layer, node.component, node.port) for node in graph.receivers[:-1]]
    for kind in dict.fromkeys(kinds):
        yield [i for i, other in enumerate(kinds) if other == kind]
