"""Test the drawing of a circuit: it shows the circuit's nodes and edges, and no others."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from acdc.errors import InputError
from acdc.figures.circuit import draw
from acdc.figures.edges import INPUTS
from acdc.figures.heads import fill_of
from acdc.figures.style import save
from acdc.graph import Circuit, Edge, Graph
from acdc.heads import Heads


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


def test_circuit_shows_its_nodes_and_edges_and_no_others(induction, texts):
    figure = draw(induction, trace(induction), "Induction")
    assert set(arrows(figure)) == {
        "embed -> a0.h1.v: a0.h1", "a0.h1 -> a1.h2.k: a1.h2", "embed -> a1.h2.v: a1.h2", "a1.h2 -> logits: logits",
    }  # fmt: skip
    assert sum(isinstance(patch, FancyBboxPatch) for patch in figure.axes[0].patches) == 4
    shown = texts(figure)
    assert {"Induction", "0.1", "1.2", "embed", "logits", "layer 0", "layer 1", "4 edges"} <= set(shown)
    assert "q" not in shown, "the legend names only what is drawn"


def test_heads_have_the_colours_of_their_names_and_a_dash_where_these_fail(induction, texts):
    rows = [("a0.h1", "previous token", True), ("a1.h2", "induction", False), ("a0.h0", "name mover", True)]
    heads = Heads(pd.DataFrame(rows, columns=["head", "name", "passed"]).assign(circuits=1))
    figure = draw(induction, trace(induction), "", heads=heads)
    drawn = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    at = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    boxes = {head: next(p for p in drawn if p.get_bbox().contains(*at[head])) for head in ("0.1", "1.2")}
    for head, name in (("0.1", "previous token"), ("1.2", "induction")):
        assert same_color(boxes[head].get_facecolor()[:3], fill_of(name))
    assert boxes["0.1"].get_linestyle() == "-" != boxes["1.2"].get_linestyle()
    assert {"previous token", "induction"} <= set(texts(figure)) and "name mover" not in texts(figure)


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


def test_edges_that_lead_nowhere_are_counted(texts):
    graph = Graph(n_layers=2, n_heads=2, n_kv_heads=2)
    circuit = circuit_of(graph, ("embed", "a1.h1.q"), ("m0", "logits"))
    figure = draw(circuit, trace(circuit), "")
    assert list(arrows(figure)) == ["m0 -> logits: logits"]
    assert "not drawn: 1 edge into" in " ".join(texts(figure))


def test_beyond_max_edges_the_strongest_are_drawn_with_their_way_to_the_logits(texts):
    graph = Graph(n_layers=3, n_heads=2, n_kv_heads=2)
    pairs = [("embed", "m0"), ("m0", "logits"), ("embed", "m1"), ("m1", "logits"), ("embed", "m2"), ("m2", "logits")]
    circuit = circuit_of(graph, *pairs)
    effects = trace(circuit, lambda i: 0.5).set_index(["sender", "receiver"])
    effects.loc[("embed", "m1"), "effect"] = 9.0
    effects.loc[("m1", "logits"), "effect"] = 0.1
    figure = draw(circuit, effects.reset_index(), "", max_edges=2)
    assert set(arrows(figure)) == {"embed -> m1: m1", "m1 -> logits: logits"}
    assert any(text.startswith("2 of 6 edges") for text in texts(figure))


def test_direct_edges_are_counted_but_not_drawn(induction, texts):
    induction.direct[induction.graph.receiver_index[induction.graph.node("a1.h2.k")]] = True
    figure = draw(induction, trace(induction), "")
    assert len(arrows(figure)) == 4
    assert "1 direct edge" in " ".join(texts(figure)).replace("\n", " ")


def test_a_circuit_without_edges_is_a_figure(induction, texts):
    figure = draw(Circuit.empty(induction.graph), trace(induction), "Nothing")
    assert {"logits", "0 edges"} <= set(texts(figure)) and not arrows(figure)


def test_equal_zero_and_negative_effects_can_be_drawn(induction):
    for effect in (lambda i: 0.3, lambda i: 0.0, lambda i: -0.1 * i):
        assert len(arrows(draw(induction, trace(induction, effect), ""))) == 4


def test_effects_must_hold_every_edge_and_no_nan(induction):
    effects = trace(induction)
    with pytest.raises(InputError, match=r"a0.h1 -> a1.h2.k .* no row"):
        draw(induction, effects[effects["sender"] != "a0.h1"], "")
    with pytest.raises(InputError, match=r"a1.h2 -> logits: .* nan"):
        draw(induction, effects.assign(effect=effects["effect"].where(effects["receiver"] != "logits")), "")
    with pytest.raises(InputError, match="max_edges"):
        draw(induction, effects, "", max_edges=0)


def test_saved_bytes_are_the_same_twice(tmp_path, induction):
    for name in "ab":
        save(draw(induction, trace(induction), "Induction"), [tmp_path / f"{name}.svg"])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
