"""Remove each edge of a circuit by itself: measure many candidates at once, none of which lacks two edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.chunk import Chunk
from acdc.engine.model import Engine
from acdc.engine.patched import Changes, Plan, input_key
from acdc.engine.removals import states_that_fit
from acdc.engine.runs import State
from acdc.graph import Circuit, Edge

Finals = list[Float[Tensor, "state _scored d_model"]]
"""The final residual streams of candidates, by chunk."""


def without_each(engine: Engine, circuit: Circuit) -> Iterator[tuple[list[Edge], Finals]]:
    """Yield edges of a circuit, and the final residual streams of the circuits that lack one of them each.

    The edges are those that lead on to the logits; removing any other changes nothing.
    """
    circuit = circuit.reaching_logits()
    plan, settled = Plan(circuit), [Settled.of(chunk, circuit) for chunk in engine.chunks]
    for receiver, node in enumerate(circuit.graph.receivers):
        senders = np.flatnonzero(circuit.present[:, receiver]).tolist()
        if senders:
            most = states_that_fit(engine, plan, node.layer)
            for some in (senders[i : i + most] for i in range(0, len(senders), most)):
                edges = [Edge(circuit.graph.senders[sender], node) for sender in some]
                yield edges, afresh(engine, circuit, edges, [part.without(plan, receiver, some) for part in settled])
        if circuit.direct[receiver]:
            edges = [Edge(node, node, "direct")]
            yield edges, afresh(engine, circuit, edges, [part.without_direct(plan, receiver) for part in settled])


def afresh(engine: Engine, circuit: Circuit, edges: list[Edge], finals: Finals) -> Finals:
    """Return the streams with those of candidates that starve a receiver computed afresh, see ``Removals.starves``."""
    if not engine.ablation.can_starve:
        return finals
    for i, edge in enumerate(edges):
        candidate = circuit.without(edge)
        if candidate.starves_beside(circuit):
            for final, exact in zip(finals, engine.finals(candidate), strict=True):
                final[i] = exact[0]
    return finals


@dataclass
class Settled:
    """Hold the activations of a circuit on a chunk. They take as much memory as what ``Chunk`` holds.

    Attributes:
        scored, live: what senders write in the circuit less what they write in the ablated run, Float[row d_model], by
            sender: at the scored rows and, where they matter there, at all live ones.
    """

    chunk: Chunk
    circuit: Circuit
    state: State
    scored: dict[int, Tensor]
    live: dict[int, Tensor]

    @classmethod
    def of(cls, chunk: Chunk, circuit: Circuit) -> Settled:
        """Compute a circuit, all of whose edges lead on to the logits."""
        state = chunk.ablated.copy()
        patch = chunk.patch_from_clean(circuit, -1, state)
        patch.from_layer(0)
        patch.commit(0)
        return cls(chunk, circuit, state, *copied(patch.changes))

    def without(self, plan: Plan, receiver: int, senders: list[int]) -> Float[Tensor, "state scored d_model"]:
        """Compute the final residual stream without the edge from each of these senders."""
        whole, of_sender = self.whole_input(plan, receiver), self.live if plan.all_live[receiver] else self.scored
        x = torch.stack([(whole - of_sender[sender]).to(of_sender[sender].dtype) for sender in senders])
        layer = self.circuit.graph.receivers[receiver].layer
        # A copy, for starving candidates are written over, and without a reader the same stream stands for all.
        return self.chunk.patch(plan, self.state, layer, len(senders)).from_input(receiver, x).clone()

    def without_direct(self, plan: Plan, receiver: int) -> Float[Tensor, "1 scored d_model"]:
        """Compute the final residual stream where a port's q, k or v is the ablated run's as a whole."""
        _, layer, port = input_key(self.circuit.graph, receiver)
        patch = self.chunk.patch(plan, self.state, layer, 1)
        return patch.from_port(layer, port, self.chunk.ablated["port", layer, port]).clone()

    def whole_input(self, plan: Plan, receiver: int) -> Float[Tensor, "row d_model"]:
        """Compute a receiver's input in the circuit, in float64: a difference of large numbers may be left of it."""
        key, all_live = input_key(self.circuit.graph, receiver), bool(plan.all_live[receiver])
        ablated, of_sender = self.chunk.ablated[key], self.live if all_live else self.scored
        whole = (ablated if all_live or key[0] == "final" else ablated[self.chunk.rows.scored_in_live]).double()
        for sender in np.flatnonzero(self.circuit.present[:, receiver]).tolist():
            whole = whole + of_sender[sender]
        return whole


def copied(changes: Changes) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return copies of the changes of one state, by sender, at scored and at live rows: the buffers are used again."""
    scored, live = changes.scored[:, 0].clone(), changes.live[:, 0].clone()
    at_scored = dict(zip(changes.scored_senders, scored, strict=False))
    return at_scored, dict(zip(changes.live_senders, live, strict=False))
