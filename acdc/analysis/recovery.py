"""Measure how much of a known circuit a found one recovers (Conmy et al. 2023, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from acdc.catalogue import LEVELS
from acdc.errors import InputError
from acdc.found import COUNTS, LABELS, PRUNED, SIZE, Found
from acdc.graph import Circuit, Graph

Point = tuple[float | int, float | int]
"""A point of a ROC curve: false positive rate, true positive rate."""


@dataclass(frozen=True)
class Confusion:
    """Count true and false positives, false and true negatives of found against known edges or nodes."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def tpr(self) -> float:
        """Return the true positive rate: the share of the known edges or nodes that were found."""
        return self.tp / (self.tp + self.fn)

    @property
    def fpr(self) -> float:
        """Return the false positive rate: of the edges or nodes outside the known circuit, the share that was found."""
        return self.fp / (self.fp + self.tn)

    @property
    def precision(self) -> float | None:
        """Return the precision: the share of the found edges or nodes that are known; None if nothing was found."""
        found = self.tp + self.fp
        return self.tp / found if found else None

    def row(self) -> dict[str, float | int | None]:
        """Return the counts and rates by name."""
        return {**asdict(self), "tpr": self.tpr, "fpr": self.fpr, "precision": self.precision}


def confusion(found: Set, known: Set, n: int) -> Confusion:
    """Compare a found set with a known one, in a universe of ``n`` edges or nodes.

    Raises:
        InputError: the known set is empty or the whole universe, so that a rate would divide by zero.
    """
    if not 0 < len(known) < n:
        raise InputError(f"the known circuit has {len(known)} of {n}: recovery needs some that are in it and some not")
    tp = len(found & known)
    return Confusion(tp, len(found) - tp, len(known) - tp, n - len(found | known))


def edge_confusion(found: Circuit, known: Circuit) -> Confusion:
    """Compare addition and direct edges, which the original counts; raise InputError as ``confusion`` does."""
    return confusion(set(found.edges), set(known.edges), known.graph.n_edges)


def node_confusion(found: Circuit, known: Circuit) -> Confusion:
    """Compare components, with ports merged into their heads; raise InputError as ``confusion`` does."""
    return confusion(found.nodes, known.nodes, len(known.graph.senders) + 1)


def original_node_confusion(found: Circuit, known: Circuit) -> Confusion:
    """Compare the nodes that the published node curves count; raise InputError as ``confusion`` does."""
    universe = original_nodes(Circuit.full(known.graph))
    return confusion(original_nodes(found), original_nodes(known), len(universe))


def original_nodes(circuit: Circuit) -> set[tuple[str, tuple]]:
    """Return the hook points and indices at the ends of a circuit's edges; the two hook points of an MLP count as one.

    A head's output, the inputs of its ports and its q, k and v all count apart: ``filter_nodes`` (acdc_utils.py:250) is
    meant to merge them, but renames a hook point that does not exist.
    """
    ends = (end for edge in circuit.edges for end in (edge.sender_hook, edge.receiver_hook))
    return {(hook.replace("hook_mlp_in", "hook_mlp_out"), index) for hook, index in ends}


COLUMNS = [
    *(*LABELS, *SIZE, "known", "known_of", "level", "tp", "fp", "fn", "tn", "tpr", "fpr", "precision"),
    *(*COUNTS, PRUNED, "final_metric", "evaluations", "converged", "origin", "test_metric"),
]
"""The columns of a table of recovery; ``test_metric`` is the search's metric on held-out prompts."""


def recovery_rows(
    found: Found, known_circuits: Mapping[str, Callable[[Graph], Circuit]], known_of: str
) -> Iterator[dict[str, Any]]:
    """Yield one row per known circuit and level, with how much of it a found circuit recovers.

    Args:
        known_circuits: the known circuits, by a name that says where each is from.
        known_of: the model whose circuits they are.
    """
    sizes = {
        **found.sizes,
        **{key: found.result[key] for key in ("final_metric", "evaluations", "converged", "origin")},
    }
    for known, circuit_of in known_circuits.items():
        circuit = circuit_of(found.circuit.graph)
        for level in LEVELS.values():
            counts = level.load()(found.circuit, circuit)
            yield {**found.labels, "known": known, "known_of": known_of, "level": level.name, **counts.row(), **sizes}


def roc_curve(points: Iterable[Point]) -> list[Point]:
    """Return the points of a ROC curve that no other point dominates, with (0, 0) and (1, 1), from left to right.

    A point is dominated by one with more true and fewer false positives. A point that ties in either rate stays, since
    a curve may rise vertically.

    Raises:
        ValueError: a rate is not between 0 and 1.
    """
    curve: list[Point] = []
    for fpr, tpr in sorted({(0.0, 0.0), (1.0, 1.0), *points}):
        if not (0 <= fpr <= 1 and 0 <= tpr <= 1):
            raise ValueError(f"rates must be between 0 and 1, and a point has {fpr} and {tpr}")
        if not curve or tpr >= curve[-1][1]:
            curve.append((fpr, tpr))
    return curve


def pessimistic_auc(points: Iterable[Point]) -> float:
    """Compute the area under the lowest staircase through a curve's points: the paper's AUC (acdc_graphics.py).

    Between two points the true positive rate is that of the left one, so (0, 0) and (1, 1) alone have area 0.
    """
    fpr, tpr = np.array(roc_curve(points)).T
    return float(((1 - fpr[1:]) * np.diff(tpr)).sum())


def trapezoid_auc(points: Iterable[Point]) -> float:
    """Compute the area under straight lines between a curve's points; 0.5 for (0, 0) and (1, 1) alone.

    For nested circuits of all sizes it is the usual AUC: how often an edge or node of the known circuit is kept longer
    than one that is not in it.
    """
    fpr, tpr = np.array(roc_curve(points)).T
    return float(np.trapezoid(tpr, fpr))
