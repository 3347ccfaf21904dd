"""Carry a change of some activations up to the logits, by the edge-patched forward pass.

The input of a receiver is ``corrupted input + sum over present edges (current sender - corrupted sender)``
(Conmy et al. 2023, section 3; TLACDCExperiment.py:318-356). It is linear in the senders. So a change of some senders
changes a receiver's input by the sum of the changes that reach it over present edges. A ``Patch`` carries such changes
upwards through the layers, for several candidate circuits at once. It recomputes only the nodes that they reach.

A node is computed at all live rows (``Rows.live``) or, where no key or value depends on its output, at the scored rows
alone (``Rows.scored``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc.engine import layers
from acdc.engine.linear import sums
from acdc.engine.runs import Rows, State, attend, place_together, project, scale_after
from acdc.engine.weights import Weights
from acdc.graph import Circuit, Graph, any_along


class Plan:
    """Say where a circuit's nodes must be computed. It is made again when edges into later layers were removed.

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
        if graph.coupled:  # what one head writes somewhere depends on all heads of its layer there
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
        """Count which of these senders can change where something reads them: at scored rows, and at all live rows."""
        return int(self.sends[senders].sum()), int(self.live_senders[senders].sum())

    def drop_rows(self, state: State, rows: Rows) -> None:
        """Keep only the scored rows of activations that matter nowhere else."""
        n_scored, n_heads = len(rows.scored), self.graph.n_heads
        for (kind, layer, i), value in state.items():
            if kind == "final" or len(value) == n_scored:
                continue
            is_key = kind == "port" and i >= n_heads
            all_live = self.mlp_at_all_live(layer) if kind.startswith("mlp") else self.port_at_all_live(layer, i)
            if not (all_live or is_key):
                state[kind, layer, i] = value[rows.scored if kind == "port" else rows.scored_in_live]


def input_key(graph: Graph, receiver: int) -> tuple[str, int, int]:
    """Return the key of a receiver's input in ``State``."""
    node = graph.receivers[receiver]
    if node.component == "logits":
        return "final", 0, 0
    port = receiver - graph.first_receiver(node.layer)
    return ("port_in", node.layer, port) if node.port else ("mlp_in", node.layer, 0)


@dataclass
class Changes:
    """Hold the changes of senders so far: at scored rows always, at all live rows where some receiver needs them."""

    plan: Plan
    rows: Rows
    scored: Float[Tensor, "scored_sender state scored d_model"]
    live: Float[Tensor, "live_sender state live d_model"]
    scored_senders: list[int]
    live_senders: list[int]

    @classmethod
    def none(cls, plan: Plan, rows: Rows, capacity: tuple[int, int], n_states: int, scratch: Scratch) -> Changes:
        """Return no change yet, with room for ``capacity``: how many senders at scored and at all live rows."""
        n_scored, n_live = capacity
        scored = scratch.tensor("scored", (n_scored, n_states, len(rows.scored), scratch.d_model))
        live = scratch.tensor("live", (n_live, n_states, len(rows.live), scratch.d_model))
        return cls(plan, rows, scored, live, [], [])

    def add(self, sender: int, all_live: bool, write: Callable[[Float[Tensor, "state row d_model"]], object]) -> None:
        """Note how a sender changes.

        Args:
            all_live: whether at all live rows, or else at the scored ones.
            write: writes the change into the tensor that it is given.
        """
        scored = self.scored[len(self.scored_senders)]
        self.scored_senders.append(sender)
        if not all_live:
            write(scored)
            return
        change = self.live[len(self.live_senders)]
        self.live_senders.append(sender)
        write(change)
        torch.index_select(change, 1, self.rows.scored_in_live, out=scored)

    def reach(self, receivers: slice) -> Bool[np.ndarray, "receiver"]:
        """Return which of these receivers a present edge from a changed sender enters."""
        return any_along(self.plan.present[self.scored_senders, receivers], 0)

    def into(
        self, receivers: Int[np.ndarray, "receiver"], all_live: bool
    ) -> Float[Tensor, "receiver state row d_model"]:
        """Sum the changes of these receivers' inputs, at all live rows or at scored ones."""
        senders, values = (self.live_senders, self.live) if all_live else (self.scored_senders, self.scored)
        return sums(self.plan.present[np.ix_(np.array(senders, dtype=int), receivers)].T, values[: len(senders)])


class Scratch:
    """Lend buffers that are used again, because fresh pages cost as much as the arithmetic on them."""

    def __init__(self, like: Tensor, d_model: int) -> None:
        self.like, self.d_model = like, d_model
        self.buffers: dict[str, Tensor] = {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return an uninitialised tensor of this shape. It is valid until its name is asked for again."""
        n = int(np.prod(shape))
        if name not in self.buffers or self.buffers[name].numel() < n:
            self.buffers.pop(name, None)
            self.buffers[name] = self.like.new_empty(n)
        return self.buffers[name][:n].view(shape)


class Patch:
    """Carry changes, relative to ``state``, up to the logits, for ``n_states`` candidate circuits.

    Args:
        everything: whether to recompute every node that sends, reached or not. It is needed when ``state`` is an
            ablated run, whose senders are not what its nodes compute (zero and mean ablation).
    """

    def __init__(
        self, weights: Weights, rows: Rows, plan: Plan, state: State, changes: Changes, everything: bool = False
    ) -> None:
        self.weights, self.rows, self.plan, self.state = weights, rows, plan, state
        self.graph = plan.graph
        self.changes, self.everything = changes, everything
        self.n_states = changes.scored.shape[1]
        self.new: dict[tuple[str, int, int], Float[Tensor, "state row d"]] = {}

    def commit(self, i: int) -> None:
        """Write the activations that candidate ``i`` changes into ``state``."""
        for key, value in self.new.items():
            # A copy, so that the memory of other candidates and receivers can be used again.
            self.state[key] = value[i].clone()
        self.new = {}

    def from_layer(self, first: int) -> Float[Tensor, "state scored d_model"]:
        """Carry the changes from the ports of layer ``first`` up, and return the final residual stream."""
        for layer in range(first, self.graph.n_layers):
            self.ports(layer)
            self.attention(layer)
            self.mlp(layer)
        return self.final()

    def from_input(self, receiver: int, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Start from a receiver's new input, at the rows that ``Plan.all_live`` says of it."""
        kind, layer, port = input_key(self.graph, receiver)
        if kind == "final":
            return self.from_final(x)
        return self.from_mlp(layer, x) if kind == "mlp_in" else self.from_port_input(layer, port, x)

    def from_port_input(self, layer: int, port: int, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Start from a port's new input, at the rows that ``Plan.all_live`` says of the port."""
        self.compute_port(layer, port, x)
        return self.from_ports(layer)

    def from_port(self, layer: int, port: int, value: Float[Tensor, "row d_head"]) -> Tensor:
        """Start from a port's new q, k or v, at all rows."""
        all_live = self.plan.port_at_all_live(layer, port)
        self.new["port", layer, port] = (value if all_live else value[self.rows.scored])[None]
        return self.from_ports(layer)

    def from_ports(self, layer: int) -> Tensor:
        """Start from the new values of some ports of a layer."""
        self.attention(layer)
        self.mlp(layer)
        return self.from_layer(layer + 1)

    def from_mlp(self, layer: int, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Start from an MLP's new input."""
        self.compute_mlp(layer, x)
        return self.from_layer(layer + 1)

    def from_final(self, x: Float[Tensor, "state scored d_model"]) -> Tensor:
        """Return a new final residual stream, after which nothing is left to compute."""
        self.new["final", 0, 0] = x
        return x

    def ports(self, layer: int) -> None:
        """Recompute q, k and v of the ports that changes reach."""
        start = self.graph.first_receiver(layer)
        span = slice(start, start + self.graph.n_ports)
        reached = self.changes.reach(span)
        for all_live in (True, False):
            ports = np.flatnonzero(reached & (self.plan.all_live[span] == all_live))
            if len(ports):
                change = self.changes.into(start + ports, all_live)
                for i, port in enumerate(ports.tolist()):
                    self.compute_port(layer, port, change[i].add_(self.state["port_in", layer, port]))

    def compute_port(self, layer: int, port: int, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute q, k or v of a port from its new input."""
        all_live = self.plan.port_at_all_live(layer, port)
        value = project(self.weights, layer, port, x, self.rows.pos[self.rows.at(all_live)])
        if all_live and len(self.rows.live) < self.rows.n:
            old = self.state["port", layer, port].expand(len(value), -1, -1)
            value = old.index_copy(1, self.rows.live, value)
        self.new["port_in", layer, port] = x
        self.new["port", layer, port] = value

    def attention(self, layer: int) -> None:
        """Recompute the heads that read a new port."""
        sender, receiver = self.graph.first_sender(layer), self.graph.first_receiver(layer)
        n_heads = self.graph.n_heads
        is_new = np.array([("port", layer, p) in self.new for p in range(self.graph.n_ports)])
        reached = any_along(is_new[self.graph.ports_of_heads], 0) | self.everything
        sends = self.plan.sends[sender : sender + n_heads]
        if self.graph.coupled:
            if reached.any() and sends.any():
                self.coupled_heads(layer, reached, np.flatnonzero(sends).tolist())
            return
        reached &= sends
        heads_all_live = self.plan.all_live[receiver : receiver + n_heads]
        for all_live in (True, False):
            heads = np.flatnonzero(reached & (heads_all_live == all_live))
            if len(heads):
                q, k, v = (self.gather(layer, ports) for ports in self.graph.ports_of_heads[:, heads])
                z = self.attend(layer, heads.tolist(), q, k, v, all_live)
                self.compute_heads(layer, heads.tolist(), z, all_live)

    def coupled_heads(self, layer: int, reached: Bool[np.ndarray, "head"], sending: list[int]) -> None:
        """Recompute the heads of a layer that share a norm: those that read a new port, and what all others write.

        Args:
            reached: which heads read a new port.
            sending: the heads that something reads.
        """
        graph, architecture = self.graph, self.weights.architecture
        all_live = self.plan.port_at_all_live(layer, 0)  # the same for all of them
        if architecture.query_key_norm == "all heads":
            reached = np.ones_like(reached)
        heads = np.flatnonzero(reached)
        q, k, v = self.placed(layer, heads)
        z = self.attend(layer, heads.tolist(), q, k, v, all_live)
        self.new.update({("z", layer, head): z[i] for i, head in enumerate(heads.tolist())})
        if architecture.norm_after:
            every = [self.latest("z", layer, head) for head in range(graph.n_heads)]
            self.new["scale", layer, 0] = scale_after(self.weights, layer, torch.stack(every))
        outputs, sender = self.weights.blocks[layer].outputs, graph.first_sender(layer)
        for head in sending:
            now, before = self.latest("z", layer, head), self.state["z", layer, head]
            if architecture.norm_after:
                now = now * self.new["scale", layer, 0]
            change = now - self.state.scaled(layer, before)
            self.changes.add(sender + head, all_live, partial(outputs[head].write, change))

    def placed(self, layer: int, heads: Int[np.ndarray, "head"]) -> list[Tensor]:
        """Return q, k and v of some heads, Float[head state row d_head], after a norm that takes all heads together."""
        n_heads, ports = self.graph.n_heads, self.graph.ports_of_heads[:, heads]
        if self.weights.architecture.query_key_norm != "all heads":
            return [self.gather(layer, some) for some in ports]
        q, k, v = (self.gather(layer, every) for every in np.split(np.arange(self.graph.n_ports), self.splits))
        q_pos = self.rows.pos if q.shape[2] == self.rows.n else self.rows.pos[self.rows.scored]
        q = place_together(self.weights, layer, q, 0, q_pos)
        k = place_together(self.weights, layer, k, n_heads, self.rows.pos)
        shared = ports[1] - n_heads
        return [q[heads], k[shared], v[shared]]

    @property
    def splits(self) -> list[int]:
        """Return where among the ports of a layer k and v begin."""
        return [self.graph.n_heads, self.graph.n_heads + self.graph.n_kv_heads]

    def latest(self, kind: str, layer: int, i: int) -> Float[Tensor, "state row d"]:
        """Return an activation in every candidate: the new one, or else that of ``state``."""
        key = (kind, layer, i)
        value = self.new[key] if key in self.new else self.state[key][None]
        return value.expand(self.n_states, -1, -1)

    def gather(self, layer: int, ports: Int[np.ndarray, "port"]) -> Float[Tensor, "port state row d_head"]:
        """Stack q, k or v of some ports: new values, or else those of ``state``."""
        return torch.stack([self.latest("port", layer, port) for port in ports.tolist()])

    def compute_heads(
        self, layer: int, heads: list[int], z: Float[Tensor, "head state row d_head"], all_live: bool
    ) -> None:
        """Note what heads write, from their attention outputs ``z``."""
        outputs, sender = self.weights.blocks[layer].outputs, self.graph.first_sender(layer)
        for i, head in enumerate(heads):
            self.new["z", layer, head] = z[i]
            change = z[i] - self.state["z", layer, head]
            self.changes.add(sender + head, all_live, partial(outputs[head].write, change))

    def attend(
        self,
        layer: int,
        heads: list[int],
        q: Float[Tensor, "head state query d_head"],
        k: Float[Tensor, "head state row d_head"],
        v: Float[Tensor, "head state row d_head"],
        all_live: bool,
    ) -> Float[Tensor, "head state computed d_head"]:
        """Attend at all live rows, from queries at every row; or at scored rows, from queries there."""
        rows = self.rows
        k, v = (x.unflatten(2, (rows.n_prompts, rows.n_pos)) for x in (k, v))
        if all_live:
            q = q.unflatten(2, (rows.n_prompts, rows.n_pos))
            z = attend(self.weights, layer, heads, q, k, v, rows).flatten(2, 3)
            return z if len(rows.live) == rows.n else z[:, :, rows.live]
        if not rows.one_per_prompt:
            k, v = k[:, :, rows.scored_prompt], v[:, :, rows.scored_prompt]
        return attend(self.weights, layer, heads, q[:, :, :, None], k, v, rows, at_scored=True).squeeze(3)

    def mlp(self, layer: int) -> None:
        """Recompute a layer's MLP where it sends and a change reaches it."""
        if not self.graph.has_mlp:
            return
        receiver, sender = self.graph.first_receiver(layer + 1) - 1, self.graph.first_sender(layer + 1) - 1
        reached = self.changes.reach(slice(receiver, receiver + 1))[0]
        if not self.plan.sends[sender] or not (reached or self.everything):
            return
        x = self.state["mlp_in", layer, 0]
        if reached:
            change = self.changes.into(np.array([receiver]), self.plan.mlp_at_all_live(layer))
            self.compute_mlp(layer, change[0].add_(x))
        else:
            self.compute_mlp(layer, x[None])

    def compute_mlp(self, layer: int, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute an MLP from its new input, and note what it writes."""
        out = layers.mlp(self.weights.architecture, self.weights.blocks[layer], x)
        self.new["mlp_in", layer, 0], self.new["mlp_out", layer, 0] = x, out
        sender = self.graph.first_sender(layer + 1) - 1
        old = self.state["mlp_out", layer, 0]
        self.changes.add(sender, self.plan.mlp_at_all_live(layer), lambda change: torch.sub(out, old, out=change))

    def final(self) -> Float[Tensor, "state scored d_model"]:
        """Return the residual stream before the final norm, at scored rows."""
        logits, old = len(self.graph.receivers) - 1, self.state["final", 0, 0]
        if not self.changes.reach(slice(logits, logits + 1))[0]:
            return old.expand(self.n_states, -1, -1)
        return self.from_final(self.changes.into(np.array([logits]), False)[0].add_(old))
