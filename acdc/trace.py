"""The trace of a search: the effects in it, and its form as the original implementation's log."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from acdc.graph import Edge, Graph

Effects = dict[tuple[str, str, str], float]
"""By names of receiver and sender, and kind: what removing an edge did to the metric when it was tried."""


def effects_of(trace: pd.DataFrame) -> Effects:
    """The effects in a trace; none where it is of training."""
    if "effect" not in trace:
        return {}
    keys = trace[["receiver", "sender", "kind"]].itertuples(index=False, name=None)
    return dict(zip(keys, trace["effect"], strict=True))


def node_effects_of(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return effects of nodes by the circuit's value and the node's name, from the table of the command nodes."""
    groups = table.groupby("value", sort=False)
    return {value: dict(zip(rows["node"], rows["effect"], strict=True)) for value, rows in groups}


def key_of(edge: Edge) -> tuple[str, str, str]:
    """Of ``Effects``."""
    return edge.receiver.name, edge.sender.name, edge.kind


def original_lines(trace: pd.DataFrame, graph: Graph) -> Iterator[str]:
    """Two lines per tried edge, as the original prints them (TLACDCExperiment.step), for tools that read its log.

    Args:
        trace: columns receiver, sender, kind, metric_before, metric_after, effect, removed.
    """
    for row in trace.itertuples():
        hook, index = Edge(graph.node(row.sender), graph.node(row.receiver), row.kind).sender_hook
        position = ", ".join(":" if i is None else str(i) for i in index)
        before, after = f"(and current metric {row.metric_before})", f"is {row.metric_after}"
        yield f"Metric after removing connection to {hook} [{position}] {after} {before}"
        yield f"Result is {row.effect}...so {'removing' if row.removed else 'keeping'} connection"
