"""The edge-patched model, fast: any circuit's logits and metric here, removals one after another in ``removals``.

Nothing here searches. ``acdc.reference`` computes the same through TransformerLens hooks, slowly; tests
hold this engine to it and to the original implementation's own results.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.data import Dataset
from acdc.engine import layers
from acdc.engine.patched import Changes, Patch, Plan, Scratch
from acdc.engine.runs import Rows, State, ablated_run, run
from acdc.graph import Circuit
from acdc.metrics import Metric
from acdc.models.architecture import Weights


class Engine:
    """One model on one dataset under one ablation.

    Args:
        weights: on the device and in the precision to compute in.
        ablation: ``corrupted`` or ``zero``, see ``acdc.ablation``.
        split_embed: token and position embeddings are two senders.

    Attributes:
        delta: Float[sender row d_model], clean minus ablated output of every sender.
        model_logits: Float[scored d_vocab], the whole model's on the clean prompts.
    """

    def __init__(self, weights: Weights, dataset: Dataset, *, ablation: str, split_embed: bool = False) -> None:
        device = weights.embed.device
        self.weights, self.dataset = weights, dataset
        self.graph = weights.architecture.graph(split_embed)
        self.rows = Rows.of(dataset, device)
        ablated = ablated_run(weights, dataset, self.rows, ablation, split_embed)
        clean = run(weights, dataset.clean, self.rows, split_embed=split_embed)
        self.ablated, self.clean = ablated.state, clean.state
        self.delta = clean.sender.sub_(ablated.sender)
        self.rows.narrow_to(self.delta)
        self.model_logits = self.logits(self.clean.final)
        self.scratch = Scratch(self.delta, weights.architecture.d_model)

    def logits(
        self, final: Float[Tensor, "... scored d_model"], metric: Metric | None = None
    ) -> Float[Tensor, "... scored column"]:
        """Logits of the final residual stream, at the metric's columns or at all."""
        weights = self.weights
        x = layers.norm(weights.architecture, final, weights.ln_final_w, weights.ln_final_b)
        if metric is None or metric.columns is None:
            return weights.readout(x)
        logits = torch.einsum("...sd,dsc->...sc", x, weights.unembed[:, metric.columns])
        return logits if weights.b_unembed is None else logits + weights.b_unembed[metric.columns]

    def measure(self, metric: Metric, final: Float[Tensor, "state scored d_model"]) -> list[float]:
        """The metric of every state: mean over prompts of the mean over a prompt's scored positions."""
        values = metric(self.logits(final, metric)).double()
        return (values @ self.rows.weight).tolist()

    def metric(self, kind: type[Metric]) -> Metric:
        """A metric for this model and dataset."""
        return kind(self.dataset, self.model_logits)

    def final(self, circuit: Circuit) -> Float[Tensor, "1 scored d_model"]:
        """The final residual stream of a circuit, every other edge ablated."""
        circuit = circuit.reaching_logits()
        return self.patch_from_clean(circuit, -1, self.ablated).from_layer(0)

    def settle(self, circuit: Circuit, layer: int) -> State:
        """Activations of a circuit that has all its edges into the layers up to ``layer``.

        Computed afresh, so that rounding does not pile up over thousands of removals. The layers up to
        ``layer`` are left as ablated: nothing of them is cut, so what they send is the clean run's.
        """
        circuit, state = circuit.reaching_logits(), self.ablated.copy()
        for later in range(layer + 1, self.graph.n_layers):
            if circuit.present[self.graph.first_sender(later) : self.graph.first_sender(later + 1)].any():
                state.take_over(self.ablated, later)
        patch = self.patch_from_clean(circuit, layer, state)
        patch.from_layer(layer + 1)
        patch.commit(0)
        return state

    def patch_from_clean(self, circuit: Circuit, layer: int, state: State) -> Patch:
        """The change of ``state``, an ablated run, by clean senders up to ``layer`` over the circuit's edges."""
        plan = Plan(circuit)
        n_clean = self.graph.first_sender(layer + 1)
        later = slice(self.graph.first_receiver(layer + 1), None)
        read = circuit.present[:, later].any(1)
        wide, narrow = (
            np.flatnonzero(read[:n_clean] & (plan.wide_senders[:n_clean] == w)).tolist() for w in (True, False)
        )
        capacity = plan.capacity(slice(n_clean, None))
        sizes = (capacity[0] + len(wide) + len(narrow), capacity[1] + len(wide))
        changes = Changes.none(plan, self.rows, sizes, 1, self.scratch)
        for senders, is_wide in ((wide, True), (narrow, False)):
            changes.add(senders, self.delta_at(senders, is_wide)[:, None], is_wide)
        return Patch(self.weights, self.rows, plan, state, changes, everything=True)

    def delta_at(self, senders: list[int], wide: bool) -> Float[Tensor, "sender row d_model"]:
        """``delta`` of some senders at wide or narrow rows."""
        index = torch.tensor(senders, dtype=torch.long, device=self.delta.device)
        return self.delta[index[:, None], self.rows.at(wide)]
