"""Test what figures share: methods' order, what has not converged, what cannot be drawn, where modules belong."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import acdc.figures
from acdc.catalogue import ABLATIONS, METHODS, METRICS
from acdc.errors import InputError
from acdc.figures.layout import canvas, draw_random, in_order, is_compared, not_converged, refuse_not_finite

FOLDER = Path(acdc.figures.__file__).parent
ROOMS = {"style", "layout", "edges", "places", "heads", "html"}
"""Modules that figures share."""


def test_methods_are_in_the_catalogues_order_and_unknown_ones_last(extend):
    extend("a", 'METHOD = Method(name="sixth", label="6th", kind="score")')
    assert in_order(["theirs", "sixth", "sp", "acdc", "sp"]) == ["acdc", "sp", "sixth", "theirs"]


def test_methods_that_use_no_prompts_are_not_compared(extend):
    extend("a", 'METHOD = Method(name="blind", label="blind", kind="score", uses_prompts=False)')
    assert is_compared(pd.Series(["acdc", "random", "blind", "theirs"])).tolist() == [True, False, False, True]


@pytest.mark.parametrize("through_a_file", [False, True])
def test_only_a_search_that_ended_early_has_not_converged(through_a_file):
    table = pd.DataFrame({"row": range(3), "converged": [True, False, None]})
    if through_a_file:
        table = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert not_converged(table).tolist() == [False, True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_column_and_row(value):
    with pytest.raises(InputError, match="column tpr, row 7"):
        refuse_not_finite(pd.Series([0.0, value], index=[3, 7], name="tpr"))


def test_random_circuits_are_a_median_and_a_band_from_worst_to_best():
    rows = pd.DataFrame({"size": [8, 40, 9, 40, 8, 41], "seed": [0, 0, 1, 1, 2, 2], "y": [1, 4, 2, 5, 9, 6]})
    axes = Figure().subplots()
    draw_random(axes, rows, "-")
    (line,), (band,) = axes.get_lines(), axes.collections
    assert line.get_xydata().tolist() == [[8, 2], [40, 5]]
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (low, high) == (1, 9)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_figure_has_as_many_panels_as_it_is_asked_for(n):
    figure, axes = canvas(n)
    assert len(axes) == len(figure.axes) == n


def modules() -> dict[str, ast.Module]:
    return {path.stem: ast.parse(path.read_text()) for path in FOLDER.glob("*.py") if path.stem != "__init__"}


def test_no_figure_imports_another():
    for name, tree in modules().items():
        used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        others = {module.removeprefix("acdc.figures.") for module in used if module.startswith("acdc.figures.")}
        assert others <= ROOMS, name


def test_no_figure_names_what_the_catalogue_declares():
    shared = {"random", "full", "empty"}  # the controls
    declared = {*METHODS, *METRICS, *ABLATIONS} - shared
    for name, tree in modules().items():
        constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not constants & declared, name
