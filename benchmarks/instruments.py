"""Measure where an engine's time goes and which matrix products it issues, without a change to the engine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from acdc.engine import layers, patched, removals
from acdc.engine.linear import Linear, sums
from acdc.engine.model import Engine
from acdc.engine.weights import Weights

REPEATS = 5
MOST_SHAPES = 40

LABELS = (
    (layers, "norm", "norms"),
    (layers, "mlp", "activations"),
    (layers, "attend", "attention"),
    (patched, "project", "positions"),
    (patched, "sums", "sums"),
    (patched.Patch, "gather", "copies"),
    (patched.Patch, "commit", "copies"),
    (patched.Changes, "add", "copies"),
    (patched.Changes, "copy_scored", "copies"),
    (removals.Removals, "inputs_without", "the receiver's own input"),
    (Engine, "measure", "metric"),
)


def linear_labels(weights: Weights) -> dict[int, str]:
    """Return what each packed matrix of a model is for."""
    labels = {id(weights.readout): "unembedding"}
    for block in weights.blocks:
        labels |= {id(x): "q, k, v" for x in (*block.ports, *block.ports_after_scale)}
        labels |= {id(x): "heads' outputs" for x in block.outputs}
        if block.w_in is not None:
            labels |= {
                id(x): "MLPs" for x in (block.up, block.down, *([block.gate] if block.w_gate is not None else []))
            }
    return labels


class Profile:
    """Count seconds by label, each without what is labelled inside it, and the shapes of matrix products."""

    def __init__(self, weights: Weights) -> None:
        self.labels = linear_labels(weights)
        self.seconds: Counter[str] = Counter()
        self.shapes: Counter[tuple[str, int, int, int]] = Counter()
        self.inner = [0.0]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what runs inside."""
        patches = [mock.patch.object(owner, name, self.timed(owner, name, label)) for owner, name, label in LABELS]
        patches += [mock.patch.object(Linear, name, self.timed(Linear, name, None)) for name in ("__call__", "write")]
        start = time.perf_counter()
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()
            total = time.perf_counter() - start
            self.seconds["Python and the rest"] += total - self.inner[0]
            self.inner = [0.0]

    def timed(self, owner, name: str, label: str | None):
        function = getattr(owner, name)

        def wrapper(*args, **kwargs):
            self.inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - start
                what = label or self.labels.get(id(args[0]), "other products")
                self.seconds[what] += seconds - self.inner.pop()
                self.inner[-1] += seconds
                self.note(what, args)

        return wrapper

    def note(self, label: str, args: tuple) -> None:
        if label == "sums":
            which, terms = args
            if len(which) > 1:
                self.shapes[label, len(which), len(terms), terms[0].numel()] += 1
        elif isinstance(args[0], Linear):
            self.shapes[label, args[1].numel() // args[1].shape[-1], *args[0].w.shape] += 1


def rates(profile: Profile, weights: Weights) -> dict[str, float]:
    """Measure FLOP/s of the engine's own products at the shapes it issued, by label, each shape by itself.

    As in the engine, a weight is not in the cache: the layers' weights take turns.
    """
    result = {}
    for label in {shape[0] for shape in profile.shapes}:
        shapes = Counter({s: n for s, n in profile.shapes.items() if s[0] == label})
        kept = [s for s, _ in sorted(shapes.items(), key=lambda item: -item[1] * flops(item[0]))[:MOST_SHAPES]]
        seconds = sum(shapes[s] * seconds_of(s, weights) for s in kept)
        result[label] = sum(shapes[s] * flops(s) for s in kept) / seconds
    return result


def flops(shape: tuple[str, int, int, int]) -> int:
    _, m, k, n = shape
    return 2 * m * k * n


def seconds_of(shape: tuple[str, int, int, int], weights: Weights) -> float:
    """Return the seconds of one product of this shape, in the best of several rounds."""
    label, m, k, n = shape
    device, dtype = weights.embed.device, weights.embed.dtype
    if label == "sums":
        which, terms = np.ones((m, k), dtype=bool), torch.randn(k, n, device=device, dtype=dtype)
        calls = [lambda: sums(which, terms)]
    else:
        x = torch.randn(m, k, device=device, dtype=dtype)
        calls = [lambda linear=linear: linear(x) for linear in linears(label, k, n, weights)]
    return min(timed_round(calls) for _ in range(REPEATS)) / len(calls)


def linears(label: str, d_in: int, d_out: int, weights: Weights) -> list[Linear]:
    if label == "unembedding":
        return [weights.readout]
    every = [[*b.ports, *b.outputs, *([b.up, b.down] if b.w_in is not None else [])] for b in weights.blocks]
    return [linear for block in every for linear in block if linear.w.shape == (d_in, d_out)]


def timed_round(calls: list) -> float:
    start = time.perf_counter()
    kept: list[Tensor] = [call() for call in calls]
    del kept
    return time.perf_counter() - start
