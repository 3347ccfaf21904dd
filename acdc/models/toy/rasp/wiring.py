"""The circuit that a compiled model is, read off its weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from acdc.graph import Circuit, Graph, Node

NOTHING = 1e-6
"""Products of weights below this are rounding."""


def wired_circuit(weights: Mapping[str, Tensor], graph: Graph) -> Circuit:
    """Every edge along which a sender writes a direction that its receiver reads, as far as it reaches the logits.

    Only for models like tracr's, whose every direction of the residual stream means one thing: elsewhere
    everything reads everything. What no input changes (which tokens there are, say) counts as read as well.

    Args:
        weights: state of a TransformerLens native model.
    """
    writes = np.stack([written_by(weights, graph, sender) for sender in graph.senders])  # [sender d_model]
    reads = np.stack([read_by(weights, graph, receiver) for receiver in graph.receivers])  # [receiver d_model]
    present = graph.exists & (writes @ reads.T)
    return Circuit(graph, present, graph.has_direct & present.any(0)).reaching_logits()


def written_by(weights: Mapping[str, Tensor], graph: Graph, sender: Node) -> Bool[np.ndarray, "d_model"]:
    """Directions that a sender can write."""
    embeds = {"tok_embed": ["embed"], "pos_embed": ["pos_embed"], "embed": ["embed", "pos_embed"]}
    if sender.component in embeds:
        return np.logical_or.reduce([some(weights[f"{name}.weight"], 0) for name in embeds[sender.component]])
    if sender.component == "mlp":
        return some(weights[f"blocks.{sender.layer}.mlp.out.weight"], 1)
    return some(copies(weights, graph, sender), 1)


def read_by(weights: Mapping[str, Tensor], graph: Graph, receiver: Node) -> Bool[np.ndarray, "d_model"]:
    """Directions that a receiver reads; those of queries that no key answers, and the other way round, do not count."""
    if receiver.component == "logits":
        return some(weights["unembed.weight"], 0)
    if receiver.component == "mlp":
        return some(weights[f"blocks.{receiver.layer}.mlp.in.weight"], 0)
    if receiver.port == "v":
        return some(copies(weights, graph, receiver), 0)
    q, k = (of_head(weights, graph, receiver, name) for name in "qk")
    return some(k.T @ q, 0) if receiver.port == "q" else some(q.T @ k, 0)


def copies(weights: Mapping[str, Tensor], graph: Graph, head: Node) -> Tensor:
    """Float[written read]: what a head writes of what it reads where it attends."""
    d_head = len(weights[f"blocks.{head.layer}.attn.v.weight"]) // graph.n_heads
    out = weights[f"blocks.{head.layer}.attn.o.weight"][:, head.head * d_head : (head.head + 1) * d_head]
    return out @ of_head(weights, graph, head, "v")


def of_head(weights: Mapping[str, Tensor], graph: Graph, head: Node, name: str) -> Tensor:
    """Float[d_head d_model]: a head's part of its layer's q, k or v."""
    return weights[f"blocks.{head.layer}.attn.{name}.weight"].unflatten(0, (graph.n_heads, -1))[head.head]


def some(matrix: Tensor, axis: int) -> Bool[np.ndarray, "n"]:
    """Whether anything along an axis is not 0."""
    return (matrix.abs() > NOTHING).any(axis).numpy()
