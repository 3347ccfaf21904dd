"""Removals of edges, one after another: many candidates' metrics at once, then those that are accepted."""

from __future__ import annotations

from acdc.engine import Engine
from acdc.engine.patched import Changes, Patch, Plan
from acdc.graph import Circuit, Node
from acdc.metrics import Metric

SCRATCH_BYTES = 2**29
"""Memory for the changes that one call of ``try_removing`` carries."""


class Removals:
    """A circuit that loses edges into the receivers of one layer, and its metric.

    All edges into earlier layers must be present, and an MLP is decided before the heads of its layer, which
    it reads. ``circuit`` is changed by ``commit``.

    Attributes:
        current: the metric of the circuit as it is.
    """

    def __init__(self, engine: Engine, circuit: Circuit, layer: int, metric: Metric) -> None:
        self.engine, self.circuit, self.layer, self.metric = engine, circuit, layer, metric
        if layer == engine.graph.n_layers:
            self.state = engine.clean.copy()
        else:
            self.state = engine.settle(circuit, layer)
            self.state.take_over(engine.clean, layer)
        self.current = engine.measure(metric, self.state.final[None])[0]
        self.patch: Patch | None = None

    def start(self, receiver: Node) -> None:
        """Go on with this receiver."""
        self.receiver = self.engine.graph.receiver_index[receiver]
        self.port = self.receiver - self.engine.graph.first_receiver(self.layer)
        self.node = receiver
        self.plan = Plan(self.circuit)

    @property
    def most_states(self) -> int:
        """Candidates that fit into the memory set aside for one call of ``try_removing``."""
        rows = self.engine.rows
        narrow, wide = self.capacity
        state_bytes = self.engine.delta[0, 0].nbytes * ((narrow + 1) * len(rows.scored) + (wide + 1) * len(rows.live))
        return max(1, SCRATCH_BYTES // state_bytes)

    @property
    def capacity(self) -> tuple[int, int]:
        return self.plan.capacity(slice(self.engine.graph.first_sender(self.layer), None))

    def try_removing(self, senders: list[int]) -> list[float]:
        """The metric without the first of these senders, without the first two, and so on."""
        wide = bool(self.plan.wide[self.receiver])
        rows, state = self.engine.rows.at(wide), self.state
        removed = self.engine.delta_at(senders, wide).cumsum(0)  # [state row d_model]
        self.tried, self.patch = senders, self.new_patch(len(senders))
        if self.node.component == "logits":
            final = self.patch.from_final(state.final - removed)
        elif self.node.component == "mlp":
            final = self.patch.from_mlp(self.layer, state.mlp_in[self.layer][rows] - removed)
        else:
            x = state.port_in[self.layer][self.port][rows] - removed
            final = self.patch.from_port_input(self.layer, self.port, x)
        return self.engine.measure(self.metric, final)

    def try_cutting_direct(self) -> float:
        """The metric with the ablated run's q, k or v as a whole."""
        rows = self.engine.rows.at(bool(self.plan.wide[self.receiver]))
        self.patch = self.new_patch(1)
        value = self.engine.ablated.port[self.layer][self.port][rows]
        final = self.patch.from_port(self.layer, self.port, value[None])
        return self.engine.measure(self.metric, final)[0]

    def commit(self, n: int, metric: float) -> None:
        """Remove the first ``n`` of the senders just tried; ``metric`` is what they gave."""
        self.patch.commit(n - 1)
        self.circuit.present[self.tried[:n], self.receiver] = False
        self.current = metric

    def commit_direct(self, metric: float) -> None:
        """Cut the direct edge just tried."""
        self.patch.commit(0)
        self.circuit.direct[self.receiver] = False
        self.current = metric

    def new_patch(self, n_states: int) -> Patch:
        engine = self.engine
        changes = Changes.none(self.plan, engine.rows, self.capacity, n_states, engine.scratch)
        return Patch(engine.weights, engine.rows, self.plan, self.state, changes)
