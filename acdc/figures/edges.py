"""Choose the edges that drawings and pages show, their colours and their widths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from matplotlib.colors import LogNorm

from acdc.figures.style import BLUE, GREEN, ORANGE, PINK, VERMILLION
from acdc.graph import Edge, Graph, Node

INPUTS = {"q": BLUE, "k": ORANGE, "v": GREEN, "mlp": PINK, "logits": VERMILLION}
"""The colour of an edge, by the input that it enters."""
INPUT_NAMES = {"mlp": "MLP"}
DECADES = 3
"""Effects that are weaker than the strongest by more decades look alike."""


def arrow_ends(graph: Graph, edge: Edge, live: Set[Node]) -> list[Node]:
    """Return the live components that read what the edge carries."""
    if edge.receiver.component == "logits":
        return [edge.receiver]
    return [node for node in graph.consumers(edge.receiver) if node in live]


def strongest(ends: dict[Edge, list[Node]], strengths: dict[Edge, float], n: int) -> list[Edge]:
    """Choose at most ``n`` edges, the strongest first, each with its strongest path to the logits.

    The strongest edges alone would leave some heads without a path to the logits.
    """
    order = sorted(ends, key=lambda edge: -strengths[edge])
    onward = {edge.sender: edge for edge in reversed(order)}  # the strongest edge of a sender overwrites the others
    chosen: dict[Edge, None] = {}
    for edge in order:
        way = [edge]
        for step in way:  # grows until every branch is at the logits
            way += [onward[node] for node in ends[step] if node in onward and onward[node] not in way]
        new = [step for step in way if step not in chosen]
        if len(chosen) + len(new) <= n:
            chosen |= dict.fromkeys(new)
    return sorted(chosen, key=lambda edge: -strengths[edge])


def input_of(receiver: Node) -> str:
    """Return the name of a receiver's input: q, k, v, mlp or logits."""
    return receiver.port or receiver.component


def counted(n: int, kind: str = "") -> str:
    """Return a number of edges as a text."""
    return f"1 {kind}edge" if n == 1 else f"{n:,} {kind}edges"


def line_width(strengths: Iterable[float]) -> Callable[[float], float]:
    """Return a function from an effect to a width in points, on a log scale of at most ``DECADES`` decades."""
    low, high = strength_range(strengths)
    norm = LogNorm(low, high, clip=True) if low < high else lambda _: 1.0
    return lambda strength: 0.5 + 1.7 * float(norm(max(strength, low)))


def strength_range(strengths: Iterable[float]) -> tuple[float, float]:
    """Return the weakest and the strongest effect on the log scale, where an effect of zero has no place."""
    positive = [s for s in strengths if s > 0] or [1.0]
    return max(min(positive), max(positive) * 10.0**-DECADES), max(positive)
