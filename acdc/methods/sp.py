"""Find circuits by SP, subnetwork probing (Cao et al. 2021, arXiv 2104.03514).

Conmy et al. 2023 adapt it to nodes and ablations. Every q, k and v of a head and every MLP has a mask: the share in
[0, 1] of the node that is not ablated. Masks are drawn anew in each step from hard concrete distributions (Louizos et
al. 2018, arXiv 1712.01312). Gradient descent trains the distributions so that the metric is low and, by a
regularisation, few nodes are kept. The kept nodes keep all edges among them, see ``Circuit.among``. (The original's
subnetwork_probing/train.py and MaskedHookPoint take 10,000 steps of Adam with a learning rate of 0.001, and every
prompt in each step.)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, log
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.masked import masked_models
from acdc.engine.model import Engine
from acdc.engine.runs import Where
from acdc.engine.upload import upload
from acdc.graph import Circuit, NodeScores
from acdc.methods.driver import Outcome
from acdc.methods.hard_concrete import alike, chance_of_any, shares_at
from acdc.methods.training import Training
from acdc.metrics import MetricKind

FIRST_SCORE = log(5)
"""Every node's score at the start: the logit of (0.9 + 0.1) / (1.1 + 0.1), so that the median share is about 1."""
SMALLEST_DRAW = 1e-4
"""The distance of uniform random numbers from 0 and 1, whose logits are infinite."""
SETTLED = 0.05
"""The loss has settled if its last move is at most this share of its whole move."""


class Step(NamedTuple):
    """Record one step of training: a row of the trace."""

    step: int
    metric: float
    regularisation: float
    loss: float


class Sp(Training):
    """Run SP at one regularisation.

    Args:
        engine: the model on the discovery prompts.
        kind: the metric to keep low.
        regularisation: the weight of the expected share of kept nodes, in the metric's unit.
        steps: the number of training steps.
        learning_rate: the learning rate of Adam.
        prompts_per_step: the number of prompts in each step, the next ones in order; all prompts, if there are fewer.
        seed: the seed of the masks that are drawn.

    Attributes:
        score: Float64[node], the scores of all receivers but the logits. A node of score 0 has the median share 1/2.
    """

    Row = Step

    def __init__(
        self,
        engine: Engine,
        kind: MetricKind,
        regularisation: float,
        *,
        steps: int,
        learning_rate: float,
        prompts_per_step: int,
        seed: int,
    ) -> None:
        self.engine, self.kind, self.regularisation, self.total = engine, kind, regularisation, steps
        self.graph = engine.graph
        self.groups = [upload(torch.tensor(group), engine.device) for group in alike(engine.graph.receivers[:-1])]
        self.models = [(model, model.metric(kind)) for model in masked_models(engine, prompts_per_step)]
        n_nodes = len(self.graph.receivers) - 1
        first = torch.full((n_nodes,), FIRST_SCORE, device=engine.device, dtype=torch.float64)
        self.score = first.requires_grad_()
        self.learnt = {"score": self.score}
        self.adam = torch.optim.Adam([self.score], lr=learning_rate)
        self.draws = torch.Generator().manual_seed(seed)
        self.trace: list[Step] = []

    def step(self) -> None:
        """Train one step.

        Raises:
            ArithmeticError: the metric is NaN; the message names the step.
        """
        step = self.done
        model, metric = self.models[step % len(self.models)]
        share = draw(self.score, self.draws).to(model.clean[0].dtype)
        value = model.value(metric, model.logits_of_nodes(share))
        penalty = expected_share(self.score, self.groups)
        loss = value + self.regularisation * penalty
        # One download: a GPU is waited for once.
        numbers = torch.stack([value.double(), penalty, loss]).tolist()
        if isnan(numbers[-1]):
            raise ArithmeticError(f"the metric became NaN in step {step} of SP, regularisation {self.regularisation:g}")
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.trace.append(Step(step, *numbers))

    @property
    def scores(self) -> NodeScores:
        """Return the score of every node; nodes of score above 0, whose share is above 1/2 in most draws, are kept."""
        return NodeScores(self.graph, np.append(self.score.detach().cpu().numpy(), np.nan))

    @property
    def circuit(self) -> Circuit:
        """Return the circuit of all edges among the kept nodes."""
        return Circuit.among(self.graph, self.scores.score > 0)

    @property
    def converged(self) -> bool:
        """Return whether the loss has settled; False if there are too few steps to tell.

        The loss has settled if its mean moved little from the fourth to the last fifth of all steps, relative to the
        move since the first fifth.
        """
        if len(self.trace) < 5:
            return False
        first, *_, fourth, last = (part.mean() for part in np.array_split([step.loss for step in self.trace], 5))
        return bool(abs(last - fourth) <= SETTLED * abs(last - first))

    def outcome(self) -> Outcome:
        """Return the circuit, and the trace of the training."""
        (final,) = self.engine.measure(self.engine.metric(self.kind), self.engine.finals(self.circuit))
        return Outcome(self.circuit, final, len(self.trace), self.trace, self.converged)


def draw(score: Float[Tensor, "node"], draws: torch.Generator) -> Float[Tensor, "node"]:
    """Draw the share of every node from its distribution: Float[node]."""
    uniform = torch.rand(score.shape, generator=draws, dtype=score.dtype).clamp(SMALLEST_DRAW, 1 - SMALLEST_DRAW)
    return shares_at(upload(uniform.logit(), score.device), score)


def expected_share(score: Float[Tensor, "node"], groups: Sequence[Where]) -> Float[Tensor, ""]:
    """Compute the expected share of nodes that are not wholly ablated, as the mean over groups."""
    kept = chance_of_any(score)
    return torch.stack([kept[group].mean() for group in groups]).mean()
