"""How much of what the model does circuits keep, over their sizes: the measures of MIB (Mueller et al. 2025,
arXiv 2504.13151), for every method from the same table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

CONSTANT = "not defined: the metric is the same with all edges and with none"
SEARCH = ["task", "model", "metric", "ablation"]


def is_constant(full: float, empty: float) -> bool:
    """No circuit's faithfulness is defined: the metric is the same with all edges and with none, but for rounding."""
    return bool(np.isclose(full, empty, rtol=1e-6, atol=1e-9))


def faithfulness(value: Float[np.ndarray, "circuit"], empty: float, full: float) -> Float[np.ndarray, "circuit"]:
    """1 where a circuit's metric is that of all edges, 0 where it is that of none; it can be more and less."""
    return (value - empty) / (full - empty)


def areas(size: Float[np.ndarray, "circuit"], faithful: Float[np.ndarray, "circuit"]) -> tuple[float, float]:
    """CPR, the area under faithfulness, and CMD, that under its distance from 1, both by trapezoids.

    No edges, of faithfulness 0, and all of them, of 1, are added to the circuits.

    Args:
        size: shares of all edges.
    """
    order = np.argsort(size, kind="stable")
    x, y = (np.concatenate([[0.0], points[order], [1.0]]) for points in (size, faithful))
    return float(np.trapezoid(y, x)), float(np.trapezoid(np.abs(1 - y), x))


def faithfulness_table(evaluation: pd.DataFrame) -> pd.DataFrame:
    """One row per search and method, and one for random circuits: their number, CPR and CMD.

    Args:
        evaluation: a study's circuits and controls; every metric is a column.
    """
    is_control = evaluation["metric"] == "-"
    rows = []
    for labels, found in evaluation[~is_control].groupby(SEARCH, sort=False):
        named = dict(zip(SEARCH, labels, strict=True))
        same = [evaluation[key] == named[key] for key in ("task", "model", "ablation")]
        rows += rows_of_search(named, found, evaluation[np.logical_and.reduce([is_control, *same])])
    return pd.DataFrame(rows)


def rows_of_search(labels: dict[str, str], found: pd.DataFrame, controls: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One per method; CPR and CMD of random circuits are means over their seeds.

    Both are empty, and the note says so, where the metric is the same with all edges and with none.
    """
    metric = labels["metric"]
    ends = controls.set_index("method")
    full, empty = ends.loc["full"], ends.loc["empty"]
    # Of random circuits the controls have several seeds.
    circuits = pd.concat([found[found["method"] != "random"], controls[controls["method"] == "random"]])
    for method, rows in circuits.groupby("method", sort=False):
        if is_constant(full[metric], empty[metric]):
            cpr, cmd, note = np.nan, np.nan, CONSTANT
        else:
            curves = [curve for _, curve in rows.groupby("setting")] if method == "random" else [rows]
            cpr, cmd = np.mean([areas_of(curve, metric, full, empty) for curve in curves], axis=0)
            note = joined_note(rows["note"])
        yield {**labels, "method": method, "n_circuits": len(rows), "cpr": cpr, "cmd": cmd, "note": note}


def areas_of(curve: pd.DataFrame, metric: str, full: pd.Series, empty: pd.Series) -> tuple[float, float]:
    """CPR and CMD of some circuits of a search."""
    size = (curve["n_edges"] / full["n_edges"]).to_numpy()
    return areas(size, faithfulness(curve[metric].to_numpy(), empty[metric], full[metric]))


def joined_note(notes: pd.Series) -> str:
    """How many circuits have a note, and which."""
    noted = notes[notes != "-"]
    return f"{len(noted)} {noted.iloc[0]}" if len(noted) else "-"
