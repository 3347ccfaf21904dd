"""Summarise all methods of a study in one table: faithfulness and recovery of their circuits, and cost."""

from __future__ import annotations

import pandas as pd

from acdc.found import LABELS


def methods_table(
    faithfulness: pd.DataFrame, timing: pd.DataFrame, evaluations: pd.DataFrame, auc: pd.DataFrame | None
) -> pd.DataFrame:
    """Return one row per search and method, with faithfulness, recovery of the known circuit and cost.

    Args:
        faithfulness, timing, auc: the study's tables; ``auc`` is None if no circuit is known.
        evaluations: a table with a row per job that found circuits: ``LABELS``, and ``evaluations``, the number of its
            runs of the model.

    Returns:
        The columns of ``faithfulness``; ``auc`` and ``auc_trapezoid`` of edges against the first known circuit, if one
        is known; ``seconds`` and ``evaluations`` of all circuits together and ``max_rss_mib`` of the largest job, empty
        for the random control circuits, for which there was no search.
    """
    table = faithfulness
    if auc is not None:
        edges = auc[auc["level"] == "edge"].drop_duplicates(LABELS)
        table = table.merge(edges[[*LABELS, "auc", "auc_trapezoid"]], "left", LABELS)
    costs = timing.groupby(LABELS, sort=False).agg({"seconds": "sum", "max_rss_mib": "max"}).reset_index()
    runs = evaluations.groupby(LABELS, sort=False)["evaluations"].sum().astype("Int64").reset_index()
    return table.merge(runs, "left", LABELS).merge(costs, "left", LABELS)
