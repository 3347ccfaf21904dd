"""Measure how stable a method's circuits are, by the overlaps of circuits found on resampled prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from acdc.graph import Circuit

INTERVAL = (2.5, 97.5)
"""The percentiles at the ends of an interval."""


def edge_overlap(a: Circuit, b: Circuit) -> float:
    """Compute the Jaccard index of two circuits' edges: edges in both over edges in either; 1 for empty circuits."""
    in_a, in_b = (np.concatenate([circuit.present.ravel(), circuit.direct]) for circuit in (a, b))
    either = (in_a | in_b).sum()
    return float((in_a & in_b).sum() / either) if either else 1.0


def node_overlap(a: Circuit, b: Circuit) -> float:
    """Compute the Jaccard index of two circuits' components (ports count as their heads); 1 for empty circuits."""
    either = a.nodes | b.nodes
    return len(a.nodes & b.nodes) / len(either) if either else 1.0


OVERLAPS = {"edge": edge_overlap, "node": node_overlap}


def stability_rows(found: Mapping[tuple[str, str], Sequence[Circuit]]) -> Iterator[dict[str, Any]]:
    """Yield one row per size and level: the mean overlap of all pairs of circuits, and the interval of 95% of pairs.

    The literature reports the mean over pairs for resampled prompts.

    Args:
        found: the circuits of all resamples, at least two, by ``size_by`` and ``value``.
    """
    for (size_by, value), circuits in found.items():
        n_edges = float(np.mean([circuit.n_edges for circuit in circuits]))
        for level, overlap in OVERLAPS.items():
            of_pairs = [overlap(a, b) for a, b in combinations(circuits, 2)]
            low, high = np.percentile(of_pairs, INTERVAL)
            row = {"size_by": size_by, "value": value, "level": level, "n_resamples": len(circuits)}
            row |= {"mean_edges": n_edges, "jaccard": float(np.mean(of_pairs))}
            yield {**row, "jaccard_low": float(low), "jaccard_high": float(high)}
