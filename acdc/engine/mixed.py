"""Measure candidates in lower precision, and in full precision where such a measurement could mislead.

An effect decides only if it is farther from the threshold than its error may be; otherwise it is measured again in full
precision. Activations that are committed are computed in full precision too. So the decisions are those of
``Removals``.

The size of errors is measured. A candidate that is computed in both precisions tells a metric's error as a share of the
candidate's move, its distance from the current circuit in the final residual stream. ``SAFETY`` times the largest share
so far bounds the errors of the next candidates. Every layer begins with ``N_FIRST`` candidates that are computed in
both precisions, so that a search that is resumed from a checkpoint measures the same as one without a break.
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
"""The factor between the largest measured error and the bound of errors. On ioi in SmolLM2 by logit difference (20
prompts, the upper 20 layers, bfloat16) the error of 1,028 candidates that were measured both ways was 0.017 of their
move in the median, 0.15 in one of a hundred, and 0.37 at most."""


class MixedRemovals(Removals):
    """Remove edges as ``Removals`` does, with most matrix products in lower precision.

    Args:
        threshold: the threshold of effects.
        floor: the error of a metric in full precision, in its unit.

    Attributes:
        new_coarse_patch: a function that makes patches as ``new_patch`` does, in lower precision.
        largest: the largest error so far, as a share of the candidate's move. It starts at the error that one product
            in lower precision makes in a metric as steep as a logit.
        moves: how far each candidate just tried is from the current circuit.
        exact: the candidates just tried that were measured in full precision.
        kept: the last of these, whose patch is ``patch``.
        logits: for each chunk, the final residual stream of the current circuit and its logits without a cap.
    """

    new_coarse_patch: NewPatch
    moves: list[float]
    exact: set[int]
    kept: int | None

    def __init__(
        self, engine: Engine, circuit: Circuit, layer: int, metric: list[Metric], threshold: float, floor: float
    ) -> None:
        assert engine.coarse is not None  # the caller checks that
        self.threshold, self.floor, self.coarse = threshold, floor, engine.coarse
        self.largest = self.coarse.unit(engine.device) * engine.model_logits.abs().max().item()
        self.logits: dict[int, tuple[Tensor, Tensor]] = {}
        super().__init__(engine, circuit, layer, metric)

    def patcher(self, route: Route) -> NewPatch:
        """Return a function that makes patches to be committed, and store one that makes patches in lower precision."""
        weights, scratch = self.engine.weights, self.engine.scratch
        new_patch = partial(ChangePatch, weights, scratch, Batches(route, weights))
        self.new_coarse_patch = partial(new_patch, self.coarse, False)
        return partial(new_patch, Full(), True)

    def evaluate(self) -> list[float]:
        """Measure all candidates; in full precision those that could be decided wrongly, and the one to commit."""
        if self.tried is None:
            return super().evaluate()
        self.exact, self.kept = set(), None
        self.starving = [self.starves(candidate) for candidate in self.candidates]
        metrics, self.moves = self.coarsely()
        while (i := self.doubtful(metrics)) is not None:
            metrics[i] = self.again(i, metrics[i])
        return metrics

    def coarsely(self) -> tuple[list[float], list[float]]:
        """Measure all candidates in lower precision, and return their metrics and their moves."""
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
        """Compute logits on a chunk from the change relative to the current circuit's logits."""
        engine, weights = self.engine, self.engine.weights
        if metric.columns is not None:
            return engine.logits(final, metric)
        before = self.states[i]["final", 0, 0]
        change = final_norm(weights, final) - final_norm(weights, before)
        made = self.coarse(change.flatten(0, 1), self.coarse.weight(weights.unembed)).unflatten(0, change.shape[:2])
        return layers.cap(made.add_(self.logits_before(i, before)), weights.architecture.logit_cap)

    def logits_before(self, i: int, final: Float[Tensor, "scored d_model"]) -> Float[Tensor, "scored d_vocab"]:
        """Return the logits of the current circuit, without a cap."""
        if i not in self.logits or self.logits[i][0] is not final:
            self.logits[i] = final, self.engine.uncapped(final)
        return self.logits[i][1]

    def doubtful(self, metrics: list[float]) -> int | None:
        """Return a candidate to measure in full precision; None if every decision is certain.

        Decisions count up to the first wrong guess, see ``acdc.methods.acdc_fast.Step``.
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
        """Return an upper bound of the error of a candidate's metric."""
        if i in self.exact:
            return 0.0
        if self.starving[i] or self.n_again < N_FIRST:
            return inf
        return SAFETY * self.largest * self.moves[i] + self.floor

    def again(self, i: int, coarse: float) -> float:
        """Measure a candidate again in full precision, and update the largest error from the difference."""
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
        """Make the activations of candidate ``i`` the current states."""
        if self.tried is None or self.starving[i]:
            super().accept(i)
        elif self.kept == i and len(self.states) == 1:
            self.patch.commit(0)
        else:
            self.accept_afresh(i)
