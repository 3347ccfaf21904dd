"""Propagate changes of activations to the logits one layer at a time, for GPUs.

On a GPU every operation costs its launch, whatever its size. So all ports of a layer go through one norm and one matrix
product, and all heads through another, where ``acdc.engine.patched`` computes them one after another. The recomputed
activations and the formulas are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.patched import Patch, Scratch
from acdc.engine.route import HeadsStep, LayerSteps, PortsStep, Read, Route
from acdc.engine.runs import Rows, State, project_many, scale_after
from acdc.engine.upload import Chosen, Shipment
from acdc.engine.weights import Weights


def suits(device: torch.device) -> bool:
    """Return whether computing a layer at a time is faster on a device than computing a head at a time."""
    return device.type != "cpu"


def patcher(weights: Weights, scratch: Scratch, route: Route, batched: bool) -> Callable[[Rows, State, int], Patch]:
    """Return a function that makes patches along a route, which compute a layer or a head at a time."""
    if batched:
        return partial(LayerPatch, weights, scratch, Batches(route, weights))
    return partial(Patch, weights, scratch, route)


@dataclass
class Mixed:
    """Locate the latest activations of some nodes: new ones in a stack, old ones in the state.

    Attributes:
        new: the nodes whose new activations are stacked; empty if all are old.
        fresh: the entries of that stack that are read.
        old: the nodes that are read from the state.
        order: the order of the nodes in new and old together; None if all are new, and ``fresh`` has their order.
    """

    new: tuple[int, ...]
    fresh: Chosen
    old: tuple[int, ...]
    order: Chosen | None

    @classmethod
    def of(cls, shipment: Shipment, wanted: Sequence[int], stacks: Sequence[tuple[int, ...]]) -> Mixed:
        """Locate the latest activations of some nodes, of which new ones are in one of these stacks."""
        new = next((stack for stack in stacks if not set(stack).isdisjoint(wanted)), ())
        old = tuple(sorted(set(wanted) - set(new)))
        if not old:
            return cls(new, shipment.choose([new.index(node) for node in wanted]), (), None)
        fresh = sorted(set(wanted) - set(old))
        both = [*fresh, *old]
        chosen = shipment.choose([new.index(node) for node in fresh])
        return cls(new, chosen, old, shipment.choose([both.index(node) for node in wanted]))


@dataclass
class PortsBatch:
    """Hold the indices for the projection of some ports: of all of them, and of the q and k among them."""

    chosen: Chosen
    placed: Chosen


@dataclass
class HeadsBatch:
    """Hold the indices for computing some heads.

    Attributes:
        heads: the heads that are computed.
        chosen: their indices in the layer.
        ports: the location of their q, k and v; of all heads' q, k and v, if a norm takes all heads together.
        shared: the indices of the heads' k and v among all; None if ``ports`` are the heads' own.
        all: the location of the latest z of all heads in the layer.
        sending: the indices of the heads whose changes are stored.
    """

    heads: tuple[int, ...]
    chosen: Chosen
    ports: list[Mixed]
    shared: Chosen | None
    all: Mixed
    sending: Chosen


class Batches:
    """Hold the indices and weights that patches along a route need on the device."""

    def __init__(self, route: Route, weights: Weights) -> None:
        self.route, self.graph = route, route.graph
        self.norms_together = weights.architecture.query_key_norm == "all heads"
        self.shipment = Shipment()
        self.ports = {step: self.of_ports(step) for at in route.layers for step in at.ports}
        self.heads = {step: self.of_heads(at, step) for at in route.layers for step in at.heads}
        self.shipment.reads = list(reads(route))
        self.shipment.send(weights.embed)

    @property
    def weights(self) -> dict[Read, Float[Tensor, "receiver term"]]:
        """Return the weights by which a read sums the changes of senders."""
        return self.shipment.weights

    def of_ports(self, step: PortsStep) -> PortsBatch:
        """Return the indices for the projection of some ports."""
        n_placed = self.graph.n_heads + self.graph.n_kv_heads  # q and k come first
        placed = [port for port in step.ports if port < n_placed]
        return PortsBatch(self.shipment.choose(step.ports), self.shipment.choose(placed))

    def of_heads(self, at: LayerSteps, step: HeadsStep) -> HeadsBatch:
        """Return the indices for computing some heads."""
        graph, choose = self.graph, self.shipment.choose
        every = tuple(range(graph.n_heads))
        heads = every if self.norms_together else step.heads
        wanted, shared = list(graph.ports_of_heads[:, list(heads)]), None
        if self.norms_together:
            shared = choose((wanted[1] - graph.n_heads).tolist())
            wanted = np.split(np.arange(graph.n_ports), graph.splits)
        new = [ports.ports for ports in at.ports]
        ports = [Mixed.of(self.shipment, some.tolist(), new) for some in wanted]
        of_all = Mixed.of(self.shipment, every, [heads])
        return HeadsBatch(heads, choose(heads), ports, shared, of_all, choose(step.sending))


def reads(route: Route) -> list[Read]:
    """Return all reads on a route."""
    steps = [step for at in route.layers for step in (*at.ports, at.mlp) if step is not None]
    return [read for read in (*(step.read for step in steps), route.final) if read is not None]


class LayerPatch(Patch):
    """Propagate changes as ``Patch`` does, a layer at a time.

    Attributes:
        stacks: new activations of ports and heads, by kind, layer and nodes: Float[node state row d].
    """

    def __init__(
        self, weights: Weights, scratch: Scratch, batches: Batches, rows: Rows, state: State, n_states: int
    ) -> None:
        super().__init__(weights, scratch, batches.route, rows, state, n_states)
        self.batches = batches
        self.stacks: dict[tuple[str, int, tuple[int, ...]], Float[Tensor, "node state row d"]] = {}

    def commit(self, i: int) -> None:
        """Write the activations of candidate ``i`` that changed into ``state``."""
        super().commit(i)
        for (kind, layer, nodes), value in self.stacks.items():
            self.state.put(kind, layer, nodes, value[:, i].clone())
        self.stacks = {}

    def sums(self, read: Read) -> Float[Tensor, "receiver state row d_model"]:
        """Sum the changes of receivers' inputs: Float[receiver state row d_model]."""
        terms = self.changes.read_by(read)
        return (self.batches.weights[read] @ terms.flatten(1)).unflatten(1, terms.shape[1:])

    def ports(self, layer: int, step: PortsStep, change: Float[Tensor, "port state row d_model"]) -> None:
        """Recompute q, k and v of some ports, from the changes of their inputs."""
        self.compute_ports(layer, step, change.add_(self.state.stack("port_in", layer, step.ports)[:, None]))

    def compute_ports(self, layer: int, step: PortsStep, x: Float[Tensor, "port state row d_model"]) -> None:
        """Compute q, k and v of some ports from their new inputs."""
        batch, pos = self.batches.ports[step], self.rows.pos_at(step.all_live)
        value = project_many(self.weights, layer, batch.chosen.where, batch.placed.where, x, pos)
        self.stacks["port_in", layer, step.ports] = x
        self.stacks["port", layer, step.ports] = self.at_all_rows(layer, step, value)

    def at_all_rows(
        self, layer: int, step: PortsStep, value: Float[Tensor, "port state row d_head"]
    ) -> Float[Tensor, "port state row d_head"]:
        """Return new q, k and v at every row if they are at all live rows; otherwise leave them at the scored rows."""
        if not step.all_live or len(self.rows.live) == self.rows.n:
            return value
        old = self.state.stack("port", layer, step.ports)[:, None].expand(-1, value.shape[1], -1, -1)
        return old.index_copy(2, self.rows.live, value)

    def set_input(self, layer: int, step: PortsStep, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute q, k or v of a step's one port from its new input."""
        self.compute_ports(layer, step, x[None])

    def set_port(self, layer: int, step: PortsStep, value: Float[Tensor, "row d_head"]) -> None:
        """Store the new q, k or v of a port."""
        self.stacks["port", layer, step.ports] = value[None, None]

    def mixed(self, kind: str, layer: int, nodes: Mixed) -> Float[Tensor, "node _state row d"]:
        """Return the latest activations of some nodes; with one state if they are the same in every candidate."""
        if not nodes.new:
            old = self.state.stack(kind, layer, nodes.old)[:, None]
            return old if nodes.order is None else nodes.order(old)
        fresh = nodes.fresh(self.stacks[kind, layer, nodes.new])
        if nodes.order is None:
            return fresh
        old = self.state.stack(kind, layer, nodes.old)[:, None].expand(-1, fresh.shape[1], -1, -1)
        return nodes.order(torch.cat([fresh, old]))

    def heads(self, layer: int, step: HeadsStep) -> None:
        """Recompute some heads, and store the changes of their outputs."""
        batch = self.batches.heads[step]
        q, k, v = (self.mixed("port", layer, ports) for ports in batch.ports)
        z = self.stacks["z", layer, step.heads] = self.attend(layer, batch.chosen.where, q, k, v, step.all_live)
        self.write(layer, step, z - self.state.stack("z", layer, step.heads)[:, None])

    def coupled_heads(self, layer: int, step: HeadsStep) -> None:
        """Recompute heads of a layer whose heads share a norm, and store the changes of all its heads' outputs."""
        batch, every = self.batches.heads[step], tuple(range(self.graph.n_heads))
        q, k, v = (self.mixed("port", layer, ports) for ports in batch.ports)
        if batch.shared is not None:
            q, k = self.placed_together(layer, q, k)
            k, v = batch.shared(k), batch.shared(v)
        z = self.attend(layer, batch.chosen.where, q, k, v, step.all_live)
        self.stacks["z", layer, batch.heads] = z.expand(-1, self.n_states, -1, -1)
        now = self.mixed("z", layer, batch.all)
        before = self.state.scaled(layer, self.state.stack("z", layer, every)[:, None])
        if self.weights.architecture.norm_after:
            self.new["scale", layer, 0] = scale_after(self.weights, layer, now)
            now = now * self.new["scale", layer, 0]
        self.write(layer, step, batch.sending(now - before))

    def write(self, layer: int, step: HeadsStep, change: Float[Tensor, "head state row d_head"]) -> None:
        """Store the changes of heads' outputs, given the changes of their z."""
        outputs = self.batches.heads[step].sending(self.weights.blocks[layer].w_written)
        rows = change.flatten(1, 2)
        self.changes.add(
            step.slot, len(step.sending), lambda written: torch.bmm(rows, outputs, out=written.flatten(1, 2))
        )
