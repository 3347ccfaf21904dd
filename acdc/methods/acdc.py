"""Run ACDC, Automatic Circuit DisCovery, literally as the paper writes it (Conmy et al. 2023, Algorithm 1).

``acdc`` measures a whole circuit for every edge that it tries. ``acdc.methods.acdc_fast`` makes the same decisions and
measures many candidates at once; tests compare the two. Order and decisions are those of the original's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from acdc.graph import Circuit, Edge, Graph, Kind, Node

HeadOrder = Literal["descending", "ascending"]


def acdc(
    graph: Graph, measure: Callable[[Circuit], float], threshold: float, head_order: HeadOrder = "descending"
) -> Progress:
    """Prune the whole graph at one threshold, with one measurement of the circuit per tried edge.

    Comments are numbered as the lines of the paper's Algorithm 1.

    Args:
        graph: the computational graph of the model.
        measure: a function that returns a circuit's metric, which ACDC keeps low.
        threshold: an edge is removed if the metric rises by strictly less than this, in the metric's unit.
        head_order: the order of a layer's heads as senders.

    Returns:
        The state at the end of the run, with the circuit and a row for every tried edge.
    """
    circuit, trace = Circuit.full(graph), list[Tried]()  # 1: H <- G
    current = measure(circuit)
    for receiver, kind in receivers_in_order(graph):  # 3: for every node v, from the output backwards
        if not circuit.needs(receiver, kind):  # nothing reads v any more, so the original drops its edges untried
            circuit.remove_all(receiver, kind)
            continue
        for edge in edges_in_order(graph, receiver, kind, head_order):  # 4: for every parent w of v
            circuit.set(edge, False)  # 5: H_new <- H \ {w -> v}
            after = measure(circuit)
            removed = after - current < threshold  # 6: if D(G || H_new) - D(G || H) < tau
            circuit.set(edge, not removed)  # 7: H <- H_new
            trace.append(Tried.of(edge, current, after, removed))
            current = after if removed else current
    return Progress(circuit, -1, trace, evaluations=len(trace))  # 11: return H


class Tried(NamedTuple):
    """Record one tried edge, a row of the trace; ``effect`` is ``metric_after`` minus ``metric_before``."""

    receiver: str
    sender: str
    kind: str
    metric_before: float
    metric_after: float
    effect: float
    removed: bool

    @classmethod
    def of(cls, edge: Edge, before: float, after: float, removed: bool) -> Tried:
        """Return the row of an edge whose removal takes the metric from ``before`` to ``after``."""
        return cls(edge.receiver.name, edge.sender.name, edge.kind, before, after, after - before, removed)


@dataclass
class Progress:
    """Hold the state of an ACDC run: the circuit so far, the trace, and the next layer.

    Attributes:
        circuit: the circuit of the edges that are not removed so far.
        layer: the next layer to prune; ``n_layers`` stands for the logits, -1 for the end.
        trace: every edge tried so far, in order.
        evaluations: the number of circuits that were measured.
        float_error: how far rounding may have moved the metric, in its unit, see ``acdc.methods.acdc_fast``.
        remeasured: the number of measurements in lower precision that were repeated in full (``acdc.engine.mixed``).
    """

    circuit: Circuit
    layer: int
    trace: list[Tried] = field(default_factory=list)
    evaluations: int = 0
    float_error: float = 0.0
    remeasured: int = 0

    @classmethod
    def start(cls, graph: Graph) -> Progress:
        """Return the state at the beginning of a run: all edges are present."""
        return cls(Circuit.full(graph), graph.n_layers)

    @property
    def metric(self) -> float | None:
        """Return the metric after the last decision; None if no edge was tried."""
        if not self.trace:
            return None
        last = self.trace[-1]
        return last.metric_after if last.removed else last.metric_before

    def smallest_margin(self, threshold: float) -> float | None:
        """Return the smallest distance of a tried edge's effect from the threshold; None if no edge was tried."""
        return min((abs(row.effect - threshold) for row in self.trace), default=None)

    def near_ties(self, threshold: float) -> int:
        """Count the decisions that rounding may have reversed: effects within ``float_error`` of the threshold."""
        return sum(abs(row.effect - threshold) < self.float_error for row in self.trace)


def receivers_in_order(graph: Graph) -> Iterator[tuple[Node, Kind]]:
    """Yield every receiver with the kind of its edges, in the original's order, from the logits backwards."""
    for layer in reversed(range(graph.n_layers + 1)):
        yield from receivers_of_layer(graph, layer)


def receivers_of_layer(graph: Graph, layer: int) -> Iterator[tuple[Node, Kind]]:
    """Yield the receivers of one layer with the kind of their edges, in the original's order.

    The MLP comes first, then the direct edges of v, k and q, then the inputs of v, k and q; heads go from high to low.
    """
    if layer == graph.n_layers:
        yield graph.receivers[-1], "addition"
        return
    if graph.has_mlp:
        yield Node(layer, "mlp"), "addition"
    kinds: tuple[Kind, ...] = ("direct", "addition")
    for kind in kinds:
        for port in ("v", "k", "q"):
            n = graph.n_heads if port == "q" else graph.n_kv_heads
            for head in reversed(range(n)):
                yield Node(layer, "head", head, port), kind


def edges_in_order(graph: Graph, receiver: Node, kind: Kind, head_order: HeadOrder) -> list[Edge]:
    """Return the edges of one kind into a receiver, in the order in which they are tried."""
    if kind == "direct":
        return [Edge(receiver, receiver, "direct")]
    return [Edge(graph.senders[s], receiver) for s in sender_order(graph, receiver, head_order)]


def sender_order(graph: Graph, receiver: Node, head_order: HeadOrder) -> list[int]:
    """Return a receiver's senders in the original's order, as indices into ``Graph.senders``.

    Later layers come first, an MLP before its layer's heads, the embedding last (tokens before positions).
    """
    earlier = [n for n in graph.senders if graph.exists[graph.sender_index[n], graph.receiver_index[receiver]]]
    sign = -1 if head_order == "descending" else 1
    earlier.sort(key=lambda n: (-n.layer, n.component != "mlp", sign * (n.head or 0)))
    return [graph.sender_index[n] for n in earlier]
