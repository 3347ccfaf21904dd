"""The edge-patched forward pass: what a change of some activations does to everything after it.

The input of a receiver is ``corrupted input + sum over present edges (current sender - corrupted sender)``
(Conmy et al. 2023, section 3; TLACDCExperiment.py:318-356). It is linear in the senders, so a change of
some senders changes a receiver's input by the sum of the changes that reach it over present edges. A
``Patch`` carries such changes upwards through the layers, for several candidate circuits at once, and
recomputes only the nodes they reach, and of a node whose output no key or value reads only the scored rows.

Rows are *wide* (``Rows.live``) or *narrow* (``Rows.scored``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine import layers
from acdc.engine.runs import Rows, State, project
from acdc.graph import Circuit
from acdc.models.architecture import Weights

ALL = slice(None)


class Plan:
    """What of a circuit the forward pass must know; made again whenever edges of later layers are removed.

    Attributes:
        wide: Bool[receiver]; this receiver's input matters at wide rows. Elsewhere only narrow rows matter.
        sends: Bool[sender]; some present edge leaves this sender.
        wide_senders: Bool[sender]; some wide receiver reads this sender.
    """

    def __init__(self, circuit: Circuit) -> None:
        graph = circuit.graph
        self.graph, self.present = graph, circuit.present
        self.sends = circuit.present.any(1)
        self.wide = np.zeros(len(graph.receivers), dtype=bool)
        for r in reversed(range(len(graph.receivers) - 1)):
            node = graph.receivers[r]
            if node.port in ("k", "v"):
                self.wide[r] = True
            else:
                self.wide[r] = (circuit.present[graph.sender_index[node.owner]] & self.wide).any()
        self.wide_senders = (circuit.present & self.wide).any(1)

    def capacity(self, senders: slice) -> tuple[int, int]:
        """How many of these senders can change where anything reads them: at narrow rows, at wide rows."""
        return int(self.sends[senders].sum()), int(self.wide_senders[senders].sum())


@dataclass
class Changes:
    """Changes of senders so far: at wide rows where something wide reads them, at narrow rows always."""

    plan: Plan
    rows: Rows
    narrow: Float[Tensor, "sender state scored d_model"]
    wide: Float[Tensor, "sender state row d_model"]
    narrow_senders: list[int]
    wide_senders: list[int]

    @classmethod
    def none(cls, plan: Plan, rows: Rows, capacity: tuple[int, int], n_states: int, scratch: Scratch) -> Changes:
        """No change yet; room for ``capacity`` = (narrow, wide) senders."""
        n_narrow, n_wide = capacity
        narrow = scratch.tensor("narrow", (n_narrow, n_states, len(rows.scored), scratch.d_model))
        wide = scratch.tensor("wide", (n_wide, n_states, len(rows.live), scratch.d_model))
        return cls(plan, rows, narrow, wide, [], [])

    def add(self, senders: list[int], change: Float[Tensor, "sender state row d_model"], wide: bool) -> None:
        """``change`` has wide rows where ``wide``, else narrow ones."""
        if wide:
            n = len(self.wide_senders)
            self.wide[n : n + len(senders)] = change
            self.wide_senders += senders
            change = change[:, :, self.rows.scored_in_live]
        n = len(self.narrow_senders)
        self.narrow[n : n + len(senders)] = change
        self.narrow_senders += senders

    def reach(self, receivers: slice) -> np.ndarray:
        """Bool[receiver]: an edge from a changed sender enters it."""
        return self.plan.present[self.narrow_senders, receivers].any(0)

    def into(self, receivers: np.ndarray, wide: bool) -> Float[Tensor, "receiver state row d_model"]:
        """The change of these receivers' inputs."""
        senders, values = (self.wide_senders, self.wide) if wide else (self.narrow_senders, self.narrow)
        mask = torch.from_numpy(self.plan.present[np.ix_(senders, receivers)].T.astype(np.float32))
        mask = mask.to(values.device, values.dtype)
        return (mask @ values[: len(senders)].flatten(1)).unflatten(1, values.shape[1:])


class Scratch:
    """Buffers that are used again, because fresh pages cost as much as the arithmetic on them."""

    def __init__(self, like: Tensor, d_model: int) -> None:
        self.like, self.d_model = like, d_model
        self.buffers: dict[str, Tensor] = {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Uninitialised, of this shape; valid until the name is asked for again."""
        n = int(np.prod(shape))
        if name not in self.buffers or self.buffers[name].numel() < n:
            self.buffers[name] = self.like.new_empty(n)
        return self.buffers[name][:n].view(shape)


class Patch:
    """Changes on their way to the logits, relative to ``state``, for ``n_states`` candidate circuits.

    Args:
        everything: recompute every node that sends, reached or not. Needed when ``state`` is an ablated
            run, whose senders are not what its nodes compute (zero ablation).
    """

    def __init__(
        self, weights: Weights, rows: Rows, plan: Plan, state: State, changes: Changes, everything: bool = False
    ) -> None:
        self.weights, self.rows, self.plan, self.state = weights, rows, plan, state
        self.graph = plan.graph
        self.changes, self.everything = changes, everything
        self.n_states = changes.narrow.shape[1]
        self.written: list[tuple[Tensor, tuple, Tensor, int]] = []

    def commit(self, i: int) -> None:
        """Write candidate ``i`` into ``state``."""
        for target, index, value, axis in self.written:
            target[index] = value.select(axis, i if value.shape[axis] > 1 else 0)
        self.written = []

    def from_layer(self, first: int) -> Float[Tensor, "state scored d_model"]:
        """Carry the changes from the ports of layer ``first`` up; returns the final residual stream."""
        for layer in range(first, self.graph.n_layers):
            self.attention(layer, self.ports(layer))
            self.mlp(layer)
        return self.final()

    def from_port_input(self, layer: int, port: int, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Start from a port's new input; rows as ``plan.wide`` of the port says."""
        new = self.compute_ports(layer, np.array([port]), x[None], self.is_wide(layer, port))
        return self.from_ports(layer, new)

    def from_port(self, layer: int, port: int, value: Float[Tensor, "state row d_head"]) -> Tensor:
        """Start from a port's new q, k or v; rows as ``plan.wide`` of the port says."""
        wide = self.is_wide(layer, port)
        self.write(self.state.port[layer], np.array([port]), wide, value[None])
        return self.from_ports(layer, {port: value})

    def from_ports(self, layer: int, new: dict[int, Float[Tensor, "state row d_head"]]) -> Tensor:
        """Start from the new values of some ports."""
        self.attention(layer, new)
        self.mlp(layer)
        return self.from_layer(layer + 1)

    def is_wide(self, layer: int, port: int) -> bool:
        return bool(self.plan.wide[self.graph.first_receiver(layer) + port])

    def from_mlp(self, layer: int, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Start from an MLP's new input."""
        self.compute_mlp(layer, x)
        return self.from_layer(layer + 1)

    def from_final(self, x: Float[Tensor, "state scored d_model"]) -> Tensor:
        """Start, and end, with a new final residual stream."""
        self.written.append((self.state.final, (ALL,), x, 0))
        return x

    def read(self, tensor: Tensor, nodes: np.ndarray, wide: bool) -> Float[Tensor, "node row d"]:
        nodes = torch.from_numpy(nodes).to(tensor.device)
        return tensor[nodes[:, None], self.rows.at(wide)]

    def write(self, tensor: Tensor, nodes: np.ndarray, wide: bool, value: Float[Tensor, "node state row d"]) -> None:
        nodes = torch.from_numpy(nodes).to(tensor.device)
        self.written.append((tensor, (nodes[:, None], self.rows.at(wide)), value, 1))

    def ports(self, layer: int) -> dict[int, Float[Tensor, "state row d_head"]]:
        """New q, k and v of the ports that changes reach."""
        start = self.graph.first_receiver(layer)
        span = slice(start, start + self.graph.n_ports)
        reached = self.changes.reach(span)
        new: dict[int, Tensor] = {}
        for wide in (True, False):
            ports = np.flatnonzero(reached & (self.plan.wide[span] == wide))
            if not len(ports):
                continue
            x = self.read(self.state.port_in[layer], ports, wide)[:, None] + self.changes.into(start + ports, wide)
            new |= self.compute_ports(layer, ports, x, wide)
        return new

    def compute_ports(
        self, layer: int, ports: np.ndarray, x: Float[Tensor, "port state row d_model"], wide: bool
    ) -> dict[int, Float[Tensor, "state row d_head"]]:
        """q, k or v of some ports from their new inputs."""
        index = torch.from_numpy(ports).to(x.device)
        value = project(self.weights, layer, index, x, self.rows.pos[self.rows.at(wide)])
        self.write(self.state.port_in[layer], ports, wide, x)
        self.write(self.state.port[layer], ports, wide, value)
        return dict(zip(ports.tolist(), value, strict=True))

    def attention(self, layer: int, new: dict[int, Float[Tensor, "state row d_head"]]) -> None:
        """Recompute the heads that read a new port."""
        n_heads, n_kv = self.graph.n_heads, self.graph.n_kv_heads
        group = np.arange(n_heads) // (n_heads // n_kv)
        ports = np.stack([np.arange(n_heads), n_heads + group, n_heads + n_kv + group])
        sender, receiver = self.graph.first_sender(layer), self.graph.first_receiver(layer)
        reached = np.isin(ports, list(new)).any(0) | self.everything
        reached &= self.plan.sends[sender : sender + n_heads]
        head_wide = self.plan.wide[receiver : receiver + n_heads]
        for wide in (True, False):
            heads = np.flatnonzero(reached & (head_wide == wide))
            if len(heads):
                q, k, v = (self.gather(layer, ports[i, heads], new, wide) for i in range(3))
                self.compute_heads(layer, heads, q, k, v, wide)

    def gather(self, layer: int, ports: np.ndarray, new: dict[int, Tensor], wide: bool) -> Tensor:
        """q, k or v of some ports, new or as in ``state``: Float[port state row d_head].

        Keys and values at every row; queries likewise or, of heads that are not ``wide``, at narrow rows.
        """
        is_query = ports[0] < self.graph.n_heads
        rows = ALL if wide or not is_query else self.rows.scored
        old = self.state.port[layer]
        out = [old[p][rows].expand(self.n_states, -1, -1) for p in ports]
        for i, p in enumerate(ports):
            if p in new and rows is ALL:
                out[i] = out[i].index_copy(1, self.rows.live, new[p].expand(self.n_states, -1, -1))
            elif p in new:
                out[i] = new[p].expand(self.n_states, -1, -1)
        return torch.stack(out)

    def compute_heads(self, layer: int, heads: np.ndarray, q: Tensor, k: Tensor, v: Tensor, wide: bool) -> None:
        z = self.attend(q, k, v, wide)
        change = z - self.read(self.state.z[layer], heads, wide)[:, None]
        w_o = self.weights.blocks[layer].w_o[torch.from_numpy(heads).to(z.device)]
        change = (change.flatten(1, 2) @ w_o).unflatten(1, change.shape[1:3])
        self.write(self.state.z[layer], heads, wide, z)
        self.changes.add((self.graph.first_sender(layer) + heads).tolist(), change, wide)

    def attend(
        self,
        q: Float[Tensor, "head state query d_head"],
        k: Float[Tensor, "head state row d_head"],
        v: Float[Tensor, "head state row d_head"],
        wide: bool,
    ) -> Float[Tensor, "head state query d_head"]:
        """Attention at wide rows (of queries at every row), or at narrow ones (of queries there)."""
        rows = self.rows
        k, v = (x.unflatten(2, (rows.n_prompts, rows.n_pos)) for x in (k, v))
        if wide:
            q = q.unflatten(2, (rows.n_prompts, rows.n_pos))
            return layers.attend(q, k, v, rows.visible).flatten(2, 3)[:, :, rows.live]
        if not rows.one_per_prompt:
            k, v = k[:, :, rows.scored_prompt], v[:, :, rows.scored_prompt]
        return layers.attend(q[:, :, :, None], k, v, rows.scored_visible[:, None]).squeeze(3)

    def mlp(self, layer: int) -> None:
        if not self.graph.has_mlp:
            return
        receiver, sender = self.mlp_nodes(layer)
        wide = bool(self.plan.wide[receiver])
        reached = self.changes.reach(slice(receiver, receiver + 1))[0]
        if not self.plan.sends[sender] or not (reached or self.everything):
            return
        x = self.state.mlp_in[layer][self.rows.at(wide)][None]
        self.compute_mlp(layer, x + self.changes.into(np.array([receiver]), wide)[0] if reached else x)

    def mlp_nodes(self, layer: int) -> tuple[int, int]:
        """Receiver and sender index of a layer's MLP."""
        return self.graph.first_receiver(layer + 1) - 1, self.graph.first_sender(layer + 1) - 1

    def compute_mlp(self, layer: int, x: Float[Tensor, "state row d_model"]) -> None:
        receiver, sender = self.mlp_nodes(layer)
        wide = bool(self.plan.wide[receiver])
        rows = self.rows.at(wide)
        out = layers.mlp(self.weights.architecture, self.weights.blocks[layer], x)
        self.written += [(self.state.mlp_in[layer], (rows,), x, 0), (self.state.mlp_out[layer], (rows,), out, 0)]
        self.changes.add([sender], (out - self.state.mlp_out[layer][rows])[None], wide)

    def final(self) -> Float[Tensor, "state scored d_model"]:
        """The residual stream before the final norm, at scored rows."""
        logits = len(self.graph.receivers) - 1
        if not self.changes.reach(slice(logits, logits + 1))[0]:
            return self.state.final[None].expand(self.n_states, -1, -1)
        return self.from_final(self.state.final + self.changes.into(np.array([logits]), False)[0])
