"""Measure methods by CPR and CMD, as MIB's circuit track does (Mueller et al. 2025, arXiv 2504.13151).

The rules are those of its code, hannamw/MIB-circuit-track at b759df3, ``evaluate_area_under_curve``. Circuits have ten
sizes, which are shares of all edges, rounded down. Edges lead between components, with a key and a value for each query
head. CPR is the area under faithfulness over these shares, CMD the area under the distance of faithfulness from 1, both
by trapezoids from the smallest share to 1. CPR ranks edges by their scores, CMD by the scores' absolute values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from acdc.analysis.faithfulness import faithfulness, is_constant
from acdc.catalogue import METHODS
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.exchange import EAP_JSON, EapCircuit, Layout
from acdc.found import SEARCH, Found
from acdc.graph import Circuit, EdgeScores, Graph
from acdc.metrics import MetricKind
from acdc.trace import Effects

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The sizes of MIB's circuits, as shares of all edges."""


def per_query_head(graph: Graph) -> Graph:
    """Return the graph with a key and a value for each query head."""
    return replace(graph, n_kv_heads=graph.n_heads)


def ungrouped(found: Found) -> tuple[Circuit, EdgeScores]:
    """Return a circuit and its scores in the graph with a key and a value for each query head.

    An edge into a shared key or value becomes an edge for each query head of the group, with an equal part of the
    score.

    Raises:
        InputError: token and position embeddings are two senders, which MIB's graph does not have.
    """
    spread = EapCircuit.of(found.circuit, found.importance)
    graph = per_query_head(found.circuit.graph)
    layout = Layout.of(graph)
    circuit, _ = EapCircuit(layout, spread.in_graph, spread.scores).read()
    return circuit, EdgeScores(graph, np.where(graph.exists, layout.gathered(spread.scores), np.nan))


def by_method(files: Mapping[Path, Sequence[Found]], graph: Graph) -> dict[str, list[Found]]:
    """Return the circuits of a search by the method that found them.

    Args:
        files: circuits by the file that they are from.
        graph: the engine's, with a key and a value for each query head.

    Raises:
        InputError: a circuit is of another model than the engine's, files are of two searches, a method that scores has
            no scores of edges, see ``check_ranked``, or has two files of scores.
    """
    sources: dict[str, list[Path]] = {}
    found: dict[str, list[Found]] = {}
    searches: dict[tuple[str, ...], Path] = {}
    for path, circuits in files.items():
        check_ranked(circuits, path)
        for one in circuits:
            if not one.circuit.graph.split_embed and per_query_head(one.circuit.graph) != graph:
                raise InputError(f"{path} is of another model: its graph is {one.circuit.graph}, this one's {graph}")
            searches.setdefault(tuple(one.settings[key] for key in SEARCH), path)
            found.setdefault(one.settings["method"], []).append(one)
        sources.setdefault(circuits[0].settings["method"], []).append(path)
    if len(searches) > 1:
        first, second = (f"{path} is of {'/'.join(labels)}" for labels, path in list(searches.items())[:2])
        raise InputError(f"{first} and {second}: give the circuits of one search")
    if twice := [name for name, paths in sources.items() if len(paths) > 1 and found[name][0].scores is not None]:
        first_file, second_file = sources[twice[0]][:2]
        raise InputError(f"{twice[0]} has scores in {first_file} and in {second_file}: give one of them")
    return found


def check_ranked(found: Sequence[Found], path: Path) -> None:
    """Check that a method that scores has scores of edges, so that it is not measured by its circuits; raise if not."""
    name = found[0].settings["method"]
    method = METHODS.get(name)
    if method is None or method.kind == "search":
        return
    if method.keeps == "nodes":
        raise InputError(f"{path} is of {name}, which scores nodes, and MIB's measures rank edges: leave it out")
    if found[0].scores is None:
        raise InputError(
            f"{path} is of {name}, which scores edges, and their {Found.SCORES} is not beside it: put it there, or find"
            " the circuits again"
        )


def of_scores(scores: EdgeScores) -> Iterator[Circuit]:
    """Yield for each of ``SHARES`` the circuit of the edges of largest score."""
    n_edges = int(scores.graph.exists.sum())
    return (scores.top(int(share * n_edges)) for share in SHARES)


def of_sweep(circuits: Sequence[Circuit]) -> Iterator[Circuit]:
    """Yield for each of ``SHARES`` the largest circuit of a sweep that has no more edges; the empty one without any.

    For the last share, all edges, it is the circuit of all edges.
    """
    graph = circuits[0].graph
    ends = [Circuit.empty(graph), Circuit.full(graph)]
    by_size = sorted([*circuits, *ends], key=lambda circuit: int(circuit.present.sum()))
    for share in SHARES:
        most = int(share * graph.exists.sum())
        yield [circuit for circuit in by_size if circuit.present.sum() <= most][-1]


def areas(engine: Engine, kind: MetricKind, circuits: Iterator[Circuit]) -> tuple[float, float]:
    """Compute the area under faithfulness over ``SHARES``, and the area under its distance from 1.

    Both are nan if the metric is the same with all edges and with none, since faithfulness is then not defined.
    """
    ends = (Circuit.full(engine.graph), Circuit.empty(engine.graph))
    full, empty = (engine.value(circuit, kind) for circuit in ends)
    if is_constant(full, empty):
        return np.nan, np.nan
    values: Float[np.ndarray, "share"] = np.array([engine.value(circuit, kind) for circuit in circuits])
    faithful = faithfulness(values, empty, full)
    return float(np.trapezoid(faithful, SHARES)), float(np.trapezoid(np.abs(1 - faithful), SHARES))


def write_submission(found: Sequence[Found], folder: Path, d_model: int | None) -> None:
    """Write a method's circuits as MIB's circuit track takes them, into a folder for one task and model.

    A method that scores gets one file with the score of every edge, ``importances.json``. Any other gets a circuit for
    each of ``SHARES`` below 1, such as ``0.1_percent.json``. Files are in EAP-IG's JSON.

    Raises:
        InputError: as ``acdc.exchange.write_eap_json``.
    """
    files: dict[str, tuple[Circuit, Effects]]
    if found[0].scores is not None:
        files = {"importances": (Circuit.full(found[0].circuit.graph), found[0].importance)}
    else:
        circuits = of_sweep([ungrouped(one)[0] for one in found])
        files = {f"{100 * share:g}_percent": (circuit, {}) for share, circuit in zip(SHARES, circuits, strict=True)}
        del files["100_percent"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, (circuit, effects) in files.items():
        EAP_JSON.write(circuit, effects, folder / f"{name}.json", d_model)


def cpr_and_cmd(engine: Engine, kind: MetricKind, found: Sequence[Found]) -> tuple[float, float]:
    """Compute CPR and CMD of a method: from its scores if it has some, otherwise from the circuits of its sweep.

    Args:
        engine: an engine whose graph has a key and a value for each query head.
        found: the circuits of one method.
    """
    if found[0].scores is None:
        return areas(engine, kind, of_sweep([ungrouped(one)[0] for one in found]))
    _, scores = ungrouped(found[0])
    sizes = replace(scores, score=np.abs(scores.score))
    return areas(engine, kind, of_scores(scores))[0], areas(engine, kind, of_scores(sizes))[1]
