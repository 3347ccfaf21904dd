"""Plan which nodes a patched forward pass recomputes, by following changes over a circuit's edges to the logits.

A ``Route`` says which nodes a patched forward pass recomputes, in which groups, and which changes each of them reads.
It depends only on where the changes begin and on the circuit from there to the logits, so it is the same for all edges
into one receiver. No tensor is touched here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from acdc.graph import Circuit, Graph, any_along


class Plan:
    """Determine at which rows a circuit's nodes must be computed.

    A plan is made again when edges into later layers were removed.

    Attributes:
        all_live: Bool[receiver]; whether a receiver's input matters at all live rows. Otherwise only scored rows
            matter. Removing edges can make it False, never True again.
        sends: Bool[sender]; whether some present edge leaves a sender.
        live_senders: Bool[sender]; whether some receiver that matters at all live rows reads a sender.
    """

    def __init__(self, circuit: Circuit) -> None:
        graph = circuit.graph
        self.graph, self.present = graph, circuit.present
        self.sends = any_along(circuit.present, 1)
        self.all_live = np.zeros(len(graph.receivers), dtype=bool)
        for r in reversed(range(len(graph.receivers) - 1)):
            node = graph.receivers[r]
            if node.port in ("k", "v"):
                self.all_live[r] = True
            else:
                senders = [graph.sender_index[sender] for sender in graph.influenced(node)]
                self.all_live[r] = (circuit.present[senders] & self.all_live).any()
        self.live_senders = any_along(circuit.present & self.all_live, 1)
        if graph.coupled:  # a head's output at a row depends on all heads of its layer there
            heads = np.array([s.layer if s.component == "head" else -1 for s in graph.senders])
            for layer in set(heads[self.live_senders]) - {-1}:
                self.live_senders |= self.sends & (heads == layer)

    def port_at_all_live(self, layer: int, port: int) -> bool:
        """Return whether a port matters at all live rows."""
        return bool(self.all_live[self.graph.first_receiver(layer) + port])

    def mlp_at_all_live(self, layer: int) -> bool:
        """Return whether a layer's MLP matters at all live rows."""
        return bool(self.all_live[self.graph.first_receiver(layer + 1) - 1])

    def capacity(self, senders: slice) -> tuple[int, int]:
        """Count the senders among these whose changes are read: at scored rows, and at all live rows."""
        return int(self.sends[senders].sum()), int(self.live_senders[senders].sum())


class Slot(NamedTuple):
    """Locate stored changes: the index of the first one at scored rows, and at all live rows.

    ``live`` is None if the changes matter only at scored rows.
    """

    scored: int
    live: int | None

    def after(self, n: int) -> Slot:
        """Return the slot of the change that comes ``n`` after the first."""
        return Slot(self.scored + n, None if self.live is None else self.live + n)


@dataclass(frozen=True, eq=False)
class Read:
    """Select the changes so far that each of some receivers sums, at all live rows or at scored rows."""

    which: Bool[np.ndarray, "receiver term"]
    all_live: bool


@dataclass(frozen=True, eq=False)
class PortsStep:
    """Recompute some ports of a layer, in ascending order.

    Attributes:
        ports: the indices of the ports in the layer.
        all_live: whether they matter at all live rows.
        read: the changes of their inputs; None for the port where the changes begin.
    """

    ports: tuple[int, ...]
    all_live: bool
    read: Read | None


@dataclass(frozen=True, eq=False)
class HeadsStep:
    """Recompute some heads of a layer, in ascending order, and store the changes of their outputs.

    Attributes:
        sending: the heads whose changes are stored. They differ from ``heads`` only in a coupled layer.
    """

    heads: tuple[int, ...]
    all_live: bool
    sending: tuple[int, ...]
    slot: Slot


@dataclass(frozen=True, eq=False)
class MlpStep:
    """Recompute a layer's MLP; ``read`` is None if its input has not changed or is given."""

    all_live: bool
    slot: Slot
    read: Read | None


@dataclass(frozen=True, eq=False)
class LayerSteps:
    """Hold the steps that are recomputed in one layer, in this order."""

    layer: int
    ports: tuple[PortsStep, ...] = ()
    heads: tuple[HeadsStep, ...] = ()
    mlp: MlpStep | None = None


@dataclass(frozen=True, eq=False)
class Route:
    """Hold the steps that are recomputed on the way to the logits.

    Attributes:
        final: the changes that the logits read; None if no change reaches them.
        n_scored, n_live: the number of changes that are stored at scored rows, and at all live rows.
    """

    graph: Graph
    layers: tuple[LayerSteps, ...]
    final: Read | None
    n_scored: int
    n_live: int


@dataclass
class Tracer:
    """Make routes in a circuit.

    Attributes:
        everything: whether to recompute every node that sends, whether or not a change reaches it. That is needed if
            the changes are relative to an ablated run in which senders' outputs are replaced (zero and mean ablation).
        scored, live: the senders whose changes are recorded so far, at scored rows and at all live rows.
    """

    plan: Plan
    everything: bool = False
    scored: list[int] = field(default_factory=list)
    live: list[int] = field(default_factory=list)

    def from_senders(self, senders: list[int], layer: int) -> Route:
        """Return the route that begins with changes of some senders below a layer, in their order."""
        self.scored, self.live = list(senders), [s for s in senders if self.plan.live_senders[s]]
        return self.upwards([], layer)

    def from_port(self, layer: int, port: int) -> Route:
        """Return the route that begins with a change of a port."""
        step = PortsStep((port,), self.plan.port_at_all_live(layer, port), None)
        return self.upwards([LayerSteps(layer, (step,), *self.after_ports(layer, (step,)))], layer + 1)

    def from_mlp(self, layer: int) -> Route:
        """Return the route that begins with a change of an MLP's input."""
        return self.upwards([LayerSteps(layer, mlp=self.mlp_step(layer, None))], layer + 1)

    def upwards(self, before: list[LayerSteps], first: int) -> Route:
        """Return the route of the changes so far through the layers from ``first`` on."""
        steps = list(before)
        for layer in range(first, self.plan.graph.n_layers):
            ports = tuple(self.ports(layer))
            steps.append(LayerSteps(layer, ports, *self.after_ports(layer, ports)))
        logits = np.array([len(self.plan.graph.receivers) - 1])
        final = self.read(logits, False) if self.reached(logits)[0] else None
        return Route(self.plan.graph, tuple(steps), final, len(self.scored), len(self.live))

    def after_ports(self, layer: int, ports: tuple[PortsStep, ...]) -> tuple[tuple[HeadsStep, ...], MlpStep | None]:
        """Return the steps of a layer's heads and MLP, after those of its ports."""
        heads = self.coupled_heads(layer, ports) if self.plan.graph.coupled else self.heads(layer, ports)
        return tuple(heads), self.mlp(layer)

    def reached(self, receivers: slice | Int[np.ndarray, "receiver"]) -> Bool[np.ndarray, "receiver"]:
        """Return which of these receivers a present edge from a changed sender enters: Bool[receiver]."""
        return any_along(self.plan.present[self.scored][:, receivers], 0)

    def read(self, receivers: Int[np.ndarray, "receiver"], all_live: bool) -> Read:
        """Return the read of the changes so far by these receivers, at all live rows or at scored rows."""
        senders = np.array(self.live if all_live else self.scored, dtype=int)
        return Read(self.plan.present[np.ix_(senders, receivers)].T, all_live)

    def note(self, senders: list[int], all_live: bool) -> Slot:
        """Record that senders change, and return the slot of their changes."""
        slot = Slot(len(self.scored), len(self.live) if all_live else None)
        self.scored += senders
        self.live += senders if all_live else []
        return slot

    def ports(self, layer: int) -> list[PortsStep]:
        """Return the steps of a layer's ports that changes reach."""
        start = self.plan.graph.first_receiver(layer)
        span = slice(start, start + self.plan.graph.n_ports)
        reached, steps = self.reached(span), []
        for all_live in (True, False):
            ports = np.flatnonzero(reached & (self.plan.all_live[span] == all_live))
            if len(ports):
                steps.append(PortsStep(tuple(ports.tolist()), all_live, self.read(start + ports, all_live)))
        return steps

    def reading_heads(self, ports: tuple[PortsStep, ...]) -> Bool[np.ndarray, "head"]:
        """Return which heads of a layer read one of its new ports; all heads, if everything is recomputed."""
        is_new = np.zeros(self.plan.graph.n_ports, dtype=bool)
        for step in ports:
            is_new[list(step.ports)] = True
        return any_along(is_new[self.plan.graph.ports_of_heads], 0) | self.everything

    def sending_heads(self, layer: int) -> Bool[np.ndarray, "head"]:
        """Return which heads of a layer send along some edge."""
        first = self.plan.graph.first_sender(layer)
        return self.plan.sends[first : first + self.plan.graph.n_heads]

    def heads(self, layer: int, ports: tuple[PortsStep, ...]) -> list[HeadsStep]:
        """Return the steps of the heads that read a new port and send along some edge."""
        graph, steps = self.plan.graph, []
        reached = self.reading_heads(ports) & self.sending_heads(layer)
        receiver, sender = graph.first_receiver(layer), graph.first_sender(layer)
        heads_all_live = self.plan.all_live[receiver : receiver + graph.n_heads]
        for all_live in (True, False):
            heads = np.flatnonzero(reached & (heads_all_live == all_live))
            if len(heads):
                slot, chosen = self.note((sender + heads).tolist(), all_live), tuple(heads.tolist())
                steps.append(HeadsStep(chosen, all_live, chosen, slot))
        return steps

    def coupled_heads(self, layer: int, ports: tuple[PortsStep, ...]) -> list[HeadsStep]:
        """Return the step of heads that share a norm: readers of new ports are recomputed, and all that send change."""
        reached, sends = self.reading_heads(ports), np.flatnonzero(self.sending_heads(layer))
        if not reached.any() or not len(sends):
            return []
        all_live = self.plan.port_at_all_live(layer, 0)  # the same for all of them
        slot = self.note((self.plan.graph.first_sender(layer) + sends).tolist(), all_live)
        heads = tuple(np.flatnonzero(reached).tolist())
        return [HeadsStep(heads, all_live, tuple(sends.tolist()), slot)]

    def mlp(self, layer: int) -> MlpStep | None:
        """Return the step of a layer's MLP if it sends along some edge and a change reaches it; otherwise None."""
        if not self.plan.graph.has_mlp or not self.plan.sends[self.plan.graph.first_sender(layer + 1) - 1]:
            return None
        receiver = np.array([self.plan.graph.first_receiver(layer + 1) - 1])
        if self.reached(receiver)[0]:
            return self.mlp_step(layer, self.read(receiver, self.plan.mlp_at_all_live(layer)))
        return self.mlp_step(layer, None) if self.everything else None

    def mlp_step(self, layer: int, read: Read | None) -> MlpStep:
        """Return the step of a layer's MLP, and record that it changes."""
        all_live = self.plan.mlp_at_all_live(layer)
        slot = self.note([self.plan.graph.first_sender(layer + 1) - 1], all_live)
        return MlpStep(all_live, slot, read)
