"""Remove edges one after another: measure many candidate circuits at once, then commit an accepted one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.batched import patcher
from acdc.engine.chunk import Chunk
from acdc.engine.memory import per_candidate
from acdc.engine.model import Engine
from acdc.engine.patched import Patch
from acdc.engine.route import Plan, Route, Tracer
from acdc.engine.runs import Rows, State
from acdc.engine.upload import upload
from acdc.graph import Circuit, Node, any_along
from acdc.metrics import Metric

CPU_BYTES = 2**29
"""The most bytes for candidates on a CPU: with more, results just written leave its cache."""

NewPatch = Callable[[Rows, State, int], Patch]
"""A function that makes a patch without changes, for a number of candidates."""
Guessed = tuple[list[int], list[bool]]
"""The senders whose edges are tried, and guesses whether each edge stays; see ``Removals.try_removing``."""


class Removals:
    """Remove edges of a circuit into the receivers of one layer, and measure the circuit.

    All edges into earlier layers must be present. An MLP must be decided before the heads of its layer, which it may
    read. ``commit`` changes ``circuit``.

    Attributes:
        current: the metric of the current circuit.
        node, receiver, port: the receiver whose edges are tried, its index, and its index among the layer's receivers.
        all_live: whether that receiver matters at all live rows.
        new_patch: a function that makes patches for changes of the receiver's input.
        inputs: the receiver's input for each chunk, in float64.
        candidates: the circuits just tried.
        tried: the senders whose edges those candidates lack, with the guesses; None for a port's direct edge.
        n_again: the number of candidates that were measured again in full precision, see ``acdc.engine.mixed``.
        starving: which of the candidates were computed by a forward pass of their own, see ``starves``.
        last: the receiver's input in the last candidate for each chunk, in float64; empty in a batched engine.
    """

    plan: Plan
    n_again = 0
    new_patch: NewPatch
    most_states: int
    node: Node
    receiver: int
    port: int
    all_live: bool
    inputs: list[Float[Tensor, "row d_model"]]
    candidates: list[Circuit]
    starving: list[bool]
    tried: Guessed | None
    patch: Patch

    def __init__(self, engine: Engine, circuit: Circuit, layer: int, metric: list[Metric]) -> None:
        self.engine, self.circuit, self.layer, self.metric = engine, circuit, layer, metric
        self.states = [self.settled(chunk) for chunk in engine.chunks]
        self.is_outdated = True
        self.whole: dict[tuple, Tensor] = {}
        self.last: dict[int, Tensor] = {}
        (self.current,) = engine.measure(metric, [state["final", 0, 0][None] for state in self.states])

    def settled(self, chunk: Chunk) -> State:
        """Return the activations of the circuit on a chunk."""
        if self.layer == self.engine.graph.n_layers:
            return chunk.clean.copy()
        return chunk.settle(self.circuit, self.layer)

    def start(self, receiver: Node) -> None:
        """Prepare to try the edges into another receiver."""
        # A plan depends on edges from senders of this layer and later ones. In this layer only MLPs receive such.
        if self.is_outdated:
            self.plan = Plan(self.circuit)
            self.drop_rows()
            self.most_states = self.states_that_fit()
        self.is_outdated = receiver.component == "mlp"
        self.node = receiver
        self.receiver = self.engine.graph.receiver_index[receiver]
        self.port = self.receiver - self.engine.graph.first_receiver(self.layer)
        self.all_live = bool(self.plan.all_live[self.receiver])
        self.inputs = [self.whole_input(chunk) for chunk in self.engine.chunks]
        self.new_patch = self.patcher(self.traced())

    def patcher(self, route: Route) -> NewPatch:
        """Return a function that makes patches along a route, which can be committed."""
        return patcher(self.engine.weights, self.engine.scratch, route, self.engine.batched)

    def traced(self) -> Route:
        """Return the route of the changes that a change of the receiver's input makes."""
        tracer = Tracer(self.plan)
        if self.node.component == "logits":
            return tracer.upwards([], self.layer)
        if self.node.component == "mlp":
            return tracer.from_mlp(self.layer)
        return tracer.from_port(self.layer, self.port)

    def drop_rows(self) -> None:
        """Drop the rows of the states that no longer matter."""
        for chunk, state in zip(self.engine.chunks, self.states, strict=True):
            state.drop_rows(self.plan, chunk.rows)

    def whole_input(self, chunk: Chunk) -> Float[Tensor, "row d_model"]:
        """Compute the receiver's input while it has all its edges, in float64.

        When most edges are removed, the input is a small difference of large numbers. A norm then magnifies its
        rounding error (under zero ablation nothing else is left).
        """
        kind = {"logits": "final", "mlp": "mlp_in", "head": "port_in"}[self.node.component]
        key = (kind, 0 if kind == "final" else self.layer, 0)
        if (id(chunk), key) not in self.whole:
            total = chunk.total(int(self.engine.graph.exists[:, self.receiver].sum()))
            total = total[chunk.rows.scored_in_live] if key[0] == "final" else total
            self.whole[id(chunk), key] = chunk.ablated[key] + total
        whole = self.whole[id(chunk), key]
        return whole if self.all_live or key[0] == "final" else whole[chunk.rows.scored_in_live]

    def states_that_fit(self) -> int:
        """Return how many candidates fit into ``Engine.memory`` at once; at least one."""
        engine = self.engine
        architecture, itemsize = engine.weights.architecture, engine.weights.embed.element_size()
        is_mixed = engine.coarse is not None
        needs = (per_candidate(architecture, self.plan, self.layer, c.rows, itemsize, is_mixed) for c in engine.chunks)
        memory = min(engine.memory, CPU_BYTES) if engine.device.type == "cpu" else engine.memory
        return max(1, memory // max(needs))

    def try_removing(self, senders: list[int], stays: list[bool]) -> list[float]:
        """Measure one candidate without the edge from each of these senders, and return the candidates' metrics.

        Candidate i lacks the edge from sender i, and from every earlier sender that does not stay.

        Args:
            stays: guesses whether each sender's edge stays.
        """
        left, self.candidates, self.tried = self.circuit, [], (senders, stays)
        for sender, guess in zip(senders, stays, strict=True):
            candidate = left.copy()
            candidate.present[sender, self.receiver] = False
            self.candidates.append(candidate)
            left = left if guess else candidate
        return self.evaluate()

    def attempt(self, i: int, which: slice, new_patch: NewPatch) -> tuple[Patch, Float[Tensor, "state scored d_model"]]:
        """Compute some of the candidates just tried on chunk ``i`` of the engine."""
        chunk = self.engine.chunks[i]
        if self.tried is None:
            patch = new_patch(chunk.rows, self.states[i], 1)
            return patch, patch.from_port(chunk.ablated["port", self.layer, self.port])
        senders, stays = self.tried
        x = self.inputs_without(i, senders, stays, range(len(senders))[which])
        patch = new_patch(chunk.rows, self.states[i], len(x))
        start = {"logits": patch.from_final, "mlp": patch.from_mlp, "head": patch.from_port_input}
        return patch, start[self.node.component](x)

    def inputs_without(
        self, i: int, senders: list[int], stays: list[bool], which: range
    ) -> Float[Tensor, "state row d_model"]:
        """Compute the receiver's input in some of the candidates of ``try_removing``, on chunk ``i``.

        A candidate's input is that of the candidate before it, in float64, without one more sender.
        """
        left, dtype = self.inputs[i], self.engine.weights.embed.dtype
        if self.engine.batched:
            return self.inputs_at_once(i, senders, stays, which).to(dtype)
        inputs = torch.empty(len(which), *left.shape, dtype=dtype, device=left.device)
        for state in range(which.stop):
            lacking = self.lacking(i, [senders[state]], left)
            if state in which:
                inputs[state - which.start] = lacking
            left = left if stays[state] else lacking
        self.last[i] = lacking
        return inputs

    def inputs_at_once(
        self, i: int, senders: list[int], stays: list[bool], which: range
    ) -> Float[Tensor, "state row d_model"]:
        """Compute the receiver's inputs of ``inputs_without`` by one matrix product, in float64."""
        lacks = np.tri(len(senders), k=-1) * ~np.array(stays) + np.eye(len(senders))
        weights = upload(torch.from_numpy(lacks[which]), self.inputs[i].device)
        deltas = self.engine.chunks[i].deltas(senders, self.all_live).double()
        whole = self.inputs[i]
        return whole - (weights @ deltas.flatten(1)).unflatten(1, whole.shape)

    def lacking(self, i: int, senders: list[int], x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        """Subtract the contributions of some senders from the receiver's input, in float64."""
        chunk = self.engine.chunks[i]
        if self.engine.batched:
            return x - chunk.deltas(senders, self.all_live).sum(0, dtype=x.dtype) if senders else x
        for sender in senders:
            x = x - chunk.delta_at(sender, self.all_live)
        return x

    def try_cutting_direct(self) -> list[float]:
        """Measure the candidate whose q, k or v is the ablated run's, and return its metric in a list."""
        self.candidates, self.tried = [self.circuit.copy()], None
        self.candidates[0].direct[self.receiver] = False
        return self.evaluate()

    def evaluate(self) -> list[float]:
        """Measure all candidates."""
        metrics = self.engine.measure(self.metric, self.finals(slice(None)))
        self.starving = [self.starves(candidate) for candidate in self.candidates]
        for i in np.flatnonzero(self.starving).tolist():
            metrics[i] = self.measured_afresh(i)
        return metrics

    def finals(self, which: slice) -> list[Float[Tensor, "state _scored d_model"]]:
        """Compute the final residual stream of some candidates for each chunk; ``patch`` is then the last chunk's."""
        finals = []
        for i in range(len(self.states)):
            self.patch, final = self.attempt(i, which, self.new_patch)
            finals.append(final)
        return finals

    def measured_afresh(self, i: int) -> float:
        """Measure candidate ``i`` by a forward pass that does not start from an earlier one."""
        (metric,) = self.engine.measure(self.metric, self.engine.finals(self.candidates[i]))
        return metric

    def starves(self, candidate: Circuit) -> bool:
        """Return whether some receiver with present edges no longer gets a signal from an embedding.

        Its input then comes from biases alone, and is often exactly zero. A forward pass of its own keeps it exact.
        Subtracting one change after another leaves rounding errors, which norms magnify. Most ablations cannot starve a
        receiver: they leave it the input of a run that has embeddings.
        """
        if not self.engine.ablation.can_starve:
            return False
        if candidate.present[:, self.receiver].any() and (candidate.direct[self.receiver] or not self.node.port):
            return False
        starved = self.circuit.is_fed() & ~candidate.is_fed()
        return bool((starved & any_along(candidate.present, 0)).any())

    def commit(self, i: int, metric: float) -> None:
        """Make candidate ``i`` of those just tried, whose metric is ``metric``, the current circuit."""
        self.accept(i)
        present = self.candidates[i].present[:, self.receiver]
        gone = np.flatnonzero(self.circuit.present[:, self.receiver] & ~present).tolist()
        if i == len(self.candidates) - 1 and gone and self.last:
            self.inputs = [self.last[j] for j in range(len(self.inputs))]
        else:
            self.inputs = [self.lacking(j, gone, x) for j, x in enumerate(self.inputs)]
        self.circuit.present[:, self.receiver] = present
        self.circuit.direct[self.receiver] = self.candidates[i].direct[self.receiver]
        self.current = metric

    def accept(self, i: int) -> None:
        """Make the activations of candidate ``i`` the current states."""
        if self.starving[i]:
            circuit = self.candidates[i].reaching_logits()
            self.states = [chunk.settle(circuit, self.layer - 1) for chunk in self.engine.chunks]
            self.drop_rows()
        elif len(self.states) == 1:
            self.patch.commit(i)
        else:
            # Only the last chunk's candidates are still in memory: chunks exist so that not all of them have to be.
            self.accept_afresh(i)

    def accept_afresh(self, i: int) -> None:
        """Compute candidate ``i`` once more, and make its activations the current states."""
        for chunk in range(len(self.states)):
            patch, _ = self.attempt(chunk, slice(i, i + 1), self.new_patch)
            patch.commit(0)
