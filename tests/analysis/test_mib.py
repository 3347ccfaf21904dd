"""CPR and CMD are those of MIB's own code, on its scores: tests/vectors/mib/README.md."""

from __future__ import annotations

import numpy as np
import pytest

from acdc.analysis import mib as ours
from acdc.exchange import Layout
from acdc.graph import Circuit, EdgeScores, Graph
from acdc.metrics import LogitDifference
from tests import mib

CASES = [(name, method) for name in mib.SHAPES for method in mib.METHODS]


def scores(name: str, method: str) -> EdgeScores:
    graph = mib.setup(name).graph
    values = np.full(graph.exists.shape, np.nan)
    expected = mib.vectors()[name][method]["edges"]
    for edge, place in Layout.of(graph).places().items():
        values[place] = expected[edge]
    return EdgeScores(graph, values)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_areas_are_mibs(name, method):
    setup, signed = mib.setup(name), scores(name, method)
    for ranked, kind in ((signed, "signed"), (signed.absolute(), "absolute")):
        expected = mib.vectors()[name][method][kind]
        found = ours.areas(setup, LogitDifference, ours.of_scores(ranked))
        assert found == pytest.approx((expected["cpr"], expected["cmd"]), rel=1e-5)


@pytest.mark.parametrize("ablation", mib.ABLATIONS)
@pytest.mark.parametrize("name", mib.SHAPES)
def test_a_circuit_does_what_it_does_there(name, ablation):
    setup, circuit = mib.setup(name, mib.ABLATIONS[ablation]), scores(name, "EAP").absolute().top(40)
    if (name, ablation) == ("gpt2", "zero"):
        setup = mib.setup(name, "zero", split_embed=True)
        circuit = with_positions(circuit, setup.graph)
    expected = mib.vectors()[name]["circuit"][ablation]
    # Zeros are a difference there, which rounding keeps from 0, and a norm without variance enlarges that.
    bound = 1e-4 if ablation == "zero" else 1e-5
    assert -setup.value(circuit, LogitDifference) == pytest.approx(np.mean(expected), rel=bound)


def with_positions(circuit: Circuit, graph: Graph) -> Circuit:
    """The circuit where token and position embeddings are two senders, and no edge from positions is ever removed.

    EAP-IG's input is the token embedding alone. Under zero ablation that differs from ours, which has positions in it.
    """
    present = np.insert(circuit.present, 1, True, axis=0) & graph.exists
    return Circuit(graph, present, graph.has_direct)


def test_a_sweep_has_the_largest_circuit_that_is_no_larger():
    graph = mib.setup("gpt2").graph
    ranked, n = scores("gpt2", "EAP").absolute(), int(graph.exists.sum())
    sweep = [ranked.top(size) for size in (n // 10, n // 4, n // 5)]
    sizes = [int(circuit.present.sum()) for circuit in ours.of_sweep(sweep)]
    assert sizes == [0, 0, 0, 0, 0, 0, n // 10, n // 5, n // 4, n]
    assert [*ours.of_sweep([Circuit.empty(graph)])][-1] == Circuit.full(graph)
