"""Compare areas under ROC curves with the numbers that the paper publishes."""

from __future__ import annotations

from typing import cast

import pandas as pd

from acdc.analysis.recovery import pessimistic_auc, trapezoid_auc
from acdc.catalogue import ABLATIONS, LEVELS, METHODS, METRICS
from acdc.found import LABELS

CURVE = [*LABELS, "known", "known_of", "level"]
"""The columns of recovery.csv that identify a ROC curve."""
ROW = ["task", "model", "known", "known_of", "metric", "level"]
"""The columns that identify a row of the paper's tables."""
PAPER = "_paper"
"""The suffix of the names of tasks that have the paper's own prompts."""
LEVEL_NAMES = {level.name: level.published for level in LEVELS.values() if level.published}
"""The levels that the paper publishes, under its names."""


def as_published(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels of curves under the names that acdc/assets/published uses: task, metric, ablation and method.

    The paper's corrupted ablation is compared with both of ours: its code permutes positions, its published points do
    not. A metric or ablation that the paper does not have keeps our name, which matches none of the paper's.
    """
    return pd.DataFrame(
        {
            "task": labels["task"].str.removesuffix(PAPER),
            "metric": labels["metric"].map(lambda name: METRICS[name].published or name),
            "ablation": labels["ablation"].map(lambda name: ABLATIONS[name].published or name),
            "method": labels["method"],
        }
    )


def comparison(auc: pd.DataFrame, ablation: str) -> pd.DataFrame:
    """Return areas as in the paper's Tables 2 (corrupted ablation) and 3 (zero ablation), beside the paper's own.

    Args:
        auc: a study's auc.csv.

    Returns:
        A row per task, model, known circuit, metric and level (edges, and nodes as the paper counts them). Each method
        has a column for our area and one for the paper's. Columns without any number are left out.

    Raises:
        ValueError: the study has no area for this ablation.
    """
    rows = auc[(auc["ablation"] == ablation) & auc["level"].isin(LEVEL_NAMES)]
    if rows.empty:
        raise ValueError(f"no area under {ablation} ablation")
    rows = rows.assign(level=rows["level"].map(LEVEL_NAMES)).set_index([*ROW, "method"])
    order = cast(pd.MultiIndex, rows.index).droplevel("method").drop_duplicates()
    ours, published = (rows[column].unstack("method").reindex(order) for column in ("auc", "published"))
    columns = {}
    for name, method in METHODS.items():
        if name in ours:
            columns[method.label] = ours[name]
            columns[f"{method.label} (paper)"] = published[name]
    return pd.DataFrame(columns).dropna(axis="columns", how="all").reset_index()


def auc_table(recovery: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return one row per ROC curve, with its area and the published area.

    Args:
        recovery: recovery.csv, one row per circuit, known circuit and level.
        published: acdc/assets/published/auc.csv.

    Returns:
        The columns of ``CURVE``; ``n_circuits``; ``auc`` and ``auc_trapezoid``, see ``acdc.analysis.recovery``; and
        ``published``, empty where the paper has no such number.
    """
    rows = []
    for labels, points in recovery.groupby(CURVE, sort=False):
        pairs = list(zip(points["fpr"], points["tpr"], strict=True))
        areas = {"auc": pessimistic_auc(pairs), "auc_trapezoid": trapezoid_auc(pairs)}
        rows.append({**dict(zip(CURVE, labels, strict=True)), "n_circuits": len(pairs), **areas})
    curves = pd.DataFrame(rows)
    # The paper publishes areas against published circuits, of trained models.
    own = (curves["known"] == "published") & (curves["known_of"] == curves["model"])
    keys = as_published(curves).assign(level=curves["level"].map(LEVEL_NAMES), own=own)
    long = published.melt(["task", "metric", "ablation", "method"], list(LEVEL_NAMES.values()), "level", "published")
    return curves.assign(published=keys.merge(long.assign(own=True), "left")["published"])
