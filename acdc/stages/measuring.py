"""What circuits do and recover."""

from __future__ import annotations

from pathlib import Path

from acdc.stages.files import read_circuits, read_tables, write_frame, write_table
from acdc.stages.flags import EngineFlags, load_engine


def evaluate(
    flags: EngineFlags,
    task: str,
    model_name: str,
    metric: str,
    method: str,
    circuits: list[Path],
    out: Path,
) -> None:
    """Measure found circuits on held-out prompts.

    Writes a row per circuit: its size, and every metric of the task with all other edges ablated.
    """
    from acdc import tasks
    from acdc.evaluation import circuit_rows

    engine = load_engine(flags)
    labels = {"task": task, "model": model_name, "metric": metric, "ablation": flags.ablation, "method": method}
    found = (
        ({**labels, "setting": settings["threshold"], "note": result["note"]}, circuit)
        for settings, result, circuit in read_circuits(circuits)
    )
    write_table(list(circuit_rows(engine, tasks.metrics_of(task), found)), out)


def controls(
    flags: EngineFlags,
    task: str,
    model_name: str,
    seeds: int,
    fractions: list[str],
    out: Path,
) -> None:
    """Measure random circuits, all edges and no edges on held-out prompts.

    Writes rows like those of evaluate: what a found circuit has to beat.
    """
    from acdc import tasks
    from acdc.evaluation import circuit_rows, random_circuits
    from acdc.graph import Circuit

    engine = load_engine(flags)
    labels = {"task": task, "model": model_name, "metric": "-", "ablation": flags.ablation}
    randoms = random_circuits(engine.graph, seeds, [float(fraction) for fraction in fractions])
    circuits = [
        ("full", "-", Circuit.full(engine.graph)),
        ("empty", "-", Circuit.empty(engine.graph)),
        *(("random", setting, circuit) for setting, circuit in randoms),
    ]
    named = (
        ({**labels, "method": method, "setting": setting, "note": "-"}, circuit)
        for method, setting, circuit in circuits
    )
    write_table(list(circuit_rows(engine, tasks.metrics_of(task), named)), out)


def nodes(flags: EngineFlags, task: str, model_name: str, metric: str, circuits: list[Path], out: Path) -> None:
    """Measure what removing each node of found circuits does to the metric.

    Writes a row per circuit and node: how much the metric rises on these prompts when all that the node sends in the
    circuit is removed. Effects of edges are in the traces: those are of when ACDC tried the edge.
    """
    import pandas as pd

    from acdc import tasks
    from acdc.evaluation import node_effects

    engine, kind = load_engine(flags), tasks.metrics_of(task)[metric]
    rows = [
        (settings["threshold"], node, effect)
        for settings, _, circuit in read_circuits(circuits)
        for node, effect in node_effects(engine, kind, circuit)
    ]
    # Circuits without an edge have no node: the columns stay.
    write_frame(pd.DataFrame(rows, columns=["threshold", "node", "effect"]), out)


def recover(task: str, model_name: str, circuits: list[Path], evaluation: Path, out: Path) -> None:
    """Compare found circuits with the known one.

    Writes a row per circuit, known circuit and level (edges, nodes, nodes as the paper counts them): true and false
    positives and negatives, their rates, and precision.
    """
    from acdc import tasks
    from acdc.recovery import LEVELS

    known_circuits = tasks.known_circuits(task, model_name)
    test = read_tables([evaluation]).set_index("setting")
    rows = []
    for settings, result, found in read_circuits(circuits):
        labels = {key: settings[key] for key in ("task", "model", "metric", "ablation", "method")}
        sizes = {key: result[key] for key in ("n_edges", "n_nodes")}
        measured = {key: result[key] for key in ("final_metric", "evaluations", "note")}
        measured["test_metric"] = test.loc[settings["threshold"], settings["metric"]]
        for known, circuit_of in known_circuits.items():
            for level, confusion in LEVELS.items():
                of_trained = "" if labels["model"] == model_name else " (trained)"
                which = {"known": known + of_trained, "level": level, "threshold": settings["threshold"]}
                counts = confusion(found, circuit_of(found.graph))
                rows.append(labels | which | sizes | counts.row() | measured)
    write_table(rows, out)
