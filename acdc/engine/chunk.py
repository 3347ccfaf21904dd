"""Compute circuits on one chunk of a dataset's prompts."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.ablation import Ablation, Written
from acdc.data import Dataset
from acdc.engine.batched import patcher
from acdc.engine.patched import Patch, Scratch
from acdc.engine.route import Plan, Tracer
from acdc.engine.runs import Rows, State, ablated_run, run
from acdc.engine.upload import upload
from acdc.engine.weights import Weights
from acdc.graph import Circuit, Graph, any_along


class Chunk:
    """Hold the clean and the ablated run of prompts that are computed together.

    Attributes:
        rows: the rows of the prompts.
        clean, ablated: the activations of the two runs, at the rows where ``State`` keeps them.
        delta: Float[sender live d_model], the clean minus the ablated output of every sender.
        batched: whether candidates are computed a layer at a time, see ``Engine``.
    """

    def __init__(
        self,
        weights: Weights,
        graph: Graph,
        dataset: Dataset,
        ablation: Ablation,
        scratch: Scratch,
        fixed: Written | None,
        batched: bool,
    ) -> None:
        self.weights, self.graph, self.scratch, self.batched = weights, graph, scratch, batched
        self.rows = Rows.of(dataset, weights.embed.device, weights.architecture.causal)
        ablated = ablated_run(weights, dataset, self.rows, ablation, graph.split_embed, fixed)
        clean = run(weights, dataset.clean, self.rows, split_embed=graph.split_embed)
        delta = clean.sender.sub_(ablated.sender)
        self.rows.find_live(delta)
        self.delta = delta if len(self.rows.live) == self.rows.n else delta[:, self.rows.live]
        self.ablated, self.clean = ablated.state.at_live(self.rows), clean.state.at_live(self.rows)

    def final(self, circuit: Circuit) -> Float[Tensor, "1 scored d_model"]:
        """Return the final residual stream of a circuit, with all other edges ablated."""
        return self.patch_from_clean(circuit, -1, self.ablated.copy()).from_senders()

    def settle(self, circuit: Circuit, layer: int) -> State:
        """Return the activations of a circuit that has all edges into the layers up to ``layer``.

        They are computed from the ablated run, so that rounding does not accumulate over thousands of removals. The
        layers up to ``layer`` are as in the clean run, since no edge into them is removed.
        """
        state = self.ablated.copy()
        patch = self.patch_from_clean(circuit, layer, state)
        patch.from_senders()
        patch.commit(0)
        for earlier in range(layer + 1):
            state.take_over(self.clean, earlier)
        return state

    def patch_from_clean(self, circuit: Circuit, layer: int, state: State) -> Patch:
        """Return the patch that makes the senders up to ``layer`` clean in ``state``, an ablated run."""
        plan = Plan(circuit)
        state.drop_rows(plan, self.rows)
        n_clean = self.graph.first_sender(layer + 1)
        later = circuit.present[:n_clean, self.graph.first_receiver(layer + 1) :]
        read = np.flatnonzero(any_along(later, 1)).tolist()
        route = Tracer(plan, everything=True).from_senders(read, layer + 1)
        patch = patcher(self.weights, self.scratch, route, self.batched)(self.rows, state, 1)
        live = [sender for sender in read if plan.live_senders[sender]]
        patch.changes.scored[: len(read), 0] = self.deltas(read, False)
        patch.changes.live[: len(live), 0] = self.deltas(live, True)
        return patch

    def deltas(self, senders: list[int], all_live: bool) -> Float[Tensor, "chosen row d_model"]:
        """Return ``delta`` of some senders, at all live rows or at the scored rows."""
        which = upload(torch.tensor(senders, dtype=torch.long), self.delta.device)
        return self.delta[which] if all_live else self.delta[which[:, None], self.rows.scored_in_live]

    def delta_at(self, sender: int, all_live: bool) -> Float[Tensor, "row d_model"]:
        """Return ``delta`` of one sender, at all live rows or at the scored rows."""
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
