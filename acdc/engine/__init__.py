"""The edge-patched model, fast: the metric of any circuit, and of removals one after another.

Nothing here searches. ``acdc.reference`` computes the same through TransformerLens hooks, slowly; tests
hold this engine to it and to the original implementation's own results.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.data import Dataset
from acdc.engine import layers
from acdc.engine.patched import Changes, Patch, Plan, Scratch
from acdc.engine.runs import Rows, State, ablated_run, project, run
from acdc.graph import Circuit, Node
from acdc.metrics import Metric
from acdc.models.architecture import Weights

SCRATCH_BYTES = 2**29


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
            logits = x @ weights.unembed
            return logits if weights.b_unembed is None else logits + weights.b_unembed
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
        state = self.ablated.copy()
        for later in range(layer + 1, self.graph.n_layers):
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
        return self.delta[index[:, None], self.rows.live if wide else self.rows.scored]

    def search(self, circuit: Circuit, layer: int, metric: Metric) -> Removals:
        """Removals from the receivers of one layer of ``circuit``; ``n_layers`` is the logits' layer."""
        return Removals(self, circuit, layer, metric)


class Removals:
    """A circuit that loses edges into the receivers of one layer, and its metric.

    All edges into earlier layers must be present. ``circuit`` is changed by ``commit``.

    Attributes:
        current: the metric of the circuit as it is.
    """

    def __init__(self, engine: Engine, circuit: Circuit, layer: int, metric: Metric) -> None:
        self.engine, self.circuit, self.layer, self.metric = engine, circuit, layer, metric
        if layer == engine.graph.n_layers:
            self.state = engine.clean.copy()
        else:
            self.state = engine.settle(circuit, layer)
            self.state.take_over(engine.clean, layer)
        self.current = engine.measure(metric, self.state.final[None])[0]
        self.patch: Patch | None = None

    def start(self, receiver: Node) -> None:
        """Go on with this receiver."""
        self.receiver = self.engine.graph.receiver_index[receiver]
        self.port = self.receiver - self.engine.graph.first_receiver(self.layer)
        self.node = receiver
        self.plan = Plan(self.circuit)

    @property
    def most_states(self) -> int:
        """Candidates that fit into the memory set aside for one call of ``try_removing``."""
        rows = self.engine.rows
        narrow, wide = self.capacity
        state_bytes = self.engine.delta[0, 0].nbytes * ((narrow + 1) * len(rows.scored) + (wide + 1) * len(rows.live))
        return max(1, SCRATCH_BYTES // state_bytes)

    @property
    def capacity(self) -> tuple[int, int]:
        return self.plan.capacity(slice(self.engine.graph.first_sender(self.layer), None))

    def try_removing(self, senders: list[int]) -> list[float]:
        """The metric without the first of these senders, without the first two, and so on."""
        wide = bool(self.plan.wide[self.receiver])
        rows = self.patch_rows(wide)
        removed = self.engine.delta_at(senders, wide).cumsum(0)  # [state row d_model]
        if self.node.component == "logits":
            final = self.state.final - removed
            self.patch = self.new_patch(len(senders))
            self.patch.written.append((self.state.final, (slice(None),), final, 0))
        elif self.node.component == "mlp":
            self.patch = self.new_patch(len(senders))
            final = self.patch.from_mlp(self.layer, self.state.mlp_in[self.layer][rows] - removed)
        else:
            final = self.try_port_input(removed, wide)
        self.tried = senders
        return self.engine.measure(self.metric, final)

    def try_port_input(self, removed: Float[Tensor, "state row d_model"], wide: bool) -> Tensor:
        rows = self.patch_rows(wide)
        state, port = self.state.port_in[self.layer], slice(self.port, self.port + 1)
        x = state[port][:, rows][:, None] - removed
        pos = self.engine.rows.pos[rows]
        self.patch = self.new_patch(x.shape[1])
        self.patch.write(state, np.array([self.port]), wide, x)
        return self.patch.from_port(self.layer, self.port, project(self.engine.weights, self.layer, port, x, pos)[0])

    def try_cutting_direct(self) -> float:
        """The metric with the ablated run's q, k or v as a whole."""
        rows = self.patch_rows(bool(self.plan.wide[self.receiver]))
        self.patch = self.new_patch(1)
        value = self.engine.ablated.port[self.layer][self.port][rows]
        final = self.patch.from_port(self.layer, self.port, value[None])
        return self.engine.measure(self.metric, final)[0]

    def commit(self, n: int, metric: float) -> None:
        """Remove the first ``n`` of the senders just tried; ``metric`` is what they gave."""
        self.patch.commit(n - 1)
        self.circuit.present[self.tried[:n], self.receiver] = False
        self.current = metric

    def commit_direct(self, metric: float) -> None:
        """Cut the direct edge just tried."""
        self.patch.commit(0)
        self.circuit.direct[self.receiver] = False
        self.current = metric

    def patch_rows(self, wide: bool) -> Int[Tensor, "row"]:
        return self.engine.rows.live if wide else self.engine.rows.scored

    def new_patch(self, n_states: int) -> Patch:
        engine = self.engine
        changes = Changes.none(self.plan, engine.rows, self.capacity, n_states, engine.scratch)
        return Patch(engine.weights, engine.rows, self.plan, self.state, changes)
