"""Run searches to their end, Algorithm 1 by hooked forward passes too, and compare them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from acdc.api import measured_by
from acdc.methods.acdc import HeadOrder, Progress, acdc
from acdc.methods.driver import Search
from acdc.metrics import Metric
from acdc.reference import Reference

AnySearch = TypeVar("AnySearch", bound=Search)


def finished(search: AnySearch) -> AnySearch:
    """Run a search to its end, and return it."""
    for _ in search.steps():
        pass
    return search


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
