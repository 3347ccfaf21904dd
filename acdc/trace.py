"""Read effects of edges from a search's trace, and scores of edges; write a trace as the original's log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acdc.errors import InputError
from acdc.graph import Edge, Graph
from acdc.tables import read_tables, using

Effects = dict[tuple[str, str, str], float]
"""By how much the metric rose without an edge when it was tried, by ``key_of`` the edge."""


def check_numbers(table: pd.DataFrame) -> None:
    """Check that every effect or score in a table is a finite number; raise ValueError if not."""
    for name in ("effect", "score"):
        if name in table and not np.isfinite(pd.to_numeric(table[name])).all():
            raise ValueError(f"a row has no number as its {name}")


def effects_of(trace: pd.DataFrame) -> Effects:
    """Return the effects of edges in a trace; an empty dictionary for a trace of training."""
    if "effect" not in trace:
        return {}
    columns = (trace[name] for name in ("receiver", "sender", "kind", "effect"))
    return {(receiver, sender, kind): effect for receiver, sender, kind, effect in zip(*columns, strict=True)}


def edge_scores_of(scores: pd.DataFrame) -> Effects:
    """Return the scores of edges in a table, as estimates of their effects; an empty dictionary for scores of nodes."""
    if "sender" not in scores:
        return {}
    columns = (scores[name] for name in ("receiver", "sender", "score"))
    return {(receiver, sender, "addition"): score for receiver, sender, score in zip(*columns, strict=True)}


def node_effects_of(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the effects of nodes in a table of the command ``nodes``: by the circuit's value, then the node's name."""
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby("value", sort=False)
    return {value: dict(zip(rows["node"], rows["effect"], strict=True)) for value, rows in groups}


def read_nodes(paths: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Read the effects of nodes, see ``node_effects_of``; raise InputError if a file is no table of them."""
    table = read_tables(paths)
    with using(*paths):
        check_numbers(table)
        return node_effects_of(table)


def key_of(edge: Edge) -> tuple[str, str, str]:
    """Return the key of an edge in ``Effects``: the names of its receiver and sender, and its kind."""
    return edge.receiver.name, edge.sender.name, edge.kind


def original_lines(trace: pd.DataFrame, graph: Graph) -> Iterator[str]:
    """Yield two lines per tried edge, as the original prints them (TLACDCExperiment.step).

    Args:
        trace: a table with the columns receiver, sender, kind, metric_before, metric_after, effect and removed.

    Raises:
        InputError: the trace is cut, or its search does not remove edges.
    """
    columns = ["receiver", "sender", "kind", "metric_before", "metric_after", "effect", "removed"]
    if missing := [name for name in columns if name not in trace]:
        raise InputError(f"the trace has no column {missing[0]}: it is not of ACDC, or damaged; find the circuit again")
    if len(lacking := trace[trace[columns].isna().any(axis=1)]):
        raise InputError(f"row {lacking.index[0] + 1} of the trace is cut: find the circuit again")
    rows: Iterable[Any] = trace.itertuples()
    for row in rows:
        hook, index = Edge(graph.node(row.sender), graph.node(row.receiver), row.kind).sender_hook
        position = ", ".join(":" if i is None else str(i) for i in index)
        before, after = f"(and current metric {row.metric_before})", f"is {row.metric_after}"
        yield f"Metric after removing connection to {hook} [{position}] {after} {before}"
        yield f"Result is {row.effect}...so {'removing' if row.removed else 'keeping'} connection"
