"""A trace in the form of the original implementation's log, for tools that read that."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from acdc.graph import Edge, Graph


def original_lines(trace: pd.DataFrame, graph: Graph) -> Iterator[str]:
    """Two lines per tried edge, as the original prints them (TLACDCExperiment.step).

    Args:
        trace: columns receiver, sender, kind, metric_before, metric_after, effect, removed.
    """
    for row in trace.itertuples():
        hook, index = Edge(graph.node(row.sender), graph.node(row.receiver), row.kind).sender_hook
        position = ", ".join(":" if i is None else str(i) for i in index)
        before, after = f"(and current metric {row.metric_before})", f"is {row.metric_after}"
        yield f"Metric after removing connection to {hook} [{position}] {after} {before}"
        yield f"Result is {row.effect}...so {'removing' if row.removed else 'keeping'} connection"
