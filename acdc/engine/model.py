"""Compute the logits and the metric of any circuit.

``acdc.engine.removals`` removes edges one after another; nothing here searches. ``acdc.reference`` computes the same
through TransformerLens hooks, slowly. Tests compare this engine with it, and with the results of the original
implementation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.ablation import Ablation, named
from acdc.catalogue import METRICS
from acdc.data import Dataset
from acdc.engine import layers
from acdc.engine.batched import suits
from acdc.engine.chunk import Chunk
from acdc.engine.coarse import Coarse
from acdc.engine.linear import multiply_in_full
from acdc.engine.memory import check_memory, held, prompts_per_chunk
from acdc.engine.patched import Scratch
from acdc.engine.runs import final_norm, fixed_outputs
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.metrics import Metric, MetricKind

LOGIT_BYTES = 2**25
"""The bytes of logits that are computed at once on a CPU, so that they stay in its cache."""


class Engine:
    """Compute circuits of one model, on one dataset, under one ablation.

    Args:
        weights: the model's weights, on the device and in the precision to compute in.
        dataset: the prompts.
        ablation: the ablation, or its name in the catalogue; see ``acdc.ablation``.
        split_embed: whether token and position embeddings are two senders.
        memory: bytes that a search may use for candidates, beyond those that it always holds (``acdc.engine.memory``).
            Prompts are computed in chunks if one candidate of all prompts does not fit.
        batched: whether candidates are computed a layer at a time (``acdc.engine.batched``), or else a head at a time;
            None for the faster way on the device. The decisions are the same.
        mixed: whether a search may measure candidates in lower precision (``acdc.engine.mixed``), a layer at a time.
            The decisions are the same. Everything else is computed in the weights' precision.

    Raises:
        InputError: position embeddings are to be split off or permuted, and the residual stream has none.

    Attributes:
        graph: the computational graph of the model.
        model_logits: Float[scored d_vocab], the whole model's logits on the clean prompts.
        coarse: the products in lower precision that a search may use; None if it may not.
        fixed: the outputs of senders in the ablated run that do not depend on the prompt, see ``fixed_outputs``.
    """

    def __init__(
        self,
        weights: Weights,
        dataset: Dataset,
        *,
        ablation: Ablation | str,
        split_embed: bool = False,
        memory: int = 2**31,
        batched: bool | None = None,
        mixed: bool = False,
    ) -> None:
        multiply_in_full()
        self.weights, self.dataset, self.memory = weights, dataset, memory
        self.coarse = Coarse() if mixed else None
        self.batched = mixed or (suits(self.device) if batched is None else batched)
        self.ablation = named(ablation)
        self.graph = weights.architecture.graph(split_embed)
        if self.ablation.position_order(dataset.clean.shape[1]) is not None:
            weights.architecture.check_learned(f"ablation {ablation if isinstance(ablation, str) else 'of this kind'}")
        size = prompts_per_chunk(weights, self.graph, dataset, memory)
        self.parts = [dataset.select(slice(i, i + size)) for i in range(0, len(dataset), size)]
        self.scratch = Scratch(weights.embed, weights.architecture.d_model)
        self.fixed = fixed_outputs(weights, dataset, self.ablation, split_embed, size)
        self.chunks = [
            Chunk(weights, self.graph, part, self.ablation, self.scratch, self.fixed, self.batched)
            for part in self.parts
        ]
        self.gathered: dict[int, tuple[Metric, Tensor]] = {}  # with the metric, so that its id stays unique
        self.model_logits = torch.cat([self.logits(chunk.clean["final", 0, 0]) for chunk in self.chunks])

    @property
    def rounding(self) -> float:
        """Return the rounding error of the model's largest logit."""
        return torch.finfo(self.weights.embed.dtype).eps * self.model_logits.abs().max().item()

    @property
    def is_single_precision(self) -> bool:
        """Return whether the engine computes in float32."""
        return self.weights.embed.dtype == torch.float32

    @property
    def device(self) -> torch.device:
        """Return the device that the engine computes on."""
        return self.weights.embed.device

    def logits(
        self, final: Float[Tensor, "... scored d_model"], metric: Metric | None = None
    ) -> Float[Tensor, "... scored column"]:
        """Compute logits from the final residual stream, of the metric's columns or of all tokens."""
        return layers.cap(self.uncapped(final, metric), self.weights.architecture.logit_cap)

    def uncapped(
        self, final: Float[Tensor, "... scored d_model"], metric: Metric | None = None
    ) -> Float[Tensor, "... scored column"]:
        """Compute logits as ``logits`` does, without the cap."""
        weights, x = self.weights, final_norm(self.weights, final)
        if metric is None or metric.columns is None:
            return weights.readout(x)
        logits = torch.einsum("...sd,dsc->...sc", x, self.unembed_of(metric))
        return logits if weights.b_unembed is None else logits + weights.b_unembed[metric.columns]

    def unembed_of(self, metric: Metric) -> Float[Tensor, "d_model scored column"]:
        """Return the unembedding of a metric's columns, gathered once because they lie far apart in memory."""
        if id(metric) not in self.gathered:
            self.gathered[id(metric)] = metric, self.weights.unembed[:, metric.columns]
        return self.gathered[id(metric)][1]

    def circuit_logits(self, circuit: Circuit) -> Float[Tensor, "scored d_vocab"]:
        """Compute a circuit's logits at the scored positions, with all other edges ablated: Float[scored d_vocab]."""
        return torch.cat([self.logits(final[0]) for final in self.finals(circuit)])

    def finals(self, circuit: Circuit) -> list[Float[Tensor, "1 _scored d_model"]]:
        """Compute the final residual stream of a circuit for each chunk: Float[1 scored d_model].

        Raises:
            InputError: the circuit is of another model's graph.
        """
        if circuit.graph != self.graph:
            raise InputError(f"the circuit is of another model: its graph is {circuit.graph}, this one's {self.graph}")
        circuit = circuit.reaching_logits()
        return [chunk.final(circuit) for chunk in self.chunks]

    def without_dead(self, circuit: Circuit) -> Circuit:
        """Return the circuit without dead edges, which change nothing.

        Edges are dead if they do not lead on to the logits or, under corrupted ablation, if no path from an embedding
        leads to them: a node without inputs then has its output of the ablated run. Under zero and mean ablation it has
        another output, because its biases act.
        """
        alive = circuit.reaching_logits()
        return alive if self.fixed is not None else alive.from_embeddings()

    def on(self, dataset: Dataset) -> Engine:
        """Return an engine of the same model and ablation on other prompts, beside this one.

        Raises:
            InputError: the device's memory does not hold both engines.
        """
        weights, graph = self.weights, self.graph
        needed = held(weights.architecture, graph, dataset, weights.embed.element_size())
        check_memory(needed, self.device, f"{len(dataset)} more prompts of up to {dataset.clean.shape[1]} tokens")
        return Engine(weights, dataset, ablation=self.ablation, split_embed=graph.split_embed, memory=self.memory)

    def metric(self, kind: MetricKind) -> list[Metric]:
        """Return a metric for this model and dataset, one for each chunk."""
        logits = self.model_logits.split([len(chunk.rows.scored) for chunk in self.chunks])
        return [kind(part, of_part) for part, of_part in zip(self.parts, logits, strict=True)]

    def value(self, circuit: Circuit, kind: MetricKind | str) -> float:
        """Compute a circuit's metric, averaged over the dataset.

        Args:
            kind: the metric's class, or its name in the catalogue.
        """
        metric = self.metric(METRICS[kind].load() if isinstance(kind, str) else kind)
        (value,) = self.measure(metric, self.finals(circuit))
        return value

    def measure(self, metric: list[Metric], finals: list[Float[Tensor, "state _scored d_model"]]) -> list[float]:
        """Compute the metric of every state, averaged over the dataset, see ``Dataset.mean_over``."""
        values = [self.values(*of_chunk) for of_chunk in zip(metric, finals, strict=True)]
        return self.mean(values).tolist()

    def mean(self, values: list[Float[Tensor, "state _scored"]]) -> Float[Tensor, "state"]:
        """Average values at scored positions, given for each chunk, over the dataset: Float[state], float64."""
        total = torch.zeros((), dtype=torch.float64)
        for chunk, part, of_chunk in zip(self.chunks, self.parts, values, strict=True):
            total = total + of_chunk.double() @ chunk.rows.weight * self.dataset.share(part)
        return total

    def values(
        self,
        metric: Metric,
        final: Float[Tensor, "state scored d_model"],
        logits: Callable[[Float[Tensor, "state scored d_model"], Metric], Tensor] | None = None,
    ) -> Float[Tensor, "state scored"]:
        """Compute the metric of every state at every scored position: Float[state scored], float64.

        Args:
            logits: a function that computes the metric's logits from the final residual stream; ``Engine.logits`` by
                default.
        """
        logits = logits or self.logits
        n_columns = self.weights.unembed.shape[1] if metric.columns is None else metric.columns.shape[1]
        most = LOGIT_BYTES if self.device.type == "cpu" else max(LOGIT_BYTES, self.memory // 8)
        states = max(1, most // (final[0, :, 0].nbytes * n_columns))
        return torch.cat([metric(logits(part, metric)).double() for part in final.split(states)])
