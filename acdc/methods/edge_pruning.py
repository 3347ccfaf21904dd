"""Find circuits by Edge Pruning (Bhaskar et al. 2024, arXiv 2406.16778), which trains masks of edges.

Every addition edge has a mask, the share of the edge that is not ablated, and so has every sender's output. The share
of an edge is the product of the two. Masks are drawn anew in each step from hard concrete distributions. Gradient
descent keeps the metric low, while a Lagrangian drives the share of ablated edges, the sparsity, to a target that rises
from 0: its two multipliers rise as long as the target is missed. A target above 1 cannot be reached and keeps the
pressure up.

The steps are those of the authors' code (princeton-nlp/Edge-Pruning at a918efd: src/prune/fpt2_ioi.py and
src/modeling/modeling_fpt2.py, as run_scripts/ioi_sweep.sh calls them, without a loss of nodes). The authors' code
differs in three points: masks of edges that do not exist take part when deterministic masks are made; the multipliers
of the absent loss of nodes count in the norm to which gradients are clipped; and position embeddings do not count in
the sparsity of nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isnan
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import expit
from torch import Tensor

from acdc.engine.masked import Mask, masked_models
from acdc.engine.model import Engine
from acdc.engine.upload import upload
from acdc.found import PRUNED
from acdc.graph import Circuit
from acdc.methods.driver import Outcome
from acdc.methods.hard_concrete import BETA, alike, chance_of_any, shares_at
from acdc.methods.selection import with_direct
from acdc.methods.training import Training
from acdc.metrics import MetricKind

FIRST_SCORE, FIRST_SPREAD = 10.0, 0.01
"""The mean and the standard deviation of scores at the start, at which nearly all shares are 1."""
SMALLEST_DRAW = 1e-6
"""The distance of uniform random numbers from 0 and 1, whose logits are infinite."""
SHARPNESS = 0.8 / BETA
"""The factor of a score in the sigmoid of a deterministic mask."""
LARGEST_GRADIENT = 1.0
"""The norm to which the gradient of all trained tensors is clipped."""
DECAY = 0.01
"""AdamW's weight decay in each step, as a share of the learning rate. It moves scores to where draws have gradients."""
REACHED = 0.01
"""The distance of the sparsity from its target within which the target counts as reached."""

Group = Sequence[int] | Bool[np.ndarray, "thing"]


class Step(NamedTuple):
    """Record one step of training: a row of the trace."""

    step: int
    metric: float
    sparsity: float
    target: float
    loss: float


class EdgePruning(Training):
    """Run Edge Pruning to one target of the sparsity.

    Args:
        engine: the model on the discovery prompts.
        kind: the metric to keep low.
        sparsity_target: the share of edges to ablate in the end.
        steps: the number of training steps.
        learning_rate: AdamW's peak learning rate for scores, after a rise from 0 in the warm-up; then it falls to 0.
        multiplier_learning_rate: the same for the Lagrangian's multipliers.
        warmup: the share of the steps in which learning rates rise.
        target_warmup: the share of the steps in which the target rises.
        prompts_per_step: the number of prompts in each step, the next ones in order; all prompts, if there are fewer.
        seed: the seed of the first scores and of the masks that are drawn.

    Attributes:
        edges: Float64[edge], the score of every addition edge, by sender, then receiver.
        nodes: Float64[sender], the score of every sender's output.
        multipliers: Float64[2], the multipliers of the sparsity's excess over the target, and of its square.
    """

    Row = Step

    def __init__(
        self,
        engine: Engine,
        kind: MetricKind,
        sparsity_target: float,
        *,
        steps: int,
        learning_rate: float,
        multiplier_learning_rate: float,
        warmup: float,
        target_warmup: float,
        prompts_per_step: int,
        seed: int,
    ) -> None:
        self.engine, self.kind, self.sparsity_target, self.total = engine, kind, sparsity_target, steps
        self.graph, self.trace = engine.graph, []
        self.warmup, self.target_warmup = round(warmup * steps), round(target_warmup * steps)
        self.whole = Mask.of(Circuit.full(self.graph), engine.weights.embed)
        self.ends = upload(torch.tensor(np.stack(np.nonzero(self.graph.exists))), engine.device).unbind()
        self.models = [(model, model.metric(kind)) for model in masked_models(engine, prompts_per_step)]
        self.draws = torch.Generator().manual_seed(seed)
        self.edges = self.first_scores(int(self.graph.exists.sum()))
        self.nodes = self.first_scores(len(self.graph.senders))
        self.multipliers = torch.zeros(2, dtype=torch.float64, device=engine.device, requires_grad=True)
        self.learnt = {"edges": self.edges, "nodes": self.nodes, "multipliers": self.multipliers}
        scores = {"params": [self.edges, self.nodes], "peak": learning_rate}
        multipliers = {"params": [self.multipliers], "peak": multiplier_learning_rate, "maximize": True}
        self.adam = torch.optim.AdamW([scores, multipliers], weight_decay=DECAY)

    def first_scores(self, n: int) -> Float[Tensor, "n"]:
        """Draw the scores at the start of training."""
        drawn = FIRST_SCORE + FIRST_SPREAD * torch.randn(n, generator=self.draws, dtype=torch.float64)
        return upload(drawn, self.engine.device).requires_grad_()

    def step(self) -> None:
        """Train one step.

        Raises:
            ArithmeticError: the metric or a gradient is NaN; the message names the step.
        """
        step, target = self.done, self.target(self.done)
        model, metric = self.models[step % len(self.models)]
        edges, nodes = (shares_at(self.noise(len(score)), score) for score in (self.edges, self.nodes))
        value = model.value(metric, model.logits(self.mask(edges, nodes))).double()
        sparsity = 1 - edges.mean()
        excess = sparsity - target
        loss = value + self.multipliers[0] * excess + self.multipliers[1] * excess**2
        self.adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.learnt.values()), LARGEST_GRADIENT)
        # One download: a GPU is waited for once.
        metric_value, ablated, total, size = torch.stack([value, sparsity, loss, norm]).tolist()
        if isnan(total) or isnan(size):
            raise ArithmeticError(
                f"the metric or its gradient became NaN in step {step} of Edge Pruning, sparsity target"
                f" {self.sparsity_target:g}"
            )
        for group in self.adam.param_groups:
            group["lr"] = group["peak"] * self.rate(step)
        self.adam.step()
        self.trace.append(Step(step, metric_value, ablated, target, total))

    def noise(self, n: int) -> Float[Tensor, "n"]:
        """Draw the logits of uniform random numbers."""
        uniform = SMALLEST_DRAW + (1 - 2 * SMALLEST_DRAW) * torch.rand(n, generator=self.draws, dtype=torch.float64)
        return upload(uniform.logit(), self.engine.device)

    def mask(self, edges: Float[Tensor, "edge"], nodes: Float[Tensor, "sender"]) -> Mask:
        """Return the mask in which every edge has its own share times its sender's share."""
        senders, receivers = self.ends
        share = (edges * nodes[senders]).to(self.whole.present.dtype)
        return replace(self.whole, present=self.whole.present.index_put((senders, receivers), share))

    def target(self, step: int) -> float:
        """Return the target of the sparsity in a step."""
        return self.sparsity_target * (step / self.target_warmup if step < self.target_warmup else 1)

    def rate(self, step: int) -> float:
        """Return the learning rates in a step, as a share of their peak."""
        if step < self.warmup:
            return step / self.warmup
        return (self.total - step) / max(1, self.total - self.warmup)

    @property
    def circuit(self) -> Circuit:
        """Return the circuit of kept edges with kept senders, and of the direct edges of the ports that they enter."""
        graph, present = self.graph, np.zeros_like(self.graph.exists)
        edges, nodes = (score.detach().cpu().numpy() for score in (self.edges, self.nodes))
        receiver = np.nonzero(graph.exists)[1]
        present[graph.exists] = kept(edges, [np.isin(receiver, group) for group in alike(graph.receivers)])
        return with_direct(graph, present & kept(nodes, alike(graph.senders))[:, None])

    @property
    def converged(self) -> bool:
        """Return whether the sparsity is at its target in the last tenth of the steps.

        For a target above 1, which cannot be reached: whether the sparsity is that of the tenth before.
        """
        if len(self.trace) < 10:
            return False
        *_, before, last = (part.mean() for part in np.array_split([step.sparsity for step in self.trace], 10))
        return bool(abs(last - (self.sparsity_target if self.sparsity_target <= 1 else before)) <= REACHED)

    def outcome(self) -> Outcome:
        """Return the circuit without dead edges, and the trace of the training."""
        taken = self.circuit
        circuit = self.engine.without_dead(taken)
        (final,) = self.engine.measure(self.engine.metric(self.kind), self.engine.finals(circuit))
        more = {PRUNED: len(taken) - len(circuit)}
        return Outcome(circuit, final, len(self.trace), self.trace, self.converged, more)


def certain(score: Float[np.ndarray, "thing"], groups: Iterable[Group]) -> Float[np.ndarray, "thing"]:
    """Return deterministic masks: in each group as many are 0 as random masks are expected to be."""
    share = expit(SHARPNESS * score)
    for group in groups:
        members = np.arange(len(score))[group]
        n_zero = round((1 - chance_of_any(torch.from_numpy(score[members]))).sum().item())
        share[members[np.argsort(score[members], kind="stable")[:n_zero]]] = 0
    return share


def kept(score: Float[np.ndarray, "thing"], groups: Iterable[Group]) -> Bool[np.ndarray, "thing"]:
    """Return which scores are kept: those of the largest deterministic masks, as many as the sum of all these masks.

    The authors search for a threshold that keeps this number, and may be off by one where their search stops.
    """
    share = certain(score, groups)
    best = np.lexsort((-score, -share))[: round(share.sum())]
    found = np.zeros(len(score), dtype=bool)
    found[best] = True
    return found
