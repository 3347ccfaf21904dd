"""Count the bytes that a search holds from start to end, for the engine and for cluster jobs; torch is not needed."""

from __future__ import annotations

from acdc.graph import Graph
from acdc.models.architecture import Architecture

FLOAT64 = 8
"""The bytes of a number in double precision."""


def resident(
    architecture: Architecture, graph: Graph, rows: int, scored: int, itemsize: int, mixed: bool = False
) -> int:
    """Return an upper bound of the bytes that a search holds from start to end.

    A search holds every sender's change, and in float64 the sum of those below each layer. For the current circuit it
    holds the input and the value of every port, z, and the MLPs' inputs and outputs. For the clean and the ablated run
    it holds the same, but a layer's ports share one input. It also holds the whole model's logits, and the two tensors
    that KL divergence computes from them.

    Args:
        rows: the number of positions in all prompts together.
        scored: the number of scored positions.
        itemsize: the bytes of a number.
        mixed: whether the search holds projections of the current circuit too, see ``acdc.engine.coarse``.
    """
    a = architecture
    values = (graph.n_ports + a.n_heads) * a.d_head
    current = a.n_layers * ((graph.n_ports + 2) * a.d_model + values)
    plain = a.n_layers * (3 * a.d_model + values)
    per_row = len(graph.senders) * a.d_model + current + 2 * plain
    totals = FLOAT64 * rows * (a.n_layers + 1) * a.d_model
    if mixed:
        per_row += a.n_layers * (graph.n_ports * a.d_head + (1 + a.gated) * a.d_mlp + a.norm_after * a.d_model)
        totals += itemsize * scored * a.d_vocab
    return totals + itemsize * (rows * per_row + scored * (3 * a.d_vocab + 3 * a.d_model))
