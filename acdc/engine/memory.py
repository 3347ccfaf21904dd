"""How much memory a search needs beside the model's weights: formulas, in bytes, that a test holds the engine to.

What is always held grows with the prompts (``resident``). What candidates need on top (``per_candidate``) is
capped by ``Engine.memory``: fewer candidates are tried at once and, where one candidate of all prompts does
not fit, the prompts go through the model in chunks. Neither changes a decision.

Left out: the pruned receiver's own input in float64, attention scores, what the plain runs need for a moment while a
chunk is made, and senders' fixed outputs under zero and mean ablation, which are those of one prompt.
"""

from __future__ import annotations

from acdc.data import Dataset
from acdc.engine.patched import Plan
from acdc.engine.runs import Rows
from acdc.engine.weights import Weights
from acdc.graph import Graph
from acdc.models.architecture import Architecture


def resident(architecture: Architecture, graph: Graph, rows: int, scored: int, itemsize: int) -> int:
    """Upper bound of what a search holds from start to end.

    Every sender's change; of the current circuit the input and the value of every port, z and the MLPs' inputs
    and outputs; the same of the clean and the ablated run, whose ports share one input; and the whole model's
    logits with the two tensors that KL makes of them.

    Args:
        rows, scored: positions of all prompts together, and those that the metric reads.
    """
    a = architecture
    values = (graph.n_ports + a.n_heads) * a.d_head
    current = a.n_layers * ((graph.n_ports + 2) * a.d_model + values)
    plain = a.n_layers * (3 * a.d_model + values)
    per_row = len(graph.senders) * a.d_model + current + 2 * plain
    return itemsize * (rows * per_row + scored * (3 * a.d_vocab + 3 * a.d_model))


def per_candidate(architecture: Architecture, plan: Plan, layer: int, rows: Rows, itemsize: int) -> int:
    """Upper bound of what one candidate needs that changes something in ``layer``: all later nodes change.

    Changes of senders; inputs and values of receivers that some edge enters; and, of the widest layer, the sums
    into its ports or the hidden layer of its MLP while they are computed. Logits come on top, see LOGIT_BYTES.
    """
    a, graph = architecture, plan.graph
    n_scored, n_live = plan.capacity(slice(graph.first_sender(layer), None))
    first = graph.first_receiver(layer)
    alive = plan.present[:, first:].any(0)
    all_live = int((alive & plan.all_live[first:]).sum())
    inputs = (all_live + n_live) * len(rows.live) + (len(alive) - all_live + n_scored) * len(rows.scored)
    changes = n_live * len(rows.live) + n_scored * len(rows.scored)
    # A port's value is kept at all rows, and with it, at most, its share of z.
    values = 2 * (all_live * rows.n + (len(alive) - all_live) * len(rows.scored))
    busy = max(2 * graph.n_ports * a.d_model, (2 + a.gated) * a.d_mlp) * (
        len(rows.live) if all_live else len(rows.scored)
    )
    return itemsize * ((inputs + changes) * a.d_model + values * a.d_head + busy)


def prompts_per_chunk(weights: Weights, graph: Graph, dataset: Dataset, memory: int) -> int:
    """As many prompts as one candidate that changes everything may have within ``memory`` bytes; at least one."""
    a = weights.architecture
    of_layer = (graph.n_ports + 3) * a.d_model + 2 * graph.n_ports * a.d_head
    busy = max(2 * graph.n_ports * a.d_model, (2 + a.gated) * a.d_mlp)
    per_row = (a.n_layers * of_layer + len(graph.senders) * a.d_model + busy) * weights.embed.element_size()
    return max(1, min(len(dataset), memory // (per_row * dataset.clean.shape[1])))
