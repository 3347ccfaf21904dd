"""Compute faithfulness over circuits' sizes: how much of the model's behaviour the circuits of each method keep.

The areas use the circuits that a study has. MIB's CPR and CMD use circuits of fixed sizes, see ``acdc.analysis.mib``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from acdc.found import CONTROL, SEARCH


def is_constant(full: float, empty: float) -> bool:
    """Return whether the metric is the same with all edges and with none, so that faithfulness is not defined."""
    return bool(np.isclose(full, empty, rtol=1e-6, atol=1e-9))


def faithfulness(value: Float[np.ndarray, "circuit"], empty: float, full: float) -> Float[np.ndarray, "circuit"]:
    """Compute faithfulness: 1 for a circuit with the metric of all edges, 0 for one with the metric of no edges."""
    return (value - empty) / (full - empty)


def areas(size: Float[np.ndarray, "circuit"], faithful: Float[np.ndarray, "circuit"]) -> tuple[float, float]:
    """Compute the area under faithfulness over size, and the gap: the area between faithfulness and 1, by trapezoids.

    The circuits of no edges (faithfulness 0) and of all edges (faithfulness 1) are added.

    Args:
        size: Float[circuit], each circuit's share of all edges. Its edges count whether or not they reach the logits.
        faithful: Float[circuit], each circuit's faithfulness.
    """
    order = np.argsort(size, kind="stable")
    x, y = (np.concatenate([[0.0], points[order], [1.0]]) for points in (size, faithful))
    return float(np.trapezoid(y, x)), float(np.trapezoid(np.abs(1 - y), x))


def faithfulness_table(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Return one row per search and method, and one for random circuits: number of circuits, area and gap.

    Args:
        evaluation: a study's circuits and controls, with a column for every metric.
    """
    rows = [row for search in searches(evaluation) for row in rows_of_search(*search)]
    return pd.DataFrame(rows)


def searches(evaluation: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Yield for every search its labels, its circuits, and the controls of its task, model and ablation."""
    is_control = evaluation["origin"] == CONTROL
    for values, found in evaluation[~is_control].groupby(SEARCH, sort=False):
        labels = dict(zip(SEARCH, values, strict=True))
        same = [evaluation[key] == labels[key] for key in ("task", "model", "ablation")]
        yield labels, found, evaluation[np.logical_and.reduce([is_control, *same])]


def rows_of_search(labels: dict[str, Any], found: pd.DataFrame, controls: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield one row per method of a search, see ``faithfulness_table``.

    The area and the gap of random circuits are means over their seeds. Both are empty where the metric is the same with
    all edges and with none, see ``is_constant``.
    """
    metric = labels["metric"]
    ends = controls.drop_duplicates("method").set_index("method")
    full, empty = (cast(pd.Series, ends.loc[name]) for name in ("full", "empty"))
    constant = is_constant(full[metric], empty[metric])
    # Random circuits come from the controls, which have several seeds.
    random = controls[controls["method"] == "random"]
    circuits = pd.concat([found[found["method"] != "random"], random])
    for method, rows in circuits.groupby("method", sort=False):
        curves = [curve for _, curve in rows.groupby("seed")] if method == "random" else [rows]
        area, gap = (
            np.mean([areas_of(curve, metric, full, empty) for curve in curves], axis=0) if not constant else NONE
        )
        row = {**labels, "method": method, "n_circuits": len(rows), "area": area, "gap": gap, "is_constant": constant}
        yield row | {"n_not_converged": int((rows["converged"] == False).sum())}  # noqa: E712  None is not False


NONE = (np.nan, np.nan)


def areas_of(curve: pd.DataFrame, metric: str, full: pd.Series, empty: pd.Series) -> tuple[float, float]:
    """Return the area and the gap of some circuits of a search, see ``areas``."""
    size = (curve["n_edges"] / full["n_edges"]).to_numpy()
    return areas(size, faithfulness(curve[metric].to_numpy(), empty[metric], full[metric]))
