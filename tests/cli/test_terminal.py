"""Test how the terminal shows circuits."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console, RenderableType

from acdc.cli.terminal import compared, shown
from acdc.found import Found
from acdc.graph import Circuit, Edge, Graph

GRAPH = Graph(2, 2, 2)
SETTINGS = {"task": "ioi", "model": "gpt2", "metric": "kl_divergence", "method": "acdc", "ablation": "zero"}
SETTINGS |= {"size_by": "threshold", "value": "0.1"}
EFFECTS = [("logits", "m1", "addition", 0.25), ("logits", "m0", "addition", 0.5)]
EFFECTS += [("logits", "embed", "addition", 0.01)]  # tried and removed
TRACE = pd.DataFrame(EFFECTS, columns=["receiver", "sender", "kind", "effect"])


def circuit(*pairs: tuple[str, str]) -> Circuit:
    return Circuit.from_edges(GRAPH, [Edge(*map(GRAPH.node, pair)) for pair in pairs])


def text(renderable: RenderableType) -> list[str]:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return [" ".join(line.strip("│┃ ").replace("│", "").split()) for line in capture.get().splitlines()]


CIRCUIT = circuit(("m1", "logits"), ("m0", "logits"), ("embed", "a1.h0.k"))


def found(final_metric: float | None = 0.0, trace: pd.DataFrame | None = TRACE, **result) -> Found:
    own = {"final_metric": final_metric, "converged": True, "origin": "found", **result}
    return Found(SETTINGS, CIRCUIT, own, trace)


def test_a_circuit_is_shown_with_where_it_is_from_its_nodes_and_its_edges_by_effect():
    lines = text(shown(found(0.123456), {}, 40))
    assert lines[0] == "ioi on gpt2: acdc by kl_divergence, threshold 0.1, zero ablation"
    sizes = f"3 of {GRAPH.n_edges} edges, 4 nodes; edges that reach the logits: 2"
    assert lines[1] == f"{sizes}; kl_divergence 0.1235 where it was found"
    rows = ["m0 logits addition 0.5", "m1 logits addition 0.25", "embed a1.h0.k addition"]
    assert [line for line in lines if "addition" in line] == rows
    layers = ["embed", "0 m0", "1 m1", "logits"]
    assert [line for line in lines if line in layers] == layers


def test_a_circuit_without_effects_has_no_column_of_them():
    lines = text(shown(found(trace=None), {}, 2))
    assert "Edges (2 of 3)" in lines and not any("effect" in line for line in lines)
    assert sum("addition" in line for line in lines) == 2


def test_a_circuit_of_scored_edges_has_their_scores_the_largest_first_whatever_their_sign():
    rows = [("m0", "logits", 0.25), ("m1", "logits", -0.5), ("embed", "logits", 9.0)]
    one = found(trace=None)
    one.scores = pd.DataFrame(rows, columns=["sender", "receiver", "score"])
    lines = text(shown(one, {}, 40))
    rows = ["m1 logits addition -0.5", "m0 logits addition 0.25", "embed a1.h0.k addition"]
    assert [line for line in lines if "addition" in line] == rows
    assert any(line.endswith("score") for line in lines) and not any("effect" in line for line in lines)


def test_a_circuit_whose_edges_all_reach_the_logits_is_not_told_so():
    one = Found(SETTINGS, circuit(("m1", "logits")), {"final_metric": None, "converged": True, "origin": "found"})
    assert text(shown(one, {}, 40))[1] == f"1 of {GRAPH.n_edges} edges, 2 nodes"


def test_what_a_circuit_lacks_stands_beside_its_size():
    lines = text(shown(found(None, converged=False, origin="imported"), {}, 2))
    assert lines[1] == f"3 of {GRAPH.n_edges} edges, 4 nodes; edges that reach the logits: 2; imported; not converged"


def test_nodes_are_shown_by_their_effect_where_it_was_measured():
    effects = {"m0": 0.125, "m1": -0.5, "embed": 0.25}
    lines = text(shown(found(), effects, 2))
    start = lines.index("Nodes by effect (2 of 3)")
    assert [line for line in lines[start:] if line.startswith(("m", "embed 0"))][:2] == ["m1 -0.5", "embed 0.25"]


def test_two_circuits_are_compared():
    lines = text(compared(CIRCUIT, circuit(("m1", "logits"), ("m0", "a1.h0.q")), 40))
    assert lines[0] == "first: 3 edges and 4 nodes; second: 2 edges and 3 nodes"
    assert lines[1] == "in both, of those in either (Jaccard): 0.250 of the edges, 0.750 of the nodes"
    assert "Only in the first (2 of 2)" in lines and "Only in the second (1 of 1)" in lines
    edges = [line for line in lines if "addition" in line]
    assert edges == ["embed a1.h0.k addition", "m0 logits addition", "m0 a1.h0.q addition"]


@pytest.mark.parametrize("other", [CIRCUIT, circuit(("embed", "a1.h0.k"), ("m0", "logits"), ("m1", "logits"))])
def test_the_same_circuit_has_no_difference(other):
    assert not any("Only" in line for line in text(compared(CIRCUIT, other, 40)))
