"""This project's numbers beside those that the paper publishes. Pure functions on tables."""

from __future__ import annotations

import pandas as pd

from acdc.recovery import pessimistic_auc, trapezoid_auc

CURVE = ["task", "model", "metric", "ablation", "method", "known", "level"]
"""Columns of recovery.csv whose values make one ROC curve."""
OWN = ("logit_difference", "probability_difference", "docstring_metric", "nll", "l2")
"""The tasks' own metrics in the paper."""
LEVELS = {"edge": "edge", "original_node": "node"}
"""The levels that the paper publishes, under its names."""


def as_published(labels: pd.DataFrame) -> pd.DataFrame:
    """Labels of curves as data/published names them: columns task, metric, ablation and method.

    A task that ends in ``_as_run`` is the paper's task too. The paper's corrupted ablation stands beside both of
    ours, for its code permutes positions and its published points do not.
    """
    return pd.DataFrame(
        {
            "task": labels["task"].str.removesuffix("_as_run"),
            "metric": labels["metric"].mask(labels["metric"].isin(OWN), "own"),
            "ablation": labels["ablation"].str.removesuffix("_permuted"),
            "method": labels["method"],
        }
    )


LABELS = ["task", "model", "known", "metric", "level"]
METHOD_NAMES = {"acdc": "ACDC", "sp": "SP", "hisp": "HISP", "eap": "EAP", "eap_ig": "EAP-IG", "random": "random"}


def comparison(auc: pd.DataFrame, ablation: str) -> pd.DataFrame:
    """Areas as the paper's Tables 2 (corrupted) and 3 (zero ablation) have them, the paper's own beside ours.

    Args:
        auc: a study's auc.csv.

    Returns:
        A row per task, model, known circuit, metric and level (edges, and nodes as the paper counts them). A column per
        method, and one more where the paper has a number for it; empty where there is none.

    Raises:
        ValueError: the study has no area under this ablation.
    """
    rows = auc[(auc["ablation"] == ablation) & auc["level"].isin(LEVELS)]
    if rows.empty:
        raise ValueError(f"no area under {ablation} ablation")
    rows = rows.assign(level=rows["level"].map(LEVELS)).set_index([*LABELS, "method"])
    order = rows.index.droplevel("method").drop_duplicates()
    ours, published = (rows[column].unstack("method").reindex(order) for column in ("auc", "published"))
    columns = {}
    for method, name in METHOD_NAMES.items():
        if method in ours:
            columns[name] = ours[method]
            columns[f"{name} (paper)"] = published[method]
    return pd.DataFrame(columns).dropna(axis="columns", how="all").reset_index()


def auc_table(recovery: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """One row per ROC curve.

    Args:
        recovery: recovery.csv, one row per circuit, known circuit and level.
        published: data/published/auc.csv.

    Returns:
        The columns of ``CURVE``; ``n_circuits``; ``auc`` and ``auc_trapezoid``, see ``acdc.recovery``; and
        ``published``, empty where the paper has no such number.
    """
    rows = []
    for labels, points in recovery.groupby(CURVE, sort=False):
        pairs = list(zip(points["fpr"], points["tpr"], strict=True))
        areas = {"auc": pessimistic_auc(pairs), "auc_trapezoid": trapezoid_auc(pairs)}
        rows.append({**dict(zip(CURVE, labels, strict=True)), "n_circuits": len(pairs), **areas})
    curves = pd.DataFrame(rows)
    keys = as_published(curves).assign(level=curves["level"].map(LEVELS), known=curves["known"])
    long = published.melt(["task", "metric", "ablation", "method"], list(LEVELS.values()), "level", "published")
    return curves.assign(published=keys.merge(long.assign(known="published"), "left")["published"])
