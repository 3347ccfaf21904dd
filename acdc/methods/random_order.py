"""Score edges at random, as a control that does not depend on the model."""

from __future__ import annotations

import numpy as np

from acdc.engine.model import Engine
from acdc.graph import EdgeScores, Graph
from acdc.methods.driver import Scored
from acdc.metrics import MetricKind


def random_order(engine: Engine, kind: MetricKind, *, order_seed: int) -> Scored:
    """Score the edges of an engine's model at random.

    Returns:
        A score in [0, 1) for every addition edge, Float[sender receiver].
    """
    return Scored(random_scores(engine.graph, order_seed), evaluations=0)


def random_scores(graph: Graph, seed: int) -> EdgeScores:
    """Return a random score in [0, 1) for every addition edge."""
    score = np.random.default_rng(seed).random(graph.exists.shape)
    return EdgeScores(graph, np.where(graph.exists, score, np.nan))
