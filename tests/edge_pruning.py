"""State how the authors' Edge Pruning and ours are run for a comparison, and draw what both are given.

The authors' code is run in an environment of its own, see tests/vectors/edge_pruning/README.md. The model and the
prompts are those of ``tests.mib``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHAPE = 12, 27
"""The numbers of the graph's senders and receivers."""


class Run(NamedTuple):
    """Hold the settings of one run, and how many steps lie between those whose numbers the file has.

    Attributes:
        start, spread: the mean and the standard deviation of scores at the start.
    """

    start: float
    spread: float
    sparsity_target: float
    steps: int
    learning_rate: float
    multiplier_learning_rate: float
    warmup_steps: int
    target_steps: int
    every: int


RUNS = {
    "short": Run(0.5, 1.0, 0.7, 12, 0.3, 0.5, 3, 8, every=1),
    "original": Run(10.0, 0.01, 0.9, 300, 0.8, 0.8, 20, 250, every=30),
}
"""All masks of the first have slopes from the start; the second has the authors' settings, for a tenth of the steps."""


def start(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores to start from, Float[sender receiver] and Float[sender]; the former has some of no edge."""
    draw = np.random.RandomState(1)
    edges, nodes = draw.standard_normal(SHAPE), draw.standard_normal(SHAPE[0])
    return run.start + run.spread * edges, run.start + run.spread * nodes


def uniform(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the uniform numbers that a step's masks are drawn with: Float[sender receiver] and Float[sender]."""
    draw = np.random.RandomState(100 + step)
    return draw.uniform(1e-6, 1 - 1e-6, SHAPE), draw.uniform(1e-6, 1 - 1e-6, SHAPE[0])
