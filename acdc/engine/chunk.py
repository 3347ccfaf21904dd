"""Some prompts of a dataset under one ablation: what circuits start from, and any circuit's forward pass."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from acdc.ablation import Ablation, Written
from acdc.data import Dataset
from acdc.engine.patched import Changes, Patch, Plan, Scratch
from acdc.engine.runs import Rows, State, ablated_run, run
from acdc.engine.weights import Weights
from acdc.graph import Circuit, Graph


class Chunk:
    """Prompts that are computed together.

    Attributes:
        clean, ablated: activations of the two runs, at the rows where ``State`` keeps them.
        delta: Float[sender live d_model], clean minus ablated output of every sender.
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
        """The final residual stream of a circuit, every other edge ablated."""
        return self.patch_from_clean(circuit, -1, self.ablated.copy()).from_layer(0)

    def settle(self, circuit: Circuit, layer: int) -> State:
        """Activations of a circuit that has all its edges into the layers up to ``layer``.

        Computed afresh, so that rounding does not pile up over thousands of removals. The layers up to
        ``layer`` are as in the clean run, since nothing of them is cut.
        """
        state = self.ablated.copy()
        patch = self.patch_from_clean(circuit, layer, state)
        patch.from_layer(layer + 1)
        patch.commit(0)
        for earlier in range(layer + 1):
            state.take_over(self.clean, earlier)
        return state

    def patch_from_clean(self, circuit: Circuit, layer: int, state: State) -> Patch:
        """The change of ``state``, an ablated run, by clean senders up to ``layer`` over the circuit's edges."""
        plan = Plan(circuit)
        plan.drop_rows(state, self.rows)
        n_clean = self.graph.first_sender(layer + 1)
        read = np.flatnonzero(circuit.present[:n_clean, self.graph.first_receiver(layer + 1) :].any(1)).tolist()
        n_scored, n_live = plan.capacity(slice(n_clean, None))
        changes = Changes.none(plan, self.rows, (n_scored + len(read), n_live + len(read)), 1, self.scratch)
        for sender in read:
            all_live = bool(plan.live_senders[sender])
            changes.add(sender, self.delta_at([sender], all_live), 0.0, all_live)
        return Patch(self.weights, self.rows, plan, state, changes, everything=True)

    def delta_at(self, senders: list[int], all_live: bool) -> Float[Tensor, "sender row d_model"]:
        """``delta`` of some senders at all_live or scored rows."""
        delta = self.delta[senders]
        return delta if all_live else delta[:, self.rows.scored_in_live]
