"""Compute circuits on one chunk of a dataset's prompts."""

from __future__ import annotations

from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.ablation import Ablation, Written
from acdc.data import Dataset
from acdc.engine.patched import Changes, Patch, Plan, Scratch
from acdc.engine.runs import Rows, State, ablated_run, run
from acdc.engine.weights import Weights
from acdc.graph import Circuit, Graph, any_along


class Chunk:
    """Hold the clean and the ablated run of prompts that are computed together.

    Attributes:
        clean, ablated: the activations of the two runs, at the rows where ``State`` keeps them.
        delta: Float[sender live d_model], the clean minus the ablated output of every sender.
    """

    def __init__(
        self,
        weights: Weights,
        graph: Graph,
        dataset: Dataset,
        ablation: Ablation,
        scratch: Scratch,
        fixed: Written | None,
    ) -> None:
        self.weights, self.graph, self.scratch = weights, graph, scratch
        self.rows = Rows.of(dataset, weights.embed.device, weights.architecture.causal)
        ablated = ablated_run(weights, dataset, self.rows, ablation, graph.split_embed, fixed)
        clean = run(weights, dataset.clean, self.rows, split_embed=graph.split_embed)
        delta = clean.sender.sub_(ablated.sender)
        self.rows.find_live(delta)
        self.delta = delta if len(self.rows.live) == self.rows.n else delta[:, self.rows.live]
        self.ablated, self.clean = ablated.state.at_live(self.rows), clean.state.at_live(self.rows)

    def final(self, circuit: Circuit) -> Float[Tensor, "1 scored d_model"]:
        """Return the final residual stream of a circuit. Every other edge is ablated."""
        return self.patch_from_clean(circuit, -1, self.ablated.copy()).from_layer(0)

    def settle(self, circuit: Circuit, layer: int) -> State:
        """Return the activations of a circuit that has all edges into the layers up to ``layer``.

        They are computed afresh, so that rounding does not pile up over thousands of removals. The layers up to
        ``layer`` are as in the clean run, for no edge into them is removed.
        """
        state = self.ablated.copy()
        patch = self.patch_from_clean(circuit, layer, state)
        patch.from_layer(layer + 1)
        patch.commit(0)
        for earlier in range(layer + 1):
            state.take_over(self.clean, earlier)
        return state

    def patch_from_clean(self, circuit: Circuit, layer: int, state: State) -> Patch:
        """Return the patch that makes the senders up to ``layer`` clean in ``state``, an ablated run."""
        plan = Plan(circuit)
        plan.drop_rows(state, self.rows)
        n_clean = self.graph.first_sender(layer + 1)
        later = circuit.present[:n_clean, self.graph.first_receiver(layer + 1) :]
        read = np.flatnonzero(any_along(later, 1)).tolist()
        n_scored, n_live = plan.capacity(slice(n_clean, None))
        changes = Changes.none(plan, self.rows, (n_scored + len(read), n_live + len(read)), 1, self.scratch)
        for sender in read:
            all_live = bool(plan.live_senders[sender])
            changes.add(sender, all_live, partial(Tensor.copy_, other=self.delta_at(sender, all_live)))
        return Patch(self.weights, self.rows, plan, state, changes, everything=True)

    def patch(self, plan: Plan, state: State, layer: int, n_states: int) -> Patch:
        """Return a patch without changes, for ``n_states`` candidates that change something in a layer."""
        capacity = plan.capacity(slice(self.graph.first_sender(layer), None))
        changes = Changes.none(plan, self.rows, capacity, n_states, self.scratch)
        return Patch(self.weights, self.rows, plan, state, changes)

    def delta_at(self, sender: int, all_live: bool) -> Float[Tensor, "row d_model"]:
        """Return ``delta`` of one sender, at all live rows or at the scored ones."""
        delta = self.delta[sender]
        return delta if all_live else delta[self.rows.scored_in_live]

    def total(self, n: int) -> Float[Tensor, "live d_model"]:
        """Return the sum of ``delta`` over the first ``n`` senders, in float64."""
        layer = next(i for i in reversed(range(self.graph.n_layers + 1)) if self.graph.first_sender(i) <= n)
        rest = self.delta[self.graph.first_sender(layer) : n]
        return self.totals[layer] + rest.sum(0, dtype=torch.float64)

    @cached_property
    def totals(self) -> Float[Tensor, "layer live d_model"]:
        """Return the sum of ``delta`` over all senders below each layer, and over all senders, in float64."""
        starts = [0, *(self.graph.first_sender(layer) for layer in range(self.graph.n_layers + 1))]
        of_layers = [self.delta[a:b].sum(0, dtype=torch.float64) for a, b in pairwise(starts)]
        return torch.stack(of_layers).cumsum(0)
