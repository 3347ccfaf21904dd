"""Define the commands that measure circuits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts.types import PositiveInt

from acdc.catalogue import ABLATIONS
from acdc.cli.flags import AblationFlags, EngineFlags, OutFile, Seed, TaskFlags
from acdc.errors import InputError
from acdc.found import CONTROL, PRUNED, SEARCH, Found
from acdc.tables import read_tables, using, write_table

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    flags: AblationFlags,
    task: TaskFlags,
    *,
    circuits: list[Path],
    out: OutFile,
    known_of: str | None = None,
    recovery: OutFile | None = None,
) -> None:
    """Measure found circuits on held-out prompts, and compare them with a known circuit if there is one.

    Writes a row per circuit: its size, and every metric of the task with all other edges ablated. The table of recovery
    has a row per circuit, known circuit and level (edges, nodes, nodes as the paper counts them): true and false
    positives and negatives, their rates, and the precision. Without --known-of it has no rows.

    Args:
        circuits: circuit.json of each, or a circuits.json
        out: the table, .csv
        known_of: the model whose circuit is known; for a reset network, the trained model
        recovery: the table of recovery, .csv
    """
    import pandas as pd

    from acdc.analysis.evaluation import circuit_rows

    if known_of and not recovery:
        raise InputError("circuits are compared with the known one: give --recovery, the table that it goes into")
    engine, found = flags.load(), list(Found.load_all(circuits))
    table = pd.DataFrame(circuit_rows(engine, task.metrics(), ((one.row(), one.circuit) for one in found)))
    write_table(table, out)
    if recovery:
        write_table(compared(task, found, table, known_of), recovery)


def compared(task: TaskFlags, found: list[Found], table: pd.DataFrame, known_of: str | None) -> pd.DataFrame:
    """Return the table of recovery: how much of the known circuits each found circuit recovers.

    Args:
        table: the evaluation, a row per circuit in the order of ``found``.
    """
    import pandas as pd

    from acdc import tasks
    from acdc.analysis.recovery import COLUMNS, recovery_rows

    known: Mapping[str, Any] = tasks.known_circuits(task.task, known_of, task.module) if known_of else {}
    rows = []
    for one, (_, measured) in zip(found, table.iterrows(), strict=True):
        test = {"test_metric": measured[one.settings["metric"]]}
        rows += [{**row, **test} for row in recovery_rows(one, known, known_of or "")]
    return pd.DataFrame(rows, columns=None if rows else COLUMNS)


def controls(
    flags: EngineFlags,
    task: TaskFlags,
    *,
    ablations: list[str],
    seeds: int,
    out: OutFile,
    fractions: list[float] | None = None,
) -> None:
    """Measure random circuits, all edges and no edges on held-out prompts.

    Writes rows like those of evaluate, with origin control. A found circuit should beat these circuits.

    Args:
        ablations: the ablations, one after another
        seeds: the number of random orders of the edges
        out: the table, .csv
        fractions: sizes as shares of all edges; for each and every seed there is a random circuit
    """
    from acdc.analysis.evaluation import circuit_rows
    from acdc.analysis.evaluation import controls as all_controls

    rows: list[dict[str, Any]] = []
    for name in ablations:
        engine = flags.engine(ABLATIONS[name].name)
        labels = {"task": task.task, "model": flags.model_name, "metric": None, "ablation": name}
        ends = {"converged": None, "origin": CONTROL, PRUNED: 0}
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
        rows += circuit_rows(engine, task.metrics(), named)
    write_table(rows, out)


def nodes(flags: AblationFlags, task: TaskFlags, *, metric: str, circuits: list[Path], out: OutFile) -> None:
    """Measure by how much the metric rises without each node of found circuits.

    Writes a row per circuit and node: by how much the metric rises on these prompts when all the node's outgoing edges
    in the circuit are removed. Effects of edges are in the traces, measured when ACDC tried the edge. The command
    circuits writes this table for every circuit of ACDC.

    Args:
        metric: the metric that the circuits were found with
        circuits: circuit.json of each, or a circuits.json
        out: the table, .csv
    """
    from acdc.analysis.evaluation import node_table

    kind = task.metrics()[metric]
    write_table(node_table(flags.load(), kind, Found.load_all(circuits)), out)


def significance(
    flags: AblationFlags,
    task: TaskFlags,
    *,
    circuits: list[Path],
    random_circuits: PositiveInt,
    out: OutFile,
    seed: Seed = 0,
) -> None:
    """Test found circuits on held-out prompts by the hypothesis tests of Shi et al. 2024.

    Writes a row per circuit and test: the statistic, the p-value after correction, whether the null hypothesis is
    rejected at 0.05, and whether the circuit passes. A circuit passes equivalence, independence and minimality if the
    null hypothesis is not rejected, and sufficiency and partial necessity if it is rejected. Prompts are scored by the
    metric that the circuit was found with. If that is a distance to the model, they are scored by the task's first
    metric that is none; the column scored_by names it. Entries of tests that cannot be made are empty.

    Args:
        circuits: circuit.json of each, or a circuits.json
        random_circuits: number of random circuits, and of random edges, that each circuit is compared with; with fewer
            than 29 no circuit can pass sufficiency or partial necessity
        out: the table, .csv
        seed: the seed of everything random
    """
    from acdc.analysis.significance import Scorer, judged_by, significance_rows

    engine, metrics, found = flags.load(), task.metrics(), list(Found.load_all(circuits))
    judged = {own: judged_by(engine, metrics, own) for own in dict.fromkeys(one.settings["metric"] for one in found)}
    scorers = {name: Scorer(engine, metrics[name]) for name in dict.fromkeys(judged.values())}
    drawn, rows = {"random_circuits": random_circuits, "seed": seed}, list[dict[str, Any]]()
    for one in found:
        name = judged[one.settings["metric"]]
        labels = {**one.labels, "n_edges": one.circuit.n_edges, "scored_by": name}
        tests = significance_rows(scorers[name], one.circuit, n_random=random_circuits, seed=seed)
        rows += [{**labels, **row, **drawn} for row in tests]
    write_table(rows, out)


def mib(flags: AblationFlags, task: TaskFlags, *, circuits: list[Path], out: OutFile) -> None:
    """Compute CPR and CMD by the rules of MIB's circuit track, on held-out prompts (Mueller et al. 2025).

    Writes a row per method of one search. For a method that scores edges, circuits have ten sizes and the edges of
    largest score for CPR, of largest absolute score for CMD. For a method that is run for values, each of the sizes has
    the largest circuit that is no larger. Keys and values have a port for each query head, as in MIB's graph.

    Args:
        circuits: circuit.json of each, or a circuits.json with its scores beside it
        out: the table, .csv
    """
    from acdc.analysis.mib import by_method, cpr_and_cmd
    from acdc.found import LABELS, Sweep

    engine, metrics = replace(flags, kv_heads="per_query_head").load(), task.metrics()
    rows = []
    for found in by_method({path: Sweep.load(path).found for path in circuits}, engine.graph).values():
        settings = found[0].settings
        if settings["metric"] not in metrics:
            known = ", ".join(metrics)
            raise InputError(f"task {task.task} has no metric {settings['metric']}, of the circuits: it has {known}")
        cpr, cmd = cpr_and_cmd(engine, metrics[settings["metric"]], found)
        labels = {key: settings[key] for key in LABELS}
        rows.append({**labels, "n_circuits": len(found), "cpr": cpr, "cmd": cmd})
    write_table(rows, out)


def heads(
    flags: AblationFlags,
    task: TaskFlags,
    *,
    circuits: list[Path],
    out: OutFile,
    prompts: Literal["discovery", "test"] = "test",
    attention: OutFile | None = None,
) -> None:
    """Measure every attention head on prompts, propose a name for it, and test the name.

    Writes a row per head of the model, those in the circuits first: its attention on clean and corrupted prompts, its
    scores on repeated random tokens, the share of tokens that it copies, its direct effect on the logit difference, and
    the receivers of its edges of largest effect. A name is proposed if its rule holds, with its score and its rank
    among all heads. Names of heads in circuits are tested by cutting edges and by swapping tokens.

    Args:
        circuits: circuit.json of each, or a circuits.json; all of one search
        out: the table, .csv
        prompts: the name of the prompts in the table
        attention: for pages, the attention patterns of the circuits' heads on a few prompts, .json
    """
    from acdc.analysis.head_table import heads_in
    from acdc.found import Sweep
    from acdc.models.tokenizer import load_tokenizer

    found = [one for path in circuits for one in Sweep.load(path).found]
    tokenizer = load_tokenizer(flags.model) if attention else None
    made = heads_in(flags.load(), task.metrics(), found, tokenizer)
    made.table.insert(len(SEARCH), "prompts", prompts)
    made.save(out, attention)


def agreement(*, heads: list[Path], task: TaskFlags, known_of: str, out: OutFile) -> None:
    """Compare the names of heads with the classes that a paper gives them.

    Writes a row per head that has a name or a class, for every kind of prompts: both, and whether they agree. If no
    classes are published for the task and the model, the table has no rows.

    Args:
        heads: tables of the command heads
        known_of: the model whose heads are published; for a reset network, the trained model
        out: the table, .csv
    """
    from acdc import tasks
    from acdc.analysis import head_table

    published = tasks.load(task.task, task.module).known_heads.get(known_of)
    table = read_tables(heads)
    with using(*heads):
        made = head_table.agreement(table, published() if published else {})
    write_table(made, out)
