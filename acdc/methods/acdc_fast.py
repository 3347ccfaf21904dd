"""Run ACDC fast, with the decisions of Algorithm 1 as ``acdc.methods.acdc`` makes them.

Tests compare the two. Many edges are tried at once, each with a guess of which edges before it stay. A measurement
recomputes only the activations that the removed edge changes (``acdc.engine.removals``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from acdc.engine.mixed import MixedRemovals
from acdc.engine.model import Engine
from acdc.engine.removals import Removals
from acdc.graph import Circuit, Edge, Kind, Node
from acdc.methods.acdc import HeadOrder, Progress, Tried, receivers_of_layer, sender_order
from acdc.methods.driver import Outcome, Search
from acdc.methods.speculation import Speculation
from acdc.metrics import Metric, MetricKind

N_ROUNDINGS = 16
"""The bound of a metric's error, in roundings of the largest logit. In 245 random searches no error was half of it."""


class Acdc(Search):
    """Run ACDC at one threshold.

    Args:
        engine: the model on the discovery prompts.
        kind: the metric to keep low.
        threshold: an edge is removed if the metric rises by strictly less than this, in the metric's unit.
        head_order: the order of a layer's heads as senders. The original's command line has ``descending``, the paper
            used ascending order for induction.
    """

    unit = "edge"

    def __init__(self, engine: Engine, kind: MetricKind, threshold: float, *, head_order: HeadOrder) -> None:
        self.engine, self.metric, self.threshold = engine, engine.metric(kind), threshold
        self.head_order = head_order
        self.progress = Progress.start(engine.graph)
        self.total = engine.graph.n_edges

    @property
    def done(self) -> int:
        """Return the number of edges that are decided, in whole layers."""
        return self.engine.graph.edges_into(self.progress.layer + 1)

    def steps(self) -> Iterator[tuple[int, bool]]:
        """Prune layer after layer; yield the number of edges just decided, and whether a layer is done and savable."""
        progress, graph = self.progress, self.engine.graph
        while progress.layer >= 0:
            removals = removals_of(self.engine, progress.circuit, progress.layer, self.metric, self.threshold)
            speculation = Speculation()
            self.note_rounding(removals.current)
            for receiver, kind in receivers_of_layer(graph, progress.layer):
                step = Step(removals, speculation, progress, receiver, self.threshold)
                if not progress.circuit.needs(receiver, kind):
                    progress.circuit.remove_all(receiver, kind)
                elif kind == "direct":
                    step.prune_direct()
                else:
                    step.prune(sender_order(graph, receiver, self.head_order))
                yield step.n_edges(kind), False
            progress.layer -= 1
            progress.remeasured += removals.n_again
            yield 0, True
        self.note_rounding(*self.engine.measure(self.metric, self.engine.finals(progress.circuit)))

    def note_rounding(self, afresh: float) -> None:
        """Record by how much rounding has moved the metric from its newly computed value for the same circuit."""
        carried = afresh if self.progress.metric is None else self.progress.metric
        floor = N_ROUNDINGS * self.engine.rounding
        self.progress.float_error = max(self.progress.float_error, abs(carried - afresh), floor)

    def status(self) -> dict[str, Any]:
        """Return the numbers of edges that were tried and that stay, for the progress bar."""
        kept = sum(not row.removed for row in self.progress.trace)
        return {"tried": len(self.progress.trace), "kept": kept}

    def state(self) -> dict[str, Any]:
        """Return the state of the run for a checkpoint."""
        progress = self.progress
        own = {"layer": progress.layer, "circuit": progress.circuit.to_json(), "evaluations": progress.evaluations}
        own |= {"remeasured": progress.remeasured, "float_error": progress.float_error}
        return own | {"trace": [tuple(row) for row in progress.trace]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the run from a checkpoint's state."""
        trace = [Tried(*row) for row in state["trace"]]
        circuit = Circuit.from_json(state["circuit"])
        rest = (state[name] for name in ("evaluations", "float_error", "remeasured"))
        self.progress = Progress(circuit, state["layer"], trace, *rest)

    def outcome(self) -> Outcome:
        """Return the circuit, and the trace and counts of the run."""
        progress = self.progress
        more = {
            "tried": len(progress.trace),
            "smallest_margin": progress.smallest_margin(self.threshold),
            "float_error": progress.float_error,
            "near_ties": progress.near_ties(self.threshold),
        }
        if self.engine.coarse is not None:
            more["remeasured"] = progress.remeasured
        return Outcome(progress.circuit, progress.metric, progress.evaluations, progress.trace, more=more)

    def warning(self) -> str | None:
        """Return a warning if rounding may have reversed a decision; None otherwise."""
        ties = self.progress.near_ties(self.threshold)
        if not ties:
            return None
        more_digits = "precision: float64 for the task, or " if self.engine.is_single_precision else ""
        return (
            f"{ties} of {len(self.progress.trace)} decisions came as near to the threshold {self.threshold:g} as"
            f" rounding reaches (nearest {self.progress.smallest_margin(self.threshold):.1e}, rounding"
            f" {self.progress.float_error:.1e}): another machine may decide otherwise;"
            f" {more_digits}another threshold settles it"
        )


def acdc_fast(
    engine: Engine,
    kind: MetricKind,
    threshold: float,
    head_order: HeadOrder = "descending",
    after_layer: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Prune the whole graph at one threshold, with the arguments of ``Acdc``."""
    search = Acdc(engine, kind, threshold, head_order=head_order)
    for _, layer_is_done in search.steps():
        if layer_is_done:
            after_layer(search.progress)
    return search.progress


def removals_of(engine: Engine, circuit: Circuit, layer: int, metric: list[Metric], threshold: float) -> Removals:
    """Return the object that tries removing edges into a layer's receivers, in the engine's precision."""
    if engine.coarse is None:
        return Removals(engine, circuit, layer, metric)
    return MixedRemovals(engine, circuit, layer, metric, threshold, floor=N_ROUNDINGS * engine.rounding)


class Step:
    """Decide the edges of one kind into one receiver."""

    def __init__(
        self, removals: Removals, speculation: Speculation, progress: Progress, receiver: Node, threshold: float
    ) -> None:
        self.removals, self.speculation, self.progress = removals, speculation, progress
        self.receiver, self.threshold = receiver, threshold
        self.graph = progress.circuit.graph
        self.index = self.graph.receiver_index[receiver]

    def n_edges(self, kind: Kind) -> int:
        """Return the number of edges of a kind into the receiver in the whole graph."""
        return 1 if kind == "direct" else int(self.graph.exists[:, self.index].sum())

    def prune(self, senders: list[int]) -> None:
        """Try to remove the edges from these senders, in order.

        A block of them is tried at once, each with a guess of which edges before it stay. Decisions count up to and
        including the first wrong guess. The senders after it are tried again.
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
        """Decide a block's edges up to the first wrong guess, commit removals, and return which decided edges stay."""
        before, decisions, last = self.removals.current, list[bool](), None
        for i, (sender, guess, after) in enumerate(zip(block, stays, metrics, strict=True)):
            if decisions != stays[:i]:
                # A guess before was wrong, so this was measured in another circuit. The true effect will be near it.
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
        """Try to remove the port's direct edge."""
        self.removals.start(self.receiver)
        (after,) = self.removals.try_cutting_direct()
        self.progress.evaluations += 1
        if self.decide_one(Edge(self.receiver, self.receiver, "direct"), self.removals.current, after):
            self.removals.commit(0, after)

    def decide_one(self, edge: Edge, before: float, after: float) -> bool:
        """Decide one edge, add it to the trace, and return whether it is removed.

        Raises:
            ArithmeticError: the metric is NaN; the message names the edge.
        """
        effect = after - before
        if effect != effect:
            raise ArithmeticError(f"the metric became {after} when {edge.name} was removed")
        removed = effect < self.threshold
        self.progress.trace.append(Tried.of(edge, before, after, removed))
        return removed
