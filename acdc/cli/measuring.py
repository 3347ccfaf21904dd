"""Commands that measure what circuits do and recover."""

from __future__ import annotations

from pathlib import Path

from acdc.cli.flags import EngineFlags, TaskFlags
from acdc.found import CONTROL, SIZE, Found
from acdc.tables import read_table, write_table


def evaluate(flags: EngineFlags, task: TaskFlags, *, circuits: list[Path], out: Path) -> None:
    """Measure found circuits on held-out prompts.

    Writes a row per circuit: its size, and every metric of the task with all other edges ablated.

    Args:
        circuits: circuit.json of each, or a circuits.json
        out: the table, .csv
    """
    from acdc.analysis.evaluation import circuit_rows

    engine = flags.load()
    found = ((one.row(), one.circuit) for one in Found.load_all(circuits))
    write_table(circuit_rows(engine, task.metrics(), found), out)


def controls(
    flags: EngineFlags, task: TaskFlags, *, seeds: int, out: Path, fractions: list[float] | None = None
) -> None:
    """Measure random circuits, all edges and no edges on held-out prompts.

    Writes rows like those of evaluate, with origin control: what a found circuit has to beat.

    Args:
        seeds: random orders of the edges
        out: the table, .csv
        fractions: shares of all edges; a random circuit of each for every seed
    """
    from acdc.analysis.evaluation import circuit_rows
    from acdc.analysis.evaluation import controls as all_controls

    engine = flags.load()
    labels = {"task": task.task, "model": flags.model_name, "metric": None, "ablation": flags.ablation}
    ends = {"converged": None, "origin": CONTROL}
    named = (
        (
            {
                **labels,
                "method": method,
                "size_by": None,
                "value": None,
                "seed": None if seed is None else str(seed),
                **ends,
            },
            circuit,
        )
        for method, seed, circuit in all_controls(engine.graph, seeds, fractions or [])
    )
    write_table(circuit_rows(engine, task.metrics(), named), out)


def nodes(flags: EngineFlags, task: TaskFlags, *, metric: str, circuits: list[Path], out: Path) -> None:
    """Measure what removing each node of found circuits does to the metric.

    Writes a row per circuit and node: how much the metric rises on these prompts when all that the node sends in the
    circuit is removed. Effects of edges are in the traces: those are of when ACDC tried the edge.

    Args:
        metric: that the circuits were found with
        circuits: circuit.json of each, or a circuits.json
        out: the table, .csv
    """
    import pandas as pd

    from acdc.analysis.evaluation import node_effects

    engine, kind = flags.load(), task.metrics()[metric]
    rows = [
        (*(one.settings[key] for key in SIZE), node, effect)
        for one in Found.load_all(circuits)
        for node, effect in node_effects(engine, kind, one.circuit)
    ]
    # Circuits without an edge have no node: the columns stay.
    write_table(pd.DataFrame(rows, columns=[*SIZE, "node", "effect"]), out)


def recover(task: TaskFlags, *, known_of: str, circuits: list[Path], evaluation: Path, out: Path) -> None:
    """Compare found circuits with the known one.

    Writes a row per circuit, known circuit and level (edges, nodes, nodes as the paper counts them): true and false
    positives and negatives, their rates, and precision.

    Args:
        known_of: the model whose circuit is known: for a reset network, the trained model
        circuits: circuit.json of each, or a circuits.json
        evaluation: the table of the same circuits
        out: the table, .csv
    """
    from acdc import tasks
    from acdc.analysis.recovery import recovery_rows

    known = tasks.known_circuits(task.task, known_of, task.module)
    test = read_table(evaluation).set_index(SIZE)
    rows = []
    for one in Found.load_all(circuits):
        measured = {"test_metric": test.loc[tuple(one.settings[key] for key in SIZE), one.settings["metric"]]}
        rows += [{**row, **measured} for row in recovery_rows(one, known, known_of)]
    write_table(rows, out)
