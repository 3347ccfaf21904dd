"""Test the table that has all methods of a study."""

from __future__ import annotations

import pandas as pd

from acdc.analysis.summary import methods_table
from acdc.found import LABELS


def table(*rows: tuple, **columns: int) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*LABELS, *columns])


WHERE = ("ioi", "gpt2", "kl_divergence", "zero")
RUNS = pd.DataFrame([(*WHERE, "sp", 100), (*WHERE, "sp", 40)], columns=[*LABELS, "evaluations"])
KEPT = table((*WHERE, "sp", 0.7), (*WHERE, "random", 0.1), area=0)
COSTS = table((*WHERE, "sp", 2.0, 30.0), (*WHERE, "sp", 3.0, 20.0), ("months", *WHERE[1:], "sp", 9.0, 9.0), seconds=0,
              max_rss_mib=0)  # fmt: skip


def test_seconds_are_added_up_and_memory_is_the_largest():
    sp, random = methods_table(KEPT, COSTS, RUNS, None).to_dict("records")
    costs = {"evaluations": 140, "seconds": 5.0, "max_rss_mib": 30.0}
    assert sp == {**dict(zip(LABELS, (*WHERE, "sp"), strict=True)), "area": 0.7, **costs}
    assert random["area"] == 0.1 and pd.isna(random["seconds"]) and pd.isna(random["evaluations"])


def test_areas_are_of_edges_against_the_first_known_circuit():
    areas = [
        (*WHERE, "sp", "published", "node", 0.9, 0.8),
        (*WHERE, "sp", "published", "edge", 0.5, 0.6),
        (*WHERE, "sp", "compiled", "edge", 0.1, 0.2),
    ]
    auc = table(*areas, known=0, level=0, auc=0, auc_trapezoid=0)
    sp, random = methods_table(KEPT, COSTS, RUNS, auc).to_dict("records")
    assert (sp["auc"], sp["auc_trapezoid"]) == (0.5, 0.6) and pd.isna(random["auc"])
