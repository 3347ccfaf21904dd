"""The figures say what the tables and circuits say, refuse what cannot be drawn, and are the same bytes twice."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from acdc.analysis.published import CURVE
from acdc.figures import curves, draw, pareto, roc, save
from acdc.figures.circuit import INPUTS
from acdc.graph import Circuit, Edge, Graph

KEYS = ["task", "model", "metric", "ablation", "method", "setting", "n_edges", "n_nodes"]


def evaluation(thresholds=("0.1", "0.03", "0.01"), n_seeds=3, sign=1.0, n_edges=(8, 40, 200)) -> pd.DataFrame:
    """``sign`` -1: a model that prefers the incorrect answers."""
    rows = []
    for i, (threshold, n) in enumerate(zip(thresholds, n_edges, strict=False)):
        kept = (i + 1) / 4
        rows.append(("kl_divergence", "acdc", threshold, n, 2 - 2 * kept, -4 * kept * sign))
        rows += [("-", "random", f"seed {s}", n, 2 + s / 10, -s / 10 * sign) for s in range(n_seeds)]
    rows += [("-", "full", "-", 1000, 0.0, -4.0 * sign), ("-", "empty", "-", 0, 2.0, -1.0 * sign)]
    rows = [("ioi", "gpt2", metric, "corrupted", *rest[:3], 5, *rest[3:]) for metric, *rest in rows]
    return pd.DataFrame(rows, columns=[*KEYS, "kl_divergence", "logit_difference"])


def texts(figure: Figure) -> list[str]:
    everything = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [artist.get_text() for artist in everything if artist.get_visible()]


def line(axes, label):
    return next(found for found in axes.get_lines() if found.get_label() == label)


# Pareto


def test_pareto_draws_kl_and_the_fraction_of_the_logit_difference():
    kl, kept = pareto(evaluation()).axes
    np.testing.assert_allclose(line(kl, "ACDC minimising KL divergence").get_xydata(), [[8, 1.5], [40, 1], [200, 0.5]])
    np.testing.assert_allclose(line(kept, "ACDC minimising KL divergence").get_ydata(), [0.25, 0.5, 0.75])
    assert "nats" in kl.get_ylabel() and "fraction" in kept.get_ylabel()
    levels = {t.get_text(): t.xy[1] for t in kept.texts if t.get_text().startswith(("model", "corrupted"))}
    assert levels == {"model": 1.0, "corrupted\nrun": 0.25}


def test_pareto_labels_points_with_thresholds_and_names_task_and_model():
    figure = pareto(evaluation())
    for axes in figure.axes:
        assert {"0.1", "0.03", "0.01"} <= {t.get_text() for t in axes.texts}
    assert figure.get_suptitle() == "ioi on gpt2"


def test_random_circuits_are_a_median_and_a_band_from_worst_to_best():
    kl = pareto(evaluation()).axes[0]
    (band,) = kl.collections
    y = band.get_paths()[0].vertices[:, 1]
    assert (y.min(), y.max()) == pytest.approx((2.0, 2.2))
    assert any(
        np.allclose(found.get_ydata(), [2.1, 2.1, 2.1]) for found in kl.get_lines() if len(found.get_xdata()) == 3
    )


def test_crowded_thresholds_do_not_overlap():
    thresholds = [f"{t:.3g}" for t in 10 ** np.linspace(0, -4, 21)]
    figure = pareto(evaluation(thresholds, n_seeds=0, n_edges=range(10, 52, 2)))
    for axes in figure.axes:
        boxes = [t.get_window_extent() for t in axes.texts if t.get_text() in thresholds]
        assert 2 <= len(boxes) < 21
        assert all(box.count_overlaps(boxes) == 1 for box in boxes), "each overlaps itself only"


def test_a_model_that_prefers_incorrect_answers_has_no_fraction():
    axes = pareto(evaluation(sign=-1.0)).axes[1]
    assert "incorrect" in axes.get_ylabel() and "fraction" not in axes.get_ylabel()
    np.testing.assert_allclose(line(axes, "ACDC minimising KL divergence").get_ydata(), [-1, -2, -3])


@pytest.mark.parametrize("table", [
    evaluation(thresholds=("0.1",)),
    evaluation(n_seeds=0),
    evaluation(n_seeds=1),
    evaluation(thresholds=()),
    evaluation(n_edges=(0, 40, 200)),
], ids=["one threshold", "no random", "one seed", "no ACDC", "a circuit without edges"])  # fmt: skip
def test_pareto_draws_sparse_tables(table, tmp_path):
    figure = pareto(table)
    save(figure, [tmp_path / "figure.png"])
    assert figure.axes[0].get_xscale() == ("symlog" if 0 in set(table["n_edges"][:-1]) else "log")
    assert ("random" in " ".join(texts(figure))) == ("random" in set(table["method"]))


def test_every_metric_column_has_a_panel():
    table = evaluation().drop(columns="logit_difference").assign(probability_difference=-0.5, l2=1.0)
    labels = [axes.get_ylabel() for axes in pareto(table).axes]
    assert len(labels) == 3 and labels[1].startswith("probability difference")


@pytest.mark.parametrize("column", ["kl_divergence", "n_edges", "setting"])
def test_nan_is_refused_by_column_and_row(column):
    table = evaluation()
    table[column] = table[column].astype(object if column == "setting" else float)
    table.loc[3, column] = np.nan
    with pytest.raises(ValueError, match=f"column {column}, row 3"):
        pareto(table)


def test_pareto_refuses_what_it_cannot_scale():
    table = evaluation()
    with pytest.raises(ValueError, match="full graph"):
        pareto(table[table["method"] != "full"])
    with pytest.raises(ValueError, match="one task"):
        pareto(pd.concat([table, table.assign(task="months")], ignore_index=True))
    with pytest.raises(ValueError, match="no column setting"):
        pareto(table.drop(columns="setting"))


# Circuits


def circuit_of(graph: Graph, *pairs: tuple[str, str]) -> Circuit:
    return Circuit.from_edges(graph, [Edge(graph.node(a), graph.node(b)) for a, b in pairs])


def trace(circuit: Circuit, effect=lambda i: 0.1 * (i + 1)) -> pd.DataFrame:
    rows = [(e.receiver.name, e.sender.name, e.kind, effect(i), False) for i, e in enumerate(circuit.edges)]
    return pd.DataFrame(rows, columns=["receiver", "sender", "kind", "effect", "removed"])


def arrows(figure: Figure) -> dict[str, FancyArrowPatch]:
    return {patch.get_gid(): patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)}


@pytest.fixture
def induction() -> Circuit:
    graph = Graph(n_layers=2, n_heads=4, n_kv_heads=4, has_mlp=False)
    pairs = [("embed", "a0.h1.v"), ("a0.h1", "a1.h2.k"), ("embed", "a1.h2.v"), ("a1.h2", "logits")]
    return circuit_of(graph, *pairs)


def test_circuit_shows_its_nodes_and_edges_and_no_others(induction):
    figure = draw(induction, trace(induction), "Induction")
    assert set(arrows(figure)) == {
        "embed -> a0.h1.v: a0.h1", "a0.h1 -> a1.h2.k: a1.h2", "embed -> a1.h2.v: a1.h2", "a1.h2 -> logits: logits",
    }  # fmt: skip
    assert sum(isinstance(patch, FancyBboxPatch) for patch in figure.axes[0].patches) == 4
    shown = texts(figure)
    assert {"Induction", "0.1", "1.2", "embed", "logits", "layer 0", "layer 1", "4 edges"} <= set(shown)
    assert "q" not in shown, "the legend names only what is drawn"


def test_edges_are_coloured_by_input_and_wider_with_effect(induction):
    drawn = arrows(draw(induction, trace(induction), ""))
    assert same_color(drawn["a0.h1 -> a1.h2.k: a1.h2"].get_edgecolor()[:3], INPUTS["k"])
    assert same_color(drawn["a1.h2 -> logits: logits"].get_edgecolor()[:3], INPUTS["logits"])
    widths = [drawn[f"{e.name}: {e.receiver.owner.name}"].get_linewidth() for e in induction.edges]
    assert widths == sorted(widths) and widths[0] < widths[-1]


def test_arrows_go_upwards_and_nodes_do_not_overlap():
    graph = Graph(n_layers=4, n_heads=9, n_kv_heads=3)
    full = Circuit.full(graph)
    axes = draw(full, trace(full), "", max_edges=150).axes[0]
    for patch in (p for p in axes.patches if isinstance(p, FancyArrowPatch)):
        path = patch._path_original
        assert path.vertices[-1, 1] > path.vertices[0, 1]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes), "each overlaps itself only"


def test_an_edge_into_a_shared_key_head_goes_to_every_live_head_of_the_group():
    graph = Graph(n_layers=2, n_heads=6, n_kv_heads=2)
    circuit = circuit_of(graph, ("m0", "a1.h1.k"), ("a1.h3", "logits"), ("a1.h5", "logits"), ("a1.h0", "logits"))
    drawn = {gid for gid in arrows(draw(circuit, trace(circuit), "")) if gid.startswith("m0")}
    assert drawn == {"m0 -> a1.h1.k: a1.h3", "m0 -> a1.h1.k: a1.h5"}


def test_edges_that_lead_nowhere_are_counted():
    graph = Graph(n_layers=2, n_heads=2, n_kv_heads=2)
    circuit = circuit_of(graph, ("embed", "a1.h1.q"), ("m0", "logits"))
    figure = draw(circuit, trace(circuit), "")
    assert list(arrows(figure)) == ["m0 -> logits: logits"]
    assert "1 into components that send nothing on" in " ".join(texts(figure))


def test_beyond_max_edges_the_strongest_are_drawn_with_their_way_to_the_logits():
    graph = Graph(n_layers=3, n_heads=2, n_kv_heads=2)
    pairs = [("embed", "m0"), ("m0", "logits"), ("embed", "m1"), ("m1", "logits"), ("embed", "m2"), ("m2", "logits")]
    circuit = circuit_of(graph, *pairs)
    effects = trace(circuit, lambda i: 0.5).set_index(["sender", "receiver"])
    effects.loc[("embed", "m1"), "effect"] = 9.0
    effects.loc[("m1", "logits"), "effect"] = 0.1
    figure = draw(circuit, effects.reset_index(), "", max_edges=2)
    assert set(arrows(figure)) == {"embed -> m1: m1", "m1 -> logits: logits"}
    assert any(text.startswith("2 of 6 edges: the strongest") for text in texts(figure))


def test_direct_edges_are_counted_but_not_drawn(induction):
    induction.direct[induction.graph.receiver_index[induction.graph.node("a1.h2.k")]] = True
    figure = draw(induction, trace(induction), "")
    assert len(arrows(figure)) == 4
    assert "1 direct (" in " ".join(texts(figure)).replace("\n", " ")


def test_a_circuit_without_edges_is_a_figure(induction):
    figure = draw(Circuit.empty(induction.graph), trace(induction), "Nothing")
    assert {"logits", "0 edges"} <= set(texts(figure)) and not arrows(figure)


def test_equal_zero_and_negative_effects_can_be_drawn(induction):
    for effect in (lambda i: 0.3, lambda i: 0.0, lambda i: -0.1 * i):
        assert len(arrows(draw(induction, trace(induction, effect), ""))) == 4


def test_effects_must_hold_every_edge_and_no_nan(induction):
    effects = trace(induction)
    with pytest.raises(ValueError, match=r"a0.h1 -> a1.h2.k .* no row"):
        draw(induction, effects[effects["sender"] != "a0.h1"], "")
    with pytest.raises(ValueError, match=r"a1.h2 -> logits: .* nan"):
        draw(induction, effects.assign(effect=effects["effect"].where(effects["receiver"] != "logits")), "")
    with pytest.raises(ValueError, match="max_edges"):
        draw(induction, effects, "", max_edges=0)


# Files


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_saved_bytes_are_the_same_twice(suffix, tmp_path, induction, monkeypatch):
    for run in ("1", "2"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", f"{run}000000000")  # a date in the file would differ
        save(pareto(evaluation()), [tmp_path / f"pareto{run}{suffix}"])
        save(draw(induction, trace(induction), "Induction"), [tmp_path / f"circuit{run}{suffix}"])
    for name in ("pareto", "circuit"):
        assert (tmp_path / f"{name}1{suffix}").read_bytes() == (tmp_path / f"{name}2{suffix}").read_bytes()


def test_pdf_fonts_are_type_42(tmp_path, induction):
    save(draw(induction, trace(induction), "Induction"), [tmp_path / "circuit.pdf"])
    content = (tmp_path / "circuit.pdf").read_bytes()
    assert b"/CIDFontType2" in content and b"/Type3" not in content


def test_save_refuses_other_formats_before_writing(tmp_path, induction):
    with pytest.raises(ValueError, match="figure.jpg"):
        save(draw(induction, trace(induction), ""), [tmp_path / "figure.png", tmp_path / "figure.jpg"])
    assert not list(tmp_path.iterdir())


# ROC


POINTS = pd.DataFrame(
    [["reverse", "own", "corrupted", "acdc", 0.1, 3, 0.0, 0.25, 0.0, 0.5]],
    columns=["task", "metric", "ablation", "method", "score", "n_edges", "edge_fpr", "edge_tpr"]
    + ["node_fpr", "node_tpr"],
)


def recovery(*curves: dict) -> pd.DataFrame:
    rows = []
    for curve in curves:
        usual = {"task": "reverse", "model": "reverse", "metric": "l2", "ablation": "corrupted", "method": "acdc"}
        labels = {**usual, "known": "published", "level": "edge", **curve}
        points = labels.pop("points", [(0.0, 0.5), (0.25, 0.75), (0.5, 0.6)])
        thresholds = labels.pop("thresholds", ["0.3", "0.2", "0.1"])
        named = zip(thresholds, points, strict=False)
        rows += [{**labels, "threshold": threshold, "fpr": fpr, "tpr": tpr} for threshold, (fpr, tpr) in named]
    return pd.DataFrame(rows)[[*CURVE, "threshold", "fpr", "tpr"]]


def panel(figure: Figure, row: int = 0, column: int = 0):
    return next(
        axes
        for axes in figure.axes
        if (spec := axes.get_subplotspec()).rowspan.start == row and spec.colspan.start == column
    )


def marked(axes) -> list[list[float]]:
    """Points, of the paper and then ours."""
    published = [found.get_xydata().tolist() for found in axes.get_lines() if found.get_linestyle() == "None"]
    return published + [np.asarray(found.get_offsets()).tolist() for found in axes.collections]


def test_roc_draws_the_staircase_that_is_the_area_and_marks_every_point():
    axes = panel(roc(recovery({}), POINTS, "edge"))
    (stairs,) = (found for found in axes.get_lines() if found.get_drawstyle() == "steps-post")
    assert stairs.get_xydata().tolist() == [[0, 0], [0, 0.5], [0.25, 0.75], [1, 1]]
    assert [[0, 0.5], [0.25, 0.75], [0.5, 0.6]] in marked(axes)
    assert "AUC 0.688" in [text.get_text() for text in axes.texts]  # 0.5 + 0.75 * 0.25


@pytest.mark.parametrize(
    ("curve", "level", "expected"),
    [
        ({}, "edge", [[0, 0.25]]),
        ({"level": "original_node"}, "original_node", [[0, 0.5]]),
        ({"task": "reverse_as_run", "ablation": "corrupted_permuted"}, "edge", [[0, 0.25]]),
        ({"ablation": "zero"}, "edge", []),
        ({"level": "node"}, "node", None),
        ({"known": "compiled"}, "edge", None),
    ],
)
def test_roc_shows_the_papers_points_where_there_are_some(curve, level, expected):
    ours, *theirs = reversed(marked(panel(roc(recovery(curve), POINTS, level))))
    assert theirs == ([] if expected is None else [expected])


def test_roc_has_a_panel_for_everything_that_was_run():
    table = recovery(
        {},
        {"ablation": "zero"},
        {"ablation": "zero", "metric": "output_difference"},
        {"model": "reverse_reset", "known": "published (trained)"},
        {"task": "sort", "model": "m", "known": "compiled", "metric": "kl_divergence"},
        {"task": "sort", "model": "m", "known": "compiled", "ablation": "zero"},
    )
    figure = roc(table, POINTS, "edge")
    assert [axes.get_title() for axes in figure.axes] == [
        "reverse\ncorrupted, L2\nknown: published",
        "reverse\nzero, L2\nknown: published",
        "reverse\nzero, output difference\nknown: published",
        "reverse reset\ncorrupted, L2\nknown: published (trained)",
        "sort on m\ncorrupted, KL divergence\nknown: compiled",
        "sort on m\nzero, L2\nknown: compiled",
    ]


def test_roc_takes_the_first_known_circuit_and_a_color_for_every_method_and_a_dash_for_kl():
    table = recovery({}, {"known": "compiled", "points": [(0.9, 0.9)]}, {"metric": "kl_divergence"}, {"method": "eap"})
    axes = panel(roc(table, POINTS, "edge"))
    assert [0.9, 0.9] not in sum(marked(axes), [])
    stairs = [found for found in axes.get_lines() if found.get_drawstyle() == "steps-post"]
    assert len(stairs) == 3 and len({found.get_color() for found in stairs}) == 2
    assert sum(found.get_linestyle() == "--" for found in stairs) == 1


@pytest.mark.parametrize("thresholds", (["1e-1", "0.02", "0.3"], ["top 9", "top 10", "top 3"]))
def test_roc_shades_points_by_their_threshold(thresholds):
    (points,) = panel(roc(recovery({"thresholds": thresholds}), POINTS, "edge")).collections
    assert points.get_array().tolist() == [0.5, 0.0, 1.0]
    middle, low, high = points.to_rgba(points.get_array())[:, :3].sum(1)
    assert low > middle > high


def test_roc_refuses_nan_and_a_level_that_is_not_there():
    with pytest.raises(ValueError, match="tpr"):
        roc(recovery({"points": [(0.1, np.nan)]}), POINTS, "edge")
    with pytest.raises(ValueError, match="no row of level node"):
        roc(recovery({}), POINTS, "node")


def test_roc_is_the_same_bytes_twice(tmp_path):
    for name in "ab":
        save(roc(recovery({}), POINTS, "edge"), [tmp_path / f"{name}.pdf", tmp_path / f"{name}.png"])
    for kind in ("pdf", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def compared(**kept: list[float]) -> pd.DataFrame:
    """An evaluation of three methods or more, by what each one's circuits keep of 4 (0 with all edges, 4 with none)."""
    rows = [("-", "full", "-", 100, 0.0, "-"), ("-", "empty", "-", 0, 4.0, "-")]
    rows += [("-", "random", f"seed {i}", n, 4.0 - i, "-") for i in range(2) for n in (10, 50)]
    for method, shares in kept.items():
        notes = ["not converged" if method == "sp" and i == 0 else "-" for i in range(len(shares))]
        rows += [
            ("l2", method, str(i), 10 * (i + 1), 4 - 4 * share, note)
            for i, (share, note) in enumerate(zip(shares, notes, strict=True))
        ]
    table = pd.DataFrame(rows, columns=["metric", "method", "setting", "n_edges", "l2", "note"])
    return table.assign(task="sort", model="m", ablation="zero")


THREE = {"acdc": [0.5, 1.0], "sp": [0.25, 0.5], "eap": [0.0, 3.0, -2.0]}


def test_curves_have_a_line_for_every_method_from_the_share_of_edges_to_what_is_kept():
    (axes,) = curves(compared(**THREE)).axes
    assert axes.get_title() == "sort, L2, zero"
    lines = {tuple(map(tuple, found.get_xydata().tolist())) for found in axes.get_lines()}
    assert {((10, 0.5), (20, 1)), ((10, 0.25), (20, 0.5)), ((10, 0), (20, 3), (30, -2))} <= lines
    assert ((10, 0.125), (50, 0.125)) in lines  # random: the median of 0 and 1/4


def test_curves_show_what_has_not_converged_and_what_is_beyond_the_panel():
    figure = curves(compared(**THREE))
    (axes,) = figure.axes
    hollow = {
        tuple(point): found.get_marker()
        for found in axes.get_lines()
        if found.get_markerfacecolor() == "white"
        for point in found.get_xydata().tolist()
    }
    low, high = axes.get_ylim()
    assert hollow == {(10, 0.25): "s", (20, high): "^", (30, low): "v"}
    assert "SP, not converged" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_have_a_panel_for_every_search_by_three_methods_and_one_colour_for_each():
    months = compared(eap=[0.1], sp=[0.2], hisp=[0.3]).assign(task="months")
    figure = curves(pd.concat([compared(**THREE), compared(acdc=[1.0], sp=[1.0]).assign(task="ioi"), months]))
    assert [axes.get_title() for axes in figure.axes] == ["sort, L2, zero", "months, L2, zero"]
    colors = [{line.get_color() for line in axes.get_lines() if line.get_marker() == "s"} for axes in figure.axes]
    assert colors[0] == colors[1] and len(colors[0]) == 1


def test_curves_refuse_nan_and_too_few_methods():
    with pytest.raises(ValueError, match="l2"):
        curves(compared(acdc=[np.nan], sp=[1.0], eap=[1.0]))
    with pytest.raises(ValueError, match="no search was done by 3 methods"):
        curves(compared(acdc=[1.0], sp=[1.0]))


def test_curves_are_the_same_bytes_twice(tmp_path):
    for name in "ab":
        save(curves(compared(**THREE)), [tmp_path / f"{name}.pdf", tmp_path / f"{name}.png"])
    for kind in ("pdf", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
