"""Test the figure of trained models beside their reset networks."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from acdc.errors import InputError
from acdc.figures.reset import trained_and_reset
from acdc.figures.style import look

COLUMNS = ["model", "ablation", "method", "known", "known_of", "level", "auc", "published"]
AREAS = [
    ("trained", "zero", "sp", "published", "trained", "edge", 0.625, None),
    ("trained", "zero", "acdc", "published", "trained", "edge", 1.0, 0.75),
    ("trained", "zero", "acdc", "published", "trained", "node", 0.1, None),
    ("trained", "zero", "acdc", "compiled", "trained", "edge", 0.2, None),
    ("trained", "corrupted", "acdc", "published", "trained", "edge", 0.3, None),
    ("reset", "zero", "acdc", "published", "reset", "edge", 0.7, None),
    ("reset", "zero", "acdc", "published", "trained", "edge", 0.5, None),
    ("reset", "zero", "sp", "published", "trained", "edge", 0.25, None),
    ("reset", "zero", "eap", "published", "trained", "edge", 0.25, None),
    ("reset", "zero", "acdc", "compiled", "trained", "edge", 0.6, None),
]
AUC = pd.DataFrame(AREAS, columns=COLUMNS).assign(task="reverse", metric="l2")
PAIR = {"reset": "trained"}


def points(axes: Axes) -> dict[tuple[float, float], str]:
    """Return the face of every point."""
    drawn = [line for line in axes.get_lines() if line.get_marker() != "None"]
    return {tuple(line.get_xydata()[0]): line.get_markerfacecolor() for line in drawn}


def methods(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_line_leads_from_the_reset_networks_area_to_the_trained_models():
    (axes,) = trained_and_reset(AUC, PAIR).axes
    assert methods(axes) == ["ACDC", "SP"]
    lines = [line.get_xydata().tolist() for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert [[0.5, 0], [1.0, 0]] in lines and [[0.25, 1], [0.625, 1]] in lines
    drawn = points(axes)
    assert same_color(drawn[1.0, 0], look("acdc")[0]) and drawn[0.5, 0] == "white"
    assert drawn[0.75, 0] == "none"  # the paper's
    assert set(drawn) == {(1.0, 0), (0.5, 0), (0.75, 0), (0.625, 1), (0.25, 1)}


def test_an_extension_has_a_line(extend):
    extend("a", 'METHOD = Method(name="sixth", label="Sixth", kind="score")')
    extend("b", 'ABLATION = AblationEntry(name="noise", label="Noise", run="noisy run")')
    (axes,) = trained_and_reset(AUC.replace({"sp": "sixth", "zero": "noise"}), PAIR).axes
    assert methods(axes) == ["ACDC", "Sixth"] and "Noise" in axes.get_title()
    assert same_color(points(axes)[0.625, 1], look("sixth")[0])


def test_pairs_that_were_not_both_run_are_refused():
    with pytest.raises(InputError, match="both a reset network and the model"):
        trained_and_reset(AUC, {"other": "trained"})


def test_an_area_that_is_missing_is_refused():
    with pytest.raises(InputError, match="auc_reset"):
        trained_and_reset(AUC.assign(auc=AUC["auc"].where(AUC["auc"] != 0.25)), PAIR)
