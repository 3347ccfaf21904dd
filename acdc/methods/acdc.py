"""ACDC: Automatic Circuit DisCovery (Conmy et al. 2023, Algorithm 1; order and decision as in the original's code).

Receivers are visited from the logits backwards. For each, every sender's edge is removed in turn; it stays
out when the metric of the whole circuit rises by less than the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from acdc.engine import Engine
from acdc.engine.removals import Removals
from acdc.graph import Circuit, Edge, Graph, Kind, Node
from acdc.methods.speculation import Speculation
from acdc.metrics import Metric

HeadOrder = Literal["descending", "ascending"]

N_ROUNDINGS = 16
"""Roundings of its largest logit that a metric may be off by. In 245 random searches none was by half of that."""


class Tried(NamedTuple):
    """One tried edge: a row of the trace. The effect is ``metric_after - metric_before``."""

    receiver: str
    sender: str
    kind: str
    metric_before: float
    metric_after: float
    effect: float
    removed: bool


@dataclass
class Progress:
    """An ACDC run between two layers: enough to go on from.

    Attributes:
        layer: the next layer to prune; ``n_layers`` is the logits', -1 means done.
        trace: every edge tried so far, in order.
        evaluations: circuits whose metric was computed; more than ``len(trace)`` by what was guessed in vain.
        float_error: how far rounding may reach: the largest difference seen between the metric as it was carried
            through a layer's removals and the same circuit's computed afresh, or ``N_ROUNDINGS`` if that is more.
    """

    circuit: Circuit
    layer: int
    trace: list[Tried] = field(default_factory=list)
    evaluations: int = 0
    float_error: float = 0.0

    @classmethod
    def start(cls, graph: Graph) -> Progress:
        return cls(Circuit.full(graph), graph.n_layers)

    @property
    def metric(self) -> float | None:
        """The metric after the last decision; None where nothing was tried."""
        if not self.trace:
            return None
        last = self.trace[-1]
        return last.metric_after if last.removed else last.metric_before

    def smallest_margin(self, threshold: float) -> float | None:
        """The smallest distance of a tried edge's effect from the threshold: how near a float error came."""
        return min((abs(row.effect - threshold) for row in self.trace), default=None)

    def near_ties(self, threshold: float) -> int:
        """Decisions that rounding may have made: their effect is within ``float_error`` of the threshold."""
        return sum(abs(row.effect - threshold) < self.float_error for row in self.trace)

    def compare(self, afresh: float, rounding: float) -> None:
        """Note how far rounding has carried the metric from what it is ``afresh``; one ``rounding`` is of a logit."""
        carried = afresh if self.metric is None else self.metric
        self.float_error = max(self.float_error, abs(carried - afresh), N_ROUNDINGS * rounding)


def layer_steps(graph: Graph, layer: int) -> Iterator[tuple[Node, Kind]]:
    """Receivers of one layer in the original's order, each with the kind of its edges.

    MLP, then the direct edges of v, k and q, then the inputs of v, k and q; heads from high to low.
    """
    if layer == graph.n_layers:
        yield graph.receivers[-1], "addition"
        return
    if graph.has_mlp:
        yield Node(layer, "mlp"), "addition"
    for kind in ("direct", "addition"):
        for port in ("v", "k", "q"):
            n = graph.n_heads if port == "q" else graph.n_kv_heads
            for head in reversed(range(n)):
                yield Node(layer, "head", head, port), kind


def sender_order(graph: Graph, receiver: Node, head_order: HeadOrder) -> list[int]:
    """Senders of a receiver in the original's order: later layers first, an MLP before its layer's heads.

    Heads of a layer in ``head_order``; at the end the embedding, tokens before positions where it is split.
    """
    earlier = [n for n in graph.senders if graph.exists[graph.sender_index[n], graph.receiver_index[receiver]]]
    sign = -1 if head_order == "descending" else 1
    earlier.sort(key=lambda n: (-n.layer, n.component != "mlp", sign * (n.head or 0)))
    return [graph.sender_index[n] for n in earlier]


def acdc(
    engine: Engine,
    metric: list[Metric],
    threshold: float,
    *,
    head_order: HeadOrder = "descending",
    progress: Progress | None = None,
    after_layer: Callable[[Progress], None] = lambda progress: None,
    after_step: Callable[[Progress, int], None] = lambda progress, n_edges: None,
) -> Progress:
    """Prune the whole graph at one threshold.

    Args:
        metric: what ``engine.metric`` gives.
        threshold: an edge is removed when the metric rises by strictly less, in the metric's unit.
        head_order: of the heads of one layer as senders; ``descending`` is the original command line's, the
            paper used ascending for induction.
        progress: an interrupted run to go on with.
        after_layer: called with the progress when a layer is done; a good time to save it.
        after_step: called when the edges of one kind into a receiver are decided, with their number.
    """
    progress = progress or Progress.start(engine.graph)
    while progress.layer >= 0:
        removals, speculation = Removals(engine, progress.circuit, progress.layer, metric), Speculation()
        progress.compare(removals.current, engine.rounding)
        for receiver, kind in layer_steps(engine.graph, progress.layer):
            step = Step(removals, speculation, progress, receiver, threshold)
            if not step.is_read(kind):
                step.remove_untried(kind)
            elif kind == "direct":
                step.prune_direct()
            else:
                step.prune(sender_order(engine.graph, receiver, head_order))
            after_step(progress, step.n_edges(kind))
        progress.layer -= 1
        after_layer(progress)
    progress.compare(*engine.measure(metric, engine.finals(progress.circuit)), engine.rounding)
    return progress


class Step:
    """The edges of one kind into one receiver."""

    def __init__(
        self, removals: Removals, speculation: Speculation, progress: Progress, receiver: Node, threshold: float
    ) -> None:
        self.removals, self.speculation, self.progress = removals, speculation, progress
        self.receiver, self.threshold = receiver, threshold
        self.circuit, self.graph = progress.circuit, progress.circuit.graph
        self.index = self.graph.receiver_index[receiver]

    def n_edges(self, kind: Kind) -> int:
        return 1 if kind == "direct" else int(self.graph.exists[:, self.index].sum())

    def is_read(self, kind: Kind) -> bool:
        """The node that these edges enter has a present outgoing edge."""
        if kind == "addition" and self.receiver.port:
            return bool(self.circuit.direct[self.index])
        return self.circuit.is_read(self.index)

    def remove_untried(self, kind: Kind) -> None:
        if kind == "direct":
            self.circuit.direct[self.index] = False
        else:
            self.circuit.present[:, self.index] = False

    def prune(self, senders: list[int]) -> None:
        """Try the senders in order.

        A block of them is tried at once, each as if it were known which of those before it stay. Decisions count
        up to the first that was guessed wrong; what follows it is tried again.
        """
        self.removals.start(self.receiver)
        self.speculation.start()
        while senders:
            block = senders[: min(self.speculation.size, self.removals.most_states)]
            stays = [self.speculation.stays(sender) for sender in block]
            metrics = self.removals.try_removing(block, stays)
            self.progress.evaluations += len(block)
            decisions = self.decide(block, stays, metrics)
            self.speculation.learn(decisions, stays)
            senders = senders[len(decisions) :]

    def decide(self, block: list[int], stays: list[bool], metrics: list[float]) -> list[bool]:
        """Decide until a guess was wrong and remove what goes; which of those decided stay."""
        before, decisions, last = self.removals.current, [], None
        for i, (sender, guess, after) in enumerate(zip(block, stays, metrics, strict=True)):
            if decisions != stays[:i]:
                # Measured in a circuit that is none; its effect will be near this.
                self.speculation.expect(sender, after - before >= self.threshold)
            else:
                removed = self.decide_one(Edge(self.graph.senders[sender], self.receiver), before, after)
                decisions.append(not removed)
                last = i if removed else last
            before = before if guess else after
        if last is not None:
            self.removals.commit(last, metrics[last])
        return decisions

    def prune_direct(self) -> None:
        """Try the head's q, k or v as a whole."""
        self.removals.start(self.receiver)
        (after,) = self.removals.try_cutting_direct()
        self.progress.evaluations += 1
        if self.decide_one(Edge(self.receiver, self.receiver, "direct"), self.removals.current, after):
            self.removals.commit(0, after)

    def decide_one(self, edge: Edge, before: float, after: float) -> bool:
        """Note one tried edge; True where it is removed.

        Raises:
            ArithmeticError: the metric is NaN; the message names the edge.
        """
        effect = after - before
        if effect != effect:
            raise ArithmeticError(f"the metric became {after} when {edge.name} was removed")
        removed = effect < self.threshold
        self.progress.trace.append(
            Tried(edge.receiver.name, edge.sender.name, edge.kind, before, after, effect, removed)
        )
        return removed
