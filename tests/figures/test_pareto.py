"""Test the panels of metrics over sizes: they say what the table says, and refuse what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from acdc.errors import InputError
from acdc.figures.pareto import pareto
from acdc.figures.style import GREY, look, save

FOUND = {"origin": "found", "size_by": "threshold", "converged": True}
CONTROL = {"origin": "control", "metric": None}
SEARCHED = {"metric": "kl_divergence", "method": "acdc", **FOUND}


def evaluation(values=("0.1", "0.03", "0.01"), n_seeds=3, sign=1.0, n_edges=(8, 40, 200)) -> pd.DataFrame:
    """Return three circuits and controls; where ``sign`` is -1, the model prefers the incorrect answers."""
    rows = []
    for i, (value, n) in enumerate(zip(values, n_edges, strict=False)):
        kept = (i + 1) / 4
        measured = {"kl_divergence": 2 - 2 * kept, "logit_difference": -4 * kept * sign}
        rows.append({**SEARCHED, "value": value, "n_edges_reaching": n, **measured})
        for seed in range(n_seeds):
            measured = {"kl_divergence": 2 + seed / 10, "logit_difference": -seed / 10 * sign}
            rows.append({**CONTROL, "method": "random", "seed": seed, "n_edges_reaching": n, **measured})
    rows.append(
        {**CONTROL, "method": "full", "n_edges_reaching": 1000, "kl_divergence": 0.0, "logit_difference": -4.0 * sign}
    )
    rows.append(
        {**CONTROL, "method": "empty", "n_edges_reaching": 0, "kl_divergence": 2.0, "logit_difference": -1.0 * sign}
    )
    where = {"task": "ioi", "model": "gpt2", "ablation": "corrupted", "n_nodes": 5}
    columns = [*where, *SEARCHED, "value", "n_edges_reaching", "seed", "kl_divergence", "logit_difference"]
    return pd.DataFrame([{**where, **row} for row in rows]).reindex(columns=columns)


def line(axes: Axes, label: str):
    return next(found for found in axes.get_lines() if found.get_label() == label)


def level(axes: Axes, text: str) -> float:
    return next(note.xy[1] for note in axes.texts if note.get_text() == text)


def test_a_distance_is_drawn_in_its_unit_and_another_metric_as_the_share_that_is_kept():
    kl, kept = pareto(evaluation()).axes
    assert line(kl, "ACDC by KL divergence").get_xydata().tolist() == [[8, 1.5], [40, 1], [200, 0.5]]
    assert line(kept, "ACDC by KL divergence").get_ydata().tolist() == [0.25, 0.5, 0.75]
    assert "(nats)" in kl.get_ylabel() and "logits" not in kept.get_ylabel()
    assert (level(kept, "model"), level(kept, "corrupted\nrun")) == (1, 0.25)


def test_a_circuit_is_as_large_as_its_edges_that_reach_the_logits_however_many_were_chosen():
    axes = pareto(evaluation().assign(n_edges=500)).axes
    assert len(axes) == 2 and axes[0].get_xlabel() == "edges that reach the logits (of 1,000)"
    assert line(axes[0], "ACDC by KL divergence").get_xdata().tolist() == [8, 40, 200]


def test_where_the_models_own_value_has_the_wrong_sign_there_is_no_share_of_it():
    axes = pareto(evaluation(sign=-1.0)).axes[1]
    assert "(logits)" in axes.get_ylabel() and "share" not in axes.get_ylabel()
    assert line(axes, "ACDC by KL divergence").get_ydata().tolist() == [-1, -2, -3]


def test_points_have_the_value_that_their_search_was_run_with():
    sp = evaluation().assign(method="sp", size_by="regularisation")
    table = pd.concat(
        [evaluation(), sp[sp["origin"] == "found"].assign(n_edges_reaching=[20, 90, 500])], ignore_index=True
    )
    figure = pareto(table)
    for axes in figure.axes:
        assert {"0.1", "0.03", "0.01"} <= {t.get_text() for t in axes.texts}
    title = figure.legends[0].get_title().get_text()
    assert title.endswith("threshold, regularisation")


def test_values_of_several_metrics_have_their_units():
    other = evaluation().query("origin == 'found'").assign(metric="logit_difference", n_edges_reaching=[20, 90, 500])
    for axes in pareto(pd.concat([evaluation(), other], ignore_index=True)).axes:
        texts = {text.get_text() for text in axes.texts}
        assert {"0.1 nats", "0.1 logits"} & texts and "0.1" not in texts


@pytest.mark.parametrize("size_by", ["n_edges", "n_nodes"])
def test_sizes_are_not_written_at_points(size_by):
    table = evaluation()
    table.loc[table["origin"] == "found", "size_by"] = size_by
    figure = pareto(table)
    assert not {"0.1", "0.03", "0.01"} & {t.get_text() for axes in figure.axes for t in axes.texts}
    assert not figure.legends[0].get_title().get_text()


def test_crowded_values_do_not_overlap():
    values = [f"{t:.3g}" for t in 10 ** np.linspace(0, -4, 21)]
    figure = pareto(evaluation(values, n_seeds=0, n_edges=range(10, 52, 2)))
    for axes in figure.axes:
        boxes = [t.get_window_extent() for t in axes.texts if t.get_text() in values]
        assert 2 <= len(boxes) < 21
        assert all(box.count_overlaps(boxes) == 1 for box in boxes), "each overlaps itself only"


def test_metrics_that_were_minimised_are_told_apart_by_their_markers():
    tables = [evaluation(n_seeds=0).assign(metric=metric) for metric in ("kl_divergence", "logit_difference", "l2")]
    found = [table[table["origin"] == "found"] for table in tables]
    table = pd.concat([evaluation(), *found[1:]], ignore_index=True)
    axes = pareto(table).axes[0]
    drawn = [line(axes, f"ACDC by {metric}") for metric in ("KL divergence", "logit difference", "L2")]
    assert len({(found.get_fillstyle(), found.get_markerfacecolor()) for found in drawn}) == 3


@pytest.mark.parametrize("table", [
    evaluation(values=("0.1",)),
    evaluation(n_seeds=0),
    evaluation(n_seeds=1),
    evaluation(values=()),
    evaluation(n_edges=(0, 40, 200)),
], ids=["one value", "no random", "one seed", "nothing found", "a circuit without edges"])  # fmt: skip
def test_sparse_tables_are_drawn(table, tmp_path, texts):
    figure = pareto(table)
    save(figure, [tmp_path / "figure.png"])
    has_empty = 0 in set(table.loc[table["origin"] == "found", "n_edges_reaching"])
    assert figure.axes[0].get_xscale() == ("symlog" if has_empty else "log")
    assert ("random" in " ".join(texts(figure))) == ("random" in set(table["method"]))


def test_every_column_that_is_no_label_is_a_metric():
    table = evaluation().drop(columns="logit_difference").assign(probability_difference=-0.5, of_tomorrow=1.0)
    labels = [axes.get_ylabel() for axes in pareto(table).axes]
    assert len(labels) == 3
    assert labels[1].startswith("probability difference") and labels[2].startswith("of tomorrow")


def test_a_found_circuit_of_the_control_method_is_a_line_of_its_own():
    random = evaluation().assign(method="random")
    table = pd.concat([evaluation(n_seeds=0), random[random["origin"] == "found"]], ignore_index=True)
    assert line(pareto(table).axes[0], "random by KL divergence").get_color() == GREY


def test_extensions_have_labels_looks_and_units(extend):
    extend("a", 'METHOD = Method(name="sixth", label="Sixth", kind="search", sized_by="patience")')
    extend("b", 'METRIC = Metric(name="walk", label="walk", unit="miles", is_distance=True)')
    extend("c", 'ABLATION = AblationEntry(name="noise", label="noise", run="noisy run")')
    table = evaluation().rename(columns={"kl_divergence": "walk"}).assign(ablation="noise")
    found = table["origin"] == "found"
    own = table[found].assign(method="sixth", metric="walk", size_by="patience")
    axes = pareto(pd.concat([table[~found], own], ignore_index=True)).axes[0]
    drawn = line(axes, "Sixth by walk")
    assert (drawn.get_color(), drawn.get_marker()) == look("sixth") and drawn.get_color() != GREY
    assert "(miles)" in axes.get_ylabel() and level(axes, "noisy run") == 2


@pytest.mark.parametrize("column", ["kl_divergence", "n_edges_reaching", "value"])
def test_nan_is_refused_by_column_and_row(column):
    table = evaluation()
    table[column] = table[column].astype(object if column == "value" else float)
    table.loc[4, column] = np.nan
    assert table.loc[4, "origin"] == "found"
    with pytest.raises(InputError, match=f"column {column}, row 4"):
        pareto(table)


def test_what_cannot_be_scaled_is_refused():
    table = evaluation()
    with pytest.raises(InputError, match="full graph"):
        pareto(table[table["method"] != "full"])
    with pytest.raises(InputError, match="one task"):
        pareto(pd.concat([table, table.assign(task="months")], ignore_index=True))
    with pytest.raises(InputError, match="no column value"):
        pareto(table.drop(columns="value"))
