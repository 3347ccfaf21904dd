"""Select a circuit's edges by their scores.

Nikankin et al. 2025 (arXiv 2510.25786) show that circuits depend on how edges are selected. Beside the largest scores
they propose three rules: a share of edges of positive score, consistency on bootstrap resamples, and an integer linear
program. The rules follow the authors' code (technion-cs-nlp/MIB-Shared-Task); docstrings say where they depart from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array, eye_array, hstack, vstack

from acdc.catalogue import SELECTION
from acdc.errors import InputError
from acdc.graph import Circuit, EdgeScores, Graph, Scores

CONFIDENCE = 0.95
"""The confidence level of the interval of an edge's mean score, as in the authors' code."""


@dataclass(frozen=True)
class Cut:
    """Hold the circuit that a rule of selection gives.

    Attributes:
        circuit: the circuit.
        converged: whether the circuit is known to be the best by the rule.
        more: further entries for the result in the circuit's file, by name.
    """

    circuit: Circuit
    converged: bool = True
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Select edges by their scores, as the settings ``SELECTION`` of the catalogue say."""

    select: str
    positive_share: float
    bootstraps: int
    solver_seconds: float
    solver_gap: float

    @classmethod
    def of(cls, own: Mapping[str, Any]) -> Selection:
        """Return the selection that a method's settings ask for, with the catalogue's defaults for missing settings."""
        return cls(**{setting.name: own.get(setting.name, setting.default) for setting in SELECTION})

    def ranked(self, scores: Scores) -> Scores:
        """Return the scores that rank edges or nodes: for ``signed`` as they are, else their absolute values."""
        return scores if self.select == "signed" else scores.absolute()

    def cut(self, scores: Scores, n: int) -> Cut:
        """Return the circuit of at most ``n`` edges or nodes."""
        if self.select == "ratio":
            return Cut(by_ratio(of_edges(scores), n, self.positive_share))
        if self.select == "program":
            return by_program(of_edges(scores), n, seconds=self.solver_seconds, gap=self.solver_gap)
        return Cut(self.ranked(scores).top(n))


def of_edges(scores: Scores) -> EdgeScores:
    """Return scores of edges unchanged; raise InputError for scores of nodes."""
    if not isinstance(scores, EdgeScores):
        raise InputError(
            "select and bootstraps are of methods that score edges: leave them out where nodes have scores"
        )
    return scores


# Positive scores.


def by_ratio(scores: EdgeScores, n: int, positive_share: float) -> Circuit:
    """Return the circuit of ``n`` edges: a share of largest positive score, the rest of largest absolute score.

    Args:
        positive_share: the paper's ratio; the number of edges is rounded down.

    If fewer edges have a positive score, the edges of largest absolute score take the free places. The authors' code
    takes the edges of smallest negative score there, which matter least.
    """
    first = scores.top(math.floor(positive_share * n + 1e-9)).present & (scores.score > 0)
    ranked = np.where(first, np.inf, np.abs(scores.score))
    return replace(scores, score=ranked).top(n)


# Consistency.


def mean_and_consistent(
    resampled: Sequence[EdgeScores],
) -> tuple[EdgeScores, Bool[np.ndarray, "sender receiver"]]:
    """Return the mean of scores over bootstrap resamples, and which edges' confidence interval does not contain 0.

    The interval is that of the authors' code: the mean, plus and minus its standard error over the resamples times the
    normal distribution's quantile. It is narrower with more resamples.
    """
    values: Float[np.ndarray, "resample sender receiver"] = np.stack([scores.score for scores in resampled])
    mean, error = values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return replace(resampled[0], score=mean), np.abs(mean) > reach


def consistent_first(scores: EdgeScores, consistent: Bool[np.ndarray, "sender receiver"]) -> EdgeScores:
    """Return the scores, with those of inconsistent edges scaled down below those of all consistent edges.

    So inconsistent edges come in when all consistent ones are in, the largest first, by whichever rule. The authors'
    code intends the same; for its program it sets the other scores to 0, to which the scaled ones are close.
    """
    size = np.abs(scores.score)
    others = scores.graph.exists & ~consistent
    if not consistent.any() or not others.any() or not size[others].max() > 0:
        return scores
    factor = 1e-3 * size[consistent].min() / size[others].max()
    return replace(scores, score=np.where(others, np.minimum(factor, 1) * scores.score, scores.score))


# The integer linear program.


def by_program(scores: EdgeScores, n: int, *, seconds: float, gap: float) -> Cut:
    """Return the connected circuit of at most ``n`` edges whose absolute scores have the largest sum.

    In a connected circuit every edge is on a path from an embedding to the logits. The program demands that every
    sender but the embeddings has an edge into one of its ports, that for every edge one of the senders that read its
    receiver sends along an edge, and that some edge enters the logits.

    The paper's program is solved by HiGHS. If the solver stops before it has proven the optimum, the circuit is the
    better one of the solver's and that of ``greedy``, and has not converged.

    Args:
        seconds: the time that the solver may take.
        gap: how far the circuit's sum may stay below the largest sum, as a share of it.
    """
    ranked = scores.absolute()
    candidates = [greedy(ranked, n)]
    solved = solve(ranked, n, seconds, gap) if n else None
    if solved is not None and solved.x is not None:
        present = np.zeros_like(ranked.graph.exists)
        present[ranked.graph.exists] = solved.x[: len(ranked.values)] > 0.5
        candidates.insert(0, with_direct(ranked.graph, present))
    best = max(candidates, key=lambda circuit: ranked.score[circuit.present].sum())
    found_gap = None if solved is None or solved.mip_gap is None else float(solved.mip_gap)
    return Cut(best, solved is None or solved.status == 0, {"solver_gap_left": found_gap})


def with_direct(graph: Graph, present: Bool[np.ndarray, "sender receiver"]) -> Circuit:
    """Return the circuit of addition edges and of the direct edges of all ports that they enter."""
    return Circuit(graph, present, present.any(0) & graph.has_direct)


def greedy(ranked: EdgeScores, n: int) -> Circuit:
    """Return the connected part of as many edges of largest score as leave at most ``n`` edges in it."""
    low, high = 0, len(ranked.values) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if connected(ranked.top(middle)).present.sum() <= n:
            low = middle
        else:
            high = middle
    return connected(ranked.top(low))


def connected(circuit: Circuit) -> Circuit:
    """Return the connected part of a circuit, as ``by_program`` defines it, without regard to coupled heads."""
    alone = replace(circuit.graph, coupled=False)
    part = Circuit(alone, circuit.present, circuit.direct).reaching_logits().from_embeddings()
    return Circuit(circuit.graph, part.present, part.direct)


def solve(ranked: EdgeScores, n: int, seconds: float, gap: float) -> OptimizeResult:
    """Solve the integer linear program; its variables say which edges, and which senders but embeddings, are in.

    A sender's variable need not be an integer: all values in (0, 1] allow and demand the same edges.
    """
    limits = constraints(ranked.graph)
    n_edges = len(ranked.values)
    is_edge = np.arange(limits.shape[1]) < n_edges
    is_last = np.zeros(len(is_edge))
    is_last[:n_edges] = np.nonzero(ranked.graph.exists)[1] == len(ranked.graph.receivers) - 1
    objective = np.zeros(len(is_edge))
    # The solver's tolerances are absolute: scores of 1e-9 would count as 0.
    objective[:n_edges] = -ranked.values / max(ranked.values.max(), np.finfo(float).tiny)
    return milp(
        objective,
        integrality=is_edge,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(limits, -np.inf, 0),
            LinearConstraint(csr_array(is_edge[None] * 1.0), 0, n),
            LinearConstraint(csr_array(is_last[None]), 1, n),
        ],
        options={"time_limit": seconds, "mip_rel_gap": gap},
    )


def constraints(graph: Graph) -> csr_array:
    """Return the program's rows that make a circuit connected: their product with the variables must be at most 0."""
    sender, receiver = np.nonzero(graph.exists)
    inner = slice(graph.first_sender(0), None)
    leaves = incidence(sender, len(graph.senders))[inner]
    read = consumers(graph)[inner]
    enters = (read @ incidence(receiver, len(graph.receivers))).tocsr()
    edges, senders = eye_array(len(sender), format="csr"), eye_array(leaves.shape[0])
    is_sent, is_read = sender >= inner.start, receiver < len(graph.receivers) - 1
    rows = [
        hstack([edges[is_sent], -leaves.T.tocsr()[is_sent]]),  # an edge's sender is in
        hstack([edges[is_read], -enters.T.tocsr()[is_read]]),  # one of those that read its receiver is in
        hstack([-leaves, senders]),  # a sender that is in has an edge on
        hstack([-enters, senders]),  # and one into it
    ]
    return vstack(rows).tocsr()


def incidence(ends: np.ndarray, n_nodes: int) -> csr_array:
    """Return a sparse [node edge] matrix of ones where a node is the edge's end."""
    return csr_array((np.ones(len(ends)), (ends, np.arange(len(ends)))), shape=(n_nodes, len(ends)))


def consumers(graph: Graph) -> csr_array:
    """Return a sparse [sender receiver] matrix of ones where a sender's output depends directly on a receiver."""
    pairs = [(graph.sender_index[n], r) for r, node in enumerate(graph.receivers) for n in graph.consumers(node)]
    senders, receivers = np.array(pairs).T
    return csr_array((np.ones(len(pairs)), (senders, receivers)), shape=(len(graph.senders), len(graph.receivers)))
