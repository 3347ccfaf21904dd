"""Compute edge-patched forward passes with a share on every edge and with gradients, for methods that need these.

A share of 1 is a present edge, 0 a removed one. In between, an edge carries a mixture of the two activations. With ones
and zeros the result is that of ``acdc.engine.model``, which is faster and has no gradients. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.ablation import Ablation, Written, named
from acdc.data import Dataset
from acdc.engine import layers
from acdc.engine.model import Engine
from acdc.engine.runs import (
    Rows,
    ablated_run,
    final_norm,
    fixed_outputs,
    full_attention,
    project,
    project_all,
    run,
    scale_after,
)
from acdc.engine.weights import Block, Weights
from acdc.graph import Circuit, Graph
from acdc.metrics import Metric, MetricKind

Given = Mapping[int, Float[Tensor, "_sender row d_model"]]
"""Changes of senders' outputs, from ablated to clean, that replace the computed changes: by the index of the first
embedding, of a layer's first head, or of an MLP."""
Added = Mapping[int, Float[Tensor, "_receiver row d_model"]]
"""Tensors that are added to the inputs of receivers, by the index of a layer's first port, of an MLP or of the logits.
The gradient with respect to them is the gradient at the receivers."""
NOTHING: Mapping[int, Tensor] = {}


@dataclass
class Mask:
    """Hold the share of every edge that is not ablated.

    Attributes:
        present: Float[sender receiver], shares of addition edges. Entries without an edge are not read.
        direct: Float[receiver], shares of direct edges, or Float[receiver row 1], a share per row. Only those of ports
            are read.
        all_present: whether the shares of all addition edges are 1; then ``present`` is not read, which is faster.
    """

    present: Float[Tensor, "sender receiver"]
    direct: Float[Tensor, "receiver ..."]
    all_present: bool = False

    @classmethod
    def of(cls, circuit: Circuit, like: Tensor) -> Mask:
        """Return the mask of a circuit, 1 for its edges and 0 elsewhere, on ``like``'s device in its precision."""
        present, direct = (torch.as_tensor(edges).to(like) for edges in (circuit.present, circuit.direct))
        return cls(present, direct)


def masked_models(engine: Engine, n_prompts: int, kind: type[MaskedModel] | None = None) -> Iterator[MaskedModel]:
    """Yield masked models of an engine's model, each on the next ``n_prompts`` prompts.

    Args:
        kind: a subclass with other gradients; None for ``MaskedModel``.
    """
    for start in range(0, len(engine.dataset), n_prompts):
        part = engine.dataset.select(slice(start, start + n_prompts))
        split_embed, fixed = engine.graph.split_embed, engine.fixed
        yield (kind or MaskedModel)(
            engine.weights, part, ablation=engine.ablation, split_embed=split_embed, fixed=fixed
        )


class MaskedModel:
    """Compute a model on a dataset under an ablation, as a differentiable function of a mask.

    The arguments are those of ``Engine``.

    Args:
        fixed: the outputs that ``fixed_outputs`` returns, which an engine has already; None to compute them.

    Attributes:
        clean: each embedding's output on the clean prompts, Float[row d_model]; token and position embeddings are two
            if they are two senders.
        changes: Float[sender row d_model], the clean minus the ablated output of every sender.
        model_logits: Float[scored d_vocab], the whole model's logits on the clean prompts.
    """

    def __init__(
        self,
        weights: Weights,
        dataset: Dataset,
        *,
        ablation: Ablation | str,
        split_embed: bool = False,
        fixed: Written | None = None,
    ) -> None:
        self.weights, self.dataset, ablation = weights, dataset, named(ablation)
        self.graph: Graph = weights.architecture.graph(split_embed)
        self.rows = Rows.of(dataset, weights.embed.device, weights.architecture.causal)
        if fixed is None:
            fixed = fixed_outputs(weights, dataset, ablation, split_embed, len(dataset))
        self.ablated = ablated_run(weights, dataset, self.rows, ablation, split_embed, fixed)
        clean = run(weights, dataset.clean, self.rows, split_embed=split_embed)
        self.clean = list(clean.sender[: self.graph.first_sender(0)].clone())  # a view would keep all of the run
        self.changes = clean.sender - self.ablated.sender
        self.model_logits = self.readout(clean.state["final", 0, 0])

    def metric(self, kind: MetricKind) -> Metric:
        """Return a metric for this model and its prompts."""
        return kind(self.dataset, self.model_logits)

    def value(self, metric: Metric, logits: Float[Tensor, "scored d_vocab"]) -> Float[Tensor, ""]:
        """Compute a metric's mean over the dataset."""
        columns = logits if metric.columns is None else logits.gather(1, metric.columns)
        return (metric(columns) * self.rows.weight.to(logits.dtype)).sum()

    def logits(
        self,
        mask: Mask,
        given: Given = NOTHING,
        added: Added = NOTHING,
    ) -> Float[Tensor, "scored d_vocab"]:
        """Compute the logits at the scored positions: Float[scored d_vocab].

        Args:
            mask: the share of every edge.
            given: changes that replace the computed ones, see ``Given``; by default embeddings have clean outputs.
            added: tensors that are added to receivers' inputs, see ``Added``.
        """
        weights, architecture = self.weights, self.weights.architecture
        changes = [given.get(0, self.changes[: self.graph.first_sender(0)])]
        for layer, block in enumerate(weights.blocks):
            first = self.graph.first_sender(layer)
            heads = given[first] if first in given else self.heads(mask, layer, changes, added)
            after_heads = [*changes, heads] if not architecture.parallel else changes
            if self.graph.has_mlp:
                read = self.inputs(mask, self.graph.first_receiver(layer) + self.graph.n_ports, 1, after_heads, added)
                out = self.mlp(block, self.ablated.state["mlp_in", layer, 0] + read[0])
                change = given.get(first + self.graph.n_heads, (out - self.ablated.state["mlp_out", layer, 0])[None])
                heads = torch.cat([heads, change])
            changes.append(heads)
        final = (
            self.ablated.state["final", 0, 0] + self.inputs(mask, len(self.graph.receivers) - 1, 1, changes, added)[0]
        )
        return self.readout(final)

    def logits_of_nodes(self, share: Float[Tensor, "node"]) -> Float[Tensor, "scored d_vocab"]:
        """Compute the logits at the scored positions with all edges, and a share on every node.

        A port's value, or an MLP's output, is a mixture of the computed one, by its share, and the ablated run's. All
        receivers of a layer read one residual stream, so this is much faster than ``logits`` with the same shares on
        edges.

        Args:
            share: Float[node], the share of every receiver but the logits.
        """
        resid = torch.stack(self.clean).sum(0)
        for layer, block in enumerate(self.weights.blocks):
            first = self.graph.first_receiver(layer)
            mlp = first + self.graph.n_ports
            ablated = self.ablated.state.ports(layer, self.graph.n_ports)
            new = project_all(self.weights, layer, resid, self.rows.pos)
            ports = torch.lerp(ablated, new, share[first:mlp, None, None])
            z = full_attention(self.weights, layer, ports, self.rows)
            written, before = block.all_outputs(z.transpose(0, 1).flatten(1)), resid
            if self.weights.architecture.norm_after:
                written = layers.norm(self.weights.architecture, written, block.ln1_post_w, None)
            resid = resid + written
            if self.graph.has_mlp:
                read = before if self.weights.architecture.parallel else resid
                new = layers.mlp(self.weights.architecture, block, read)
                resid = resid + torch.lerp(self.ablated.state["mlp_out", layer, 0], new, share[mlp])
        return self.readout(resid)

    def readout(self, final: Float[Tensor, "row d_model"]) -> Float[Tensor, "scored d_vocab"]:
        """Compute the logits from the final residual stream."""
        weights, x = self.weights, final_norm(self.weights, final[self.rows.scored])
        return layers.cap(weights.readout(x), weights.architecture.logit_cap)

    def inputs(
        self,
        mask: Mask,
        first: int,
        n: int,
        changes: list[Float[Tensor, "_sender row d_model"]],
        added: Added,
    ) -> Float[Tensor, "n row d_model"]:
        """Sum the changes that edges carry to the inputs of ``n`` receivers from ``first`` on, and added tensors."""
        total, sender = added.get(first, torch.zeros(())), 0
        if mask.all_present:
            return sum((change.sum(0) for change in changes), total).expand(n, -1, -1)
        for change in changes:
            shares = mask.present[sender : sender + len(change), first : first + n]
            total = total + torch.einsum("sr,spd->rpd", shares, change)
            sender += len(change)
        return total

    def mlp(self, block: Block, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        """Compute an MLP's output from its input."""
        return layers.mlp(self.weights.architecture, block, x)

    def attention(self, layer: int, ports: Float[Tensor, "port row d_head"]) -> Float[Tensor, "head row d_head"]:
        """Compute the attention output ``z`` of a layer's heads."""
        return full_attention(self.weights, layer, ports, self.rows)

    def heads(
        self,
        mask: Mask,
        layer: int,
        changes: list[Float[Tensor, "_sender row d_model"]],
        added: Added,
    ) -> Float[Tensor, "head row d_model"]:
        """Compute the changes of the outputs of a layer's heads."""
        first, block, ports = self.graph.first_receiver(layer), self.weights.blocks[layer], []
        # Unbound once, since every indexing would make a gradient as large as all of them.
        read = self.inputs(mask, first, self.graph.n_ports, changes, added).unbind()
        for port, change in enumerate(read):
            ablated = self.ablated.state["port", layer, port]
            x = self.ablated.state["port_in", layer, port] + change
            new = project(self.weights, layer, port, x, self.rows.pos)
            ports.append(ablated + mask.direct[first + port] * (new - ablated))
        z = self.attention(layer, torch.stack(ports))
        ablated = torch.stack([self.ablated.state["z", layer, head] for head in range(self.graph.n_heads)])
        if not self.weights.architecture.norm_after:
            return torch.einsum("hrd,hdm->hrm", z - ablated, block.w_o)
        change = z * scale_after(self.weights, layer, z) - self.ablated.state.scaled(layer, ablated)
        written = torch.einsum("hrd,hdm->hrm", change, block.w_o)
        return written if block.ln1_post_w is None else written * block.ln1_post_w
