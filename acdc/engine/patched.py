"""Propagate changes of some activations to the logits, by the edge-patched forward pass.

The input of a receiver is ``corrupted input + sum over present edges (current sender - corrupted sender)``
(Conmy et al. 2023, section 3; TLACDCExperiment.py:318-356). It is linear in the senders. So a change of some senders
changes a receiver's input by the sum of the changes that reach it over present edges. A ``Patch`` propagates such
changes through the layers, for several candidate circuits at once. It recomputes only the nodes of its ``Route``.

A node is computed at all live rows (``Rows.live``) or, where no key or value depends on its output, at the scored rows
alone (``Rows.scored``).

A ``Patch`` computes one head after another. On a CPU that is faster, since each product finds its weights and results
in the cache. ``acdc.engine.batched`` computes all heads of a layer together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.engine import layers
from acdc.engine.linear import sums
from acdc.engine.route import HeadsStep, LayerSteps, MlpStep, PortsStep, Read, Route, Slot
from acdc.engine.runs import Rows, State, Where, attend, place_together, project, scale_after
from acdc.engine.weights import Weights


@dataclass
class Changes:
    """Hold the changes of senders' outputs so far: at scored rows always, at all live rows where a receiver needs them.

    Attributes:
        rows: the rows of the prompts.
        scored: the changes at scored rows.
        live: the changes at all live rows.
        waiting: the changes at all live rows whose scored rows are not copied yet: where they begin, and how many lie
            side by side. They are copied together once something reads scored rows.
    """

    rows: Rows
    scored: Float[Tensor, "scored_sender state scored d_model"]
    live: Float[Tensor, "live_sender state live d_model"]
    waiting: list[tuple[Slot, int]] = field(default_factory=list)

    @classmethod
    def none(cls, route: Route, rows: Rows, n_states: int, scratch: Scratch) -> Changes:
        """Return an object without changes, with room for those of a route."""
        scored = scratch.tensor("scored", (route.n_scored, n_states, len(rows.scored), scratch.d_model))
        live = scratch.tensor("live", (route.n_live, n_states, len(rows.live), scratch.d_model))
        return cls(rows, scored, live)

    def add(self, slot: Slot, n: int, write: Callable[[Float[Tensor, "sender state row d_model"]], object]) -> None:
        """Store the changes of ``n`` senders' outputs.

        Args:
            slot: where the changes are kept.
            write: a function that writes the changes into the tensor that it is given.
        """
        if slot.live is None:
            write(self.scored[slot.scored : slot.scored + n])
            return
        write(self.live[slot.live : slot.live + n])
        if self.waiting and self.waiting[-1][0].after(self.waiting[-1][1]) == slot:
            slot, before = self.waiting.pop()
            n += before
        self.waiting.append((slot, n))

    def copy_scored(self) -> None:
        """Copy the scored rows of the changes in ``waiting``."""
        for slot, n in self.waiting:
            assert slot.live is not None  # the others are at scored rows
            live, scored = self.live[slot.live : slot.live + n], self.scored[slot.scored : slot.scored + n]
            torch.index_select(live, 2, self.rows.scored_in_live, out=scored)
        self.waiting = []

    def read_by(self, read: Read) -> Float[Tensor, "term state row d_model"]:
        """Return the changes that a read sums, at its rows: Float[term state row d_model]."""
        if not read.all_live:
            self.copy_scored()
        return (self.live if read.all_live else self.scored)[: read.which.shape[1]]


class Scratch:
    """Lend buffers for reuse, because fresh memory pages cost as much as the arithmetic on them."""

    def __init__(self, like: Tensor, d_model: int) -> None:
        self.like, self.d_model = like, d_model
        self.buffers: dict[str, Tensor] = {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return an uninitialised tensor of this shape, which is valid until its name is asked for again."""
        n = int(np.prod(shape))
        if name not in self.buffers or self.buffers[name].numel() < n:
            self.buffers.pop(name, None)
            self.buffers[name] = self.like.new_empty(n)
        return self.buffers[name][:n].view(shape)


class Patch:
    """Propagate changes relative to ``state`` to the logits, for ``n_states`` candidate circuits at once.

    Args:
        state: the activations that the changes are relative to, and that ``commit`` changes; its rows are those of the
            route's plan.
    """

    def __init__(
        self, weights: Weights, scratch: Scratch, route: Route, rows: Rows, state: State, n_states: int
    ) -> None:
        self.weights, self.route, self.rows, self.state, self.n_states = weights, route, rows, state, n_states
        self.graph = route.graph
        self.changes = Changes.none(route, rows, n_states, scratch)
        self.new: dict[tuple[str, int, int], Float[Tensor, "state row d"]] = {}

    def commit(self, i: int) -> None:
        """Write the activations of candidate ``i`` that changed into ``state``."""
        for key, value in self.new.items():
            # A copy, so that the memory of other candidates and receivers can be used again.
            self.state[key] = value[i].clone()
        self.new = {}

    def from_senders(self) -> Float[Tensor, "state scored d_model"]:
        """Propagate the changes with which the route begins, and return the final residual stream."""
        return self.upwards(self.route.layers)

    def from_port_input(self, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Propagate a new input of the route's first port, and return the final residual stream."""
        at = self.route.layers[0]
        self.set_input(at.layer, at.ports[0], x)
        return self.from_ports()

    def from_port(self, value: Float[Tensor, "row d_head"]) -> Tensor:
        """Propagate a new q, k or v (at all rows) of the route's first port, and return the final residual stream."""
        at = self.route.layers[0]
        self.set_port(at.layer, at.ports[0], value if at.ports[0].all_live else value[self.rows.scored])
        return self.from_ports()

    def from_ports(self) -> Tensor:
        """Propagate the stored new value of the route's first port, and return the final residual stream."""
        at, *later = self.route.layers
        self.attention(at)
        self.mlp(at)
        return self.upwards(later)

    def from_mlp(self, x: Float[Tensor, "state row d_model"]) -> Tensor:
        """Propagate a new input of the route's first MLP, and return the final residual stream."""
        at, *later = self.route.layers
        assert at.mlp is not None  # the route begins there
        self.compute_mlp(at.layer, at.mlp, x)
        return self.upwards(later)

    def from_final(self, x: Float[Tensor, "state scored d_model"]) -> Tensor:
        """Store and return a new final residual stream."""
        self.new["final", 0, 0] = x
        return x

    def upwards(self, steps: Sequence[LayerSteps]) -> Float[Tensor, "state scored d_model"]:
        """Propagate the changes so far through these layers, and return the final residual stream."""
        for at in steps:
            for ports in at.ports:
                assert ports.read is not None  # only the first port's input is given
                self.ports(at.layer, ports, self.sums(ports.read))
            self.attention(at)
            self.mlp(at)
        old, read = self.state["final", 0, 0], self.route.final
        if read is None:
            return old.expand(self.n_states, -1, -1)
        return self.from_final(self.sums(read)[0].add_(old))

    def sums(self, read: Read) -> Float[Tensor, "receiver state row d_model"]:
        """Sum the changes of receivers' inputs: Float[receiver state row d_model]."""
        return sums(read.which, self.changes.read_by(read))

    def ports(self, layer: int, step: PortsStep, change: Float[Tensor, "port state row d_model"]) -> None:
        """Recompute q, k and v of some ports, from the changes of their inputs."""
        for port, x in zip(step.ports, change, strict=True):
            self.compute_port(layer, port, step.all_live, x.add_(self.state["port_in", layer, port]))

    def compute_port(self, layer: int, port: int, all_live: bool, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute q, k or v of a port from its new input."""
        value = project(self.weights, layer, port, x, self.rows.pos_at(all_live))
        if all_live and len(self.rows.live) < self.rows.n:
            old = self.state["port", layer, port].expand(len(value), -1, -1)
            value = old.index_copy(1, self.rows.live, value)
        self.new["port_in", layer, port] = x
        self.new["port", layer, port] = value

    def set_input(self, layer: int, step: PortsStep, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute q, k or v of a step's one port from its new input."""
        self.compute_port(layer, step.ports[0], step.all_live, x)

    def set_port(self, layer: int, step: PortsStep, value: Float[Tensor, "row d_head"]) -> None:
        """Store the new q, k or v of a port."""
        self.new["port", layer, step.ports[0]] = value[None]

    def attention(self, at: LayerSteps) -> None:
        """Recompute the heads that read a new port."""
        for step in at.heads:
            if self.graph.coupled:
                self.coupled_heads(at.layer, step)
            else:
                self.heads(at.layer, step)

    def heads(self, layer: int, step: HeadsStep) -> None:
        """Recompute some heads, and store the changes of their outputs."""
        q, k, v = (self.gather(layer, ports) for ports in self.graph.ports_of_heads[:, list(step.heads)])
        z, outputs = self.attend(layer, list(step.heads), q, k, v, step.all_live), self.weights.blocks[layer].outputs
        for i, head in enumerate(step.heads):
            self.new["z", layer, head] = z[i]
            change = z[i] - self.state["z", layer, head]
            self.changes.add(step.slot.after(i), 1, partial(outputs[head].write, change))

    def coupled_heads(self, layer: int, step: HeadsStep) -> None:
        """Recompute heads of a layer whose heads share a norm, and store the changes of all its heads' outputs."""
        architecture, every = self.weights.architecture, range(self.graph.n_heads)
        heads = list(every) if architecture.query_key_norm == "all heads" else list(step.heads)
        q, k, v = self.placed(layer, heads)
        z = self.attend(layer, heads, q, k, v, step.all_live)
        self.new.update({("z", layer, head): z[i] for i, head in enumerate(heads)})
        if architecture.norm_after:
            together = torch.stack([self.latest("z", layer, head) for head in every])
            self.new["scale", layer, 0] = scale_after(self.weights, layer, together)
        outputs = self.weights.blocks[layer].outputs
        for i, head in enumerate(step.sending):
            now, before = self.latest("z", layer, head), self.state["z", layer, head]
            if architecture.norm_after:
                now = now * self.new["scale", layer, 0]
            change = now - self.state.scaled(layer, before)
            self.changes.add(step.slot.after(i), 1, partial(outputs[head].write, change))

    def placed(self, layer: int, heads: list[int]) -> list[Tensor]:
        """Return q, k and v of some heads, after a norm that takes all heads together: Float[head state row d_head]."""
        n_heads, ports = self.graph.n_heads, self.graph.ports_of_heads[:, heads]
        if self.weights.architecture.query_key_norm != "all heads":
            return [self.gather(layer, some) for some in ports]
        q, k, v = (self.gather(layer, every) for every in np.split(np.arange(self.graph.n_ports), self.graph.splits))
        q, k = self.placed_together(layer, q, k)
        shared = ports[1] - n_heads
        return [q[heads], k[shared], v[shared]]

    def placed_together(
        self,
        layer: int,
        q: Float[Tensor, "head _state query d_head"],
        k: Float[Tensor, "kv_head _state row d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Return q and k of all heads after the norms that take all heads together."""
        q_pos = self.rows.pos if q.shape[2] == self.rows.n else self.rows.pos_at(False)
        q = place_together(self.weights, layer, q, 0, q_pos)
        return q, place_together(self.weights, layer, k, self.graph.n_heads, self.rows.pos)

    def latest(self, kind: str, layer: int, i: int) -> Float[Tensor, "state row d"]:
        """Return an activation in every candidate: the new one, or that of ``state`` if there is none."""
        key = (kind, layer, i)
        value = self.new[key] if key in self.new else self.state[key][None]
        return value.expand(self.n_states, -1, -1)

    def gather(self, layer: int, ports: Int[np.ndarray, "port"]) -> Float[Tensor, "port state row d_head"]:
        """Stack q, k or v of some ports: new values, or those of ``state`` where there are none."""
        return torch.stack([self.latest("port", layer, port) for port in ports.tolist()])

    def attend(
        self,
        layer: int,
        heads: Where,
        q: Float[Tensor, "head ... query d_head"],
        k: Float[Tensor, "head ... row d_head"],
        v: Float[Tensor, "head ... row d_head"],
        all_live: bool,
    ) -> Float[Tensor, "head state computed d_head"]:
        """Compute attention at all live rows, from queries at every row; or at scored rows, from queries there."""
        rows = self.rows
        k, v = (x.unflatten(2, (rows.n_prompts, rows.n_pos)) for x in (k, v))
        if all_live:
            q = q.unflatten(2, (rows.n_prompts, rows.n_pos))
            z = attend(self.weights, layer, heads, q, k, v, rows).flatten(2, 3)
            return z if len(rows.live) == rows.n else z[:, :, rows.live]
        if not rows.one_per_prompt:
            k, v = k[:, :, rows.scored_prompt], v[:, :, rows.scored_prompt]
        return attend(self.weights, layer, heads, q[:, :, :, None], k, v, rows, at_scored=True).squeeze(3)

    def mlp(self, at: LayerSteps) -> None:
        """Recompute a layer's MLP."""
        if at.mlp is None:
            return
        x = self.state["mlp_in", at.layer, 0]
        if at.mlp.read is None:
            self.compute_mlp(at.layer, at.mlp, x[None])
        else:
            self.compute_mlp(at.layer, at.mlp, self.sums(at.mlp.read)[0].add_(x))

    def compute_mlp(self, layer: int, step: MlpStep, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute an MLP from its new input, and store the change of its output."""
        out, old = layers.mlp(self.weights.architecture, self.weights.blocks[layer], x), self.state["mlp_out", layer, 0]
        self.new["mlp_in", layer, 0], self.new["mlp_out", layer, 0] = x, out
        self.changes.add(step.slot, 1, lambda change: torch.sub(out, old, out=change[0]))
