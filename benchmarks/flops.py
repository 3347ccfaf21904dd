"""Count the arithmetic of one tried edge that no exact method avoids, by kind, in floating-point operations.

Taking an edge away changes its receiver, and with it every node that a changed node reaches over present edges.
Each of those has to be computed again at the rows where it matters: the sum of the changes that reach it, a
multiplication and an addition a number; q, k and v from their own inputs; attention; the heads' outputs; the
MLP; and the logits that the metric reads. Norms, activations and softmaxes are left out.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from acdc.engine.route import Plan
from acdc.engine.runs import Rows
from acdc.graph import Circuit
from acdc.models.architecture import Architecture


def unavoidable(architecture: Architecture, circuit: Circuit, receiver: int, rows: Rows, n_columns: int) -> Counter:
    """Count the operations of one tried edge into ``receiver``, in ``circuit``; kinds are those of the profile.

    Args:
        n_columns: logits that the metric reads at each scored position.
    """
    a, graph, plan = architecture, circuit.graph, Plan(circuit)
    flops = Counter(unembedding=2 * a.d_model * n_columns * len(rows.scored))
    changed = np.zeros(len(graph.senders), dtype=bool)
    for r in range(receiver, len(graph.receivers)):
        node = graph.receivers[r]
        n_sums = int((circuit.present[:, r] & changed).sum())
        if r > receiver and not n_sums:
            continue
        n_rows = len(rows.live) if plan.all_live[r] else len(rows.scored)
        flops["sums"] += 2 * n_sums * a.d_model * n_rows
        senders = [graph.sender_index[n] for n in graph.consumers(node)]
        senders = [s for s in senders if plan.sends[s]]
        if node.component == "mlp" and senders:
            flops["MLPs"] += (6 if a.gated else 4) * a.d_model * a.d_mlp * n_rows
        elif node.port and senders:
            flops["q, k, v"] += 2 * a.d_model * a.d_head * n_rows
        for s in senders:
            if not changed[s] and node.port:
                flops += head(architecture, rows, len(rows.live) if plan.live_senders[s] else len(rows.scored))
            changed[s] = True
    return flops


def head(architecture: Architecture, rows: Rows, n_rows: int) -> Counter:
    """Count the operations of a head that reads a new q, k or v: at ``n_rows`` queries every key is seen."""
    d_head = architecture.d_head
    return Counter(attention=4 * n_rows * rows.n_pos * d_head) + Counter(
        {"heads' outputs": 2 * n_rows * d_head * architecture.d_model}
    )
