"""Run Algorithm 1 by hooked forward passes, and compare searches with it."""

from __future__ import annotations

import numpy as np

from acdc.api import measured_by
from acdc.methods.acdc import HeadOrder, Progress, acdc
from acdc.metrics import Metric
from acdc.reference import Reference


def oracle_search(oracle: Reference, metric: type[Metric], threshold: float, head_order: HeadOrder) -> Progress:
    """Run Algorithm 1 by TransformerLens hooks."""
    return acdc(oracle.graph, measured_by(oracle, metric), threshold, head_order)


def decisions(progress: Progress) -> list[tuple]:
    return [(row.receiver, row.sender, row.kind, row.removed) for row in progress.trace]


def numbers(progress: Progress) -> np.ndarray:
    """Return every tried edge's metric before and after, and their difference: Float[tried 3]."""
    return np.array([(row.metric_before, row.metric_after, row.effect) for row in progress.trace])


def assert_same(found: Progress, expected: Progress, tolerance: float) -> None:
    """Assert the same circuit by the same decisions in the same order, the metric to ``tolerance`` in its unit."""
    assert decisions(found) == decisions(expected)
    assert found.circuit.to_json() == expected.circuit.to_json()
    np.testing.assert_allclose(numbers(found), numbers(expected), atol=tolerance, rtol=0)
