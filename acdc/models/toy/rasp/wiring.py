"""Read the circuit of a compiled model off its weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from acdc.graph import Circuit, Graph, Node

NOTHING = 1e-6
"""Products of weights below this are rounding."""


def wired_circuit(weights: Mapping[str, Tensor], graph: Graph) -> Circuit:
    """Return the edges whose sender writes a direction that the receiver reads, if they lead on to the logits.

    This is for models like tracr's, where every direction of the residual stream means one thing. In other models every
    receiver reads every sender. Directions that no input changes count too.

    Args:
        weights: the state of a TransformerLens native model.
    """
    writes = np.stack([written_by(weights, graph, sender) for sender in graph.senders])  # [sender d_model]
    reads = np.stack([read_by(weights, graph, receiver) for receiver in graph.receivers])  # [receiver d_model]
    present = graph.exists & (writes @ reads.T)
    return Circuit(graph, present, graph.has_direct & present.any(0)).reaching_logits()


def written_by(weights: Mapping[str, Tensor], graph: Graph, sender: Node) -> Bool[np.ndarray, "d_model"]:
    """Return which directions a sender can write: Bool[d_model]."""
    embeds = {"tok_embed": ["embed"], "pos_embed": ["pos_embed"], "embed": ["embed", "pos_embed"]}
    if sender.component in embeds:
        return np.logical_or.reduce([some(weights[f"{name}.weight"], 0) for name in embeds[sender.component]])
    if sender.component == "mlp":
        return some(weights[f"blocks.{sender.layer}.mlp.out.weight"], 1)
    return some(copies(weights, graph, sender), 1)


def read_by(weights: Mapping[str, Tensor], graph: Graph, receiver: Node) -> Bool[np.ndarray, "d_model"]:
    """Return which directions a receiver reads, without queries that match no key, and keys that match no query."""
    if receiver.component == "logits":
        return some(weights["unembed.weight"], 0)
    if receiver.component == "mlp":
        return some(weights[f"blocks.{receiver.layer}.mlp.in.weight"], 0)
    if receiver.port == "v":
        return some(copies(weights, graph, receiver), 0)
    q, k = (of_head(weights, graph, receiver, name) for name in "qk")
    return some(k.T @ q, 0) if receiver.port == "q" else some(q.T @ k, 0)


def copies(weights: Mapping[str, Tensor], graph: Graph, head: Node) -> Tensor:
    """Return the map from a head's input, where it attends, to its output: Float[written read]."""
    d_head = len(weights[f"blocks.{head.layer}.attn.v.weight"]) // graph.n_heads
    out = weights[f"blocks.{head.layer}.attn.o.weight"][:, head.head_index * d_head : (head.head_index + 1) * d_head]
    return out @ of_head(weights, graph, head, "v")


def of_head(weights: Mapping[str, Tensor], graph: Graph, head: Node, name: str) -> Tensor:
    """Return a head's part of its layer's q, k or v weights: Float[d_head d_model]."""
    return weights[f"blocks.{head.layer}.attn.{name}.weight"].unflatten(0, (graph.n_heads, -1))[head.head_index]


def some(matrix: Tensor, axis: int) -> Bool[np.ndarray, "n"]:
    """Return whether any entry along an axis is not 0."""
    return (matrix.abs() > NOTHING).any(axis).numpy()
