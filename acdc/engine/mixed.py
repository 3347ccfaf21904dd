"""Measure candidates by coarse products, and in full precision where a coarse effect could mislead.

An effect decides only where it is farther from the threshold than its error may be; else it is measured again in full
precision. What is committed is computed in full precision too. So the decisions are those of ``Removals``.

How large errors are is measured. What is computed both ways tells a metric's error as a share of the candidate's move:
how far it is, in the final residual stream, from the circuit as it is. ``SAFETY`` times the largest share so far bounds
the errors of the next candidates. Every layer begins with ``N_FIRST`` candidates that are computed both ways, so that a
search which goes on from a checkpoint measures what one without a break does.
"""

from __future__ import annotations

from functools import partial
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine import layers
from acdc.engine.batched import Batches
from acdc.engine.coarse import ChangePatch, Full
from acdc.engine.model import Engine
from acdc.engine.removals import NewPatch, Removals
from acdc.engine.route import Route
from acdc.engine.runs import final_norm
from acdc.graph import Circuit
from acdc.metrics import Metric

N_FIRST = 8
SAFETY = 4.0
"""On ioi in SmolLM2 by logit difference (20 prompts, the upper 20 layers, bfloat16) the error of 1,028 candidates that
were measured both ways was 0.017 of their move in the median, 0.15 in one of a hundred, and 0.37 at most."""


class MixedRemovals(Removals):
    """Remove edges as ``Removals`` does, mostly at the price of coarse products.

    Args:
        threshold: of effects.
        floor: the error of a metric in full precision, in its unit.

    Attributes:
        new_coarse_patch: makes patches as ``new_patch`` does, by coarse products.
        largest: the largest error so far, as a share of the candidate's move. What a metric that is as steep as a logit
            loses by one coarse product is taken for the first.
        moves: how far each candidate just tried has moved.
        exact: those of them that were measured in full precision.
        kept: the last of these, whose patch is ``patch``.
        logits: of the circuit as it is, without a cap, by chunk, behind the final residual stream they were read from.
    """

    new_coarse_patch: NewPatch
    moves: list[float]
    exact: set[int]
    kept: int | None

    def __init__(
        self, engine: Engine, circuit: Circuit, layer: int, metric: list[Metric], threshold: float, floor: float
    ) -> None:
        assert engine.coarse is not None  # as who calls this has made sure of
        self.threshold, self.floor, self.coarse = threshold, floor, engine.coarse
        self.largest = self.coarse.unit(engine.device) * engine.model_logits.abs().max().item()
        self.logits: dict[int, tuple[Tensor, Tensor]] = {}
        super().__init__(engine, circuit, layer, metric)

    def patcher(self, route: Route) -> NewPatch:
        """Return what makes patches along a route that can be committed, and note what makes coarse ones."""
        weights, scratch = self.engine.weights, self.engine.scratch
        new_patch = partial(ChangePatch, weights, scratch, Batches(route, weights))
        self.new_coarse_patch = partial(new_patch, self.coarse, False)
        return partial(new_patch, Full(), True)

    def evaluate(self) -> list[float]:
        """Measure all candidates, in full precision those that may be decided wrongly, and what will be committed."""
        if self.tried is None:
            return super().evaluate()
        self.exact, self.kept = set(), None
        self.starving = [self.starves(candidate) for candidate in self.candidates]
        metrics, self.moves = self.coarsely()
        while (i := self.doubtful(metrics)) is not None:
            metrics[i] = self.again(i, metrics[i])
        return metrics

    def coarsely(self) -> tuple[list[float], list[float]]:
        """Measure all candidates by coarse products. Return their metrics, and how far they have moved."""
        values, moves = [], []
        for i, of_chunk in enumerate(self.metric):
            _, final = self.attempt(i, slice(None), self.new_coarse_patch)
            before = self.states[i]["final", 0, 0]
            values.append(self.engine.values(of_chunk, final, partial(self.near, i)))
            moves.append(torch.linalg.vector_norm(final - before, dim=-1) / torch.linalg.vector_norm(before, dim=-1))
        # One download: a GPU is waited for once.
        metrics, moved = torch.stack([self.engine.mean(values), self.engine.mean(moves)]).tolist()
        return metrics, moved

    def near(self, i: int, final: Float[Tensor, "state scored d_model"], metric: Metric) -> Tensor:
        """Compute logits on a chunk from those of the circuit as it is."""
        engine, weights = self.engine, self.engine.weights
        if metric.columns is not None:
            return engine.logits(final, metric)
        before = self.states[i]["final", 0, 0]
        change = final_norm(weights, final) - final_norm(weights, before)
        made = self.coarse(change.flatten(0, 1), self.coarse.weight(weights.unembed)).unflatten(0, change.shape[:2])
        return layers.cap(made.add_(self.logits_before(i, before)), weights.architecture.logit_cap)

    def logits_before(self, i: int, final: Float[Tensor, "scored d_model"]) -> Float[Tensor, "scored d_vocab"]:
        """Return the logits, without a cap, of the circuit as it is."""
        if i not in self.logits or self.logits[i][0] is not final:
            self.logits[i] = final, self.engine.uncapped(final)
        return self.logits[i][1]

    def doubtful(self, metrics: list[float]) -> int | None:
        """Return a candidate to measure in full precision; None where every decision is certain.

        Decisions count up to the first that was guessed wrong, see ``acdc.methods.acdc_fast.Step``.
        """
        previous, last = None, None
        assert self.tried is not None  # there is nothing to guess about direct edges
        for i, stays in enumerate(self.tried[1]):
            before = self.current if previous is None else metrics[previous]
            effect = metrics[i] - before
            error = self.error(i) + (0.0 if previous is None else self.error(previous))
            if error and not abs(effect - self.threshold) > error:
                return i if i not in self.exact else previous
            removed = effect < self.threshold
            last = i if removed else last
            if removed == stays:
                break
            previous = previous if stays else i
        return last if last is not None and last not in self.exact else None

    def error(self, i: int) -> float:
        """Return how far off a candidate's metric may be."""
        if i in self.exact:
            return 0.0
        if self.starving[i] or self.n_again < N_FIRST:
            return inf
        return SAFETY * self.largest * self.moves[i] + self.floor

    def again(self, i: int, coarse: float) -> float:
        """Measure a candidate just tried in full precision, and learn from its coarse metric how large errors are."""
        self.exact.add(i)
        self.n_again += 1
        if self.starving[i]:
            return self.measured_afresh(i)
        self.kept = i
        (metric,) = self.engine.measure(self.metric, self.finals(slice(i, i + 1)))
        if self.moves[i]:
            self.largest = max(self.largest, (abs(coarse - metric) - self.floor) / self.moves[i])
        return metric

    def accept(self, i: int) -> None:
        """Make the activations of candidate ``i`` the states."""
        if self.tried is None or self.starving[i]:
            super().accept(i)
        elif self.kept == i and len(self.states) == 1:
            self.patch.commit(0)
        else:
            self.accept_afresh(i)
