"""Circuits by every method, once or on resampled prompts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError
from acdc.stages.files import read_circuit, write_json, write_table
from acdc.stages.flags import EngineFlags, MethodFlags, load_engine, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acdc.engine import Engine
    from acdc.graph import Circuit, Scores
    from acdc.methods.acdc import Progress


def circuit(flags: EngineFlags, how: MethodFlags, out: Path) -> None:
    """Find circuits by ACDC or SP, one for each threshold. Killed, it goes on from its checkpoint.

    Writes circuit.json and trace.csv into a folder per threshold. By ACDC (Conmy et al. 2023, Algorithm 1) the trace
    has every tried edge with the metric before and after; by SP (subnetwork probing, Cao et al. 2021) every step of
    training. First it checks, on these prompts, that the engine computes what TransformerLens does.

    Example:
      python -m acdc circuit --task months --model data/test/models/tiny-llama --model-name tiny-llama \\
          --dataset data/test/datasets/tiny-llama/months/discovery.safetensors --metric kl_divergence \\
          --ablation zero --thresholds 0.3 --out found
    """
    from acdc import tasks

    tasks.check_metrics(how.task, [how.metric])
    run(load_engine(flags), flags, how, out)


def run(engine: Engine, flags: EngineFlags, how: MethodFlags, out: Path, **more: Any) -> None:
    """ACDC or SP, once for each threshold; ``more`` goes into the circuits' settings."""
    settings = settings_of(engine, flags, how) | more
    for threshold in how.thresholds:
        {"acdc": search, "sp": probe}[how.method](engine, settings | {"threshold": threshold}, out / threshold)


def search(engine: Engine, settings: dict[str, Any], out: Path) -> None:
    """One search, from its checkpoint where there is one; circuit.json and trace.csv in a folder of its own."""
    from acdc import checkpoint as checkpoints
    from acdc import tasks
    from acdc.methods.acdc import acdc

    checkpoint, threshold = out / "checkpoint.json", float(settings["threshold"])
    if is_found(out, settings):
        return
    progress = checkpoints.load(checkpoint, engine.graph, settings)
    with progress_bar(engine, progress) as after_step:
        progress = acdc(
            engine,
            engine.metric(tasks.metrics_of(settings["task"])[settings["metric"]]),
            threshold,
            head_order=settings["head_order"],
            progress=progress,
            after_layer=lambda p: checkpoints.save(checkpoint, p, settings),
            after_step=after_step,
        )
    warn_of_ties(progress, threshold, settings["precision"])
    result = {
        "n_edges": progress.circuit.n_edges,
        "n_nodes": len(progress.circuit.nodes),
        "final_metric": progress.metric,
        "tried": len(progress.trace),
        "evaluations": progress.evaluations,
        "smallest_margin": progress.smallest_margin(threshold),
        "float_error": progress.float_error,
        "near_ties": progress.near_ties(threshold),
        "note": "-",
    }
    write_table([row._asdict() for row in progress.trace], out / "trace.csv")
    write_json({"settings": settings, "result": result, "circuit": progress.circuit.to_json()}, out / "circuit.json")
    checkpoint.unlink(missing_ok=True)


def probe(engine: Engine, settings: dict[str, Any], out: Path) -> None:
    """One run of SP, from its checkpoint where there is one; files as those of ``search``."""
    from acdc import checkpoint as checkpoints
    from acdc import tasks
    from acdc.engine.masked import masked_models
    from acdc.methods.sp import sp
    from acdc.progress import StepBar

    checkpoint, kind = out / "checkpoint.pt", tasks.metrics_of(settings["task"])[settings["metric"]]
    if is_found(out, settings):
        return
    state = checkpoints.load_training(checkpoint, settings)
    with StepBar(settings["steps"], state) as bar:
        found = sp(
            list(masked_models(engine, settings["prompts_per_step"])),
            kind,
            float(settings["threshold"]),
            **{key: settings[key] for key in ("steps", "learning_rate", "seed")},
            state=state,
            after_step=lambda training: bar(training) and checkpoints.save_training(checkpoint, training, settings),
        )
    (final,) = engine.measure(engine.metric(kind), engine.finals(found.circuit))
    result = {
        "n_edges": found.circuit.n_edges,
        "n_nodes": len(found.circuit.nodes),
        "final_metric": final,
        "evaluations": len(found.trace),
        "note": "-" if found.converged else "not converged",
    }
    write_table([step._asdict() for step in found.trace], out / "trace.csv")
    write_json({"settings": settings, "result": result, "circuit": found.circuit.to_json()}, out / "circuit.json")
    checkpoint.unlink(missing_ok=True)


def is_found(out: Path, settings: dict[str, Any]) -> bool:
    """A circuit of these very settings is there already; a killed job of several finds the rest."""
    file = out / "circuit.json"
    return file.exists() and read_circuit(file)[0] == settings


def warn_of_ties(progress: Progress, threshold: float, precision: str) -> None:
    """Say on stderr that rounding may have made a decision, where it may have."""
    ties = progress.near_ties(threshold)
    if ties:
        more_digits = "precision: float64 for the task, or " if precision == "float32" else ""
        print(
            f"acdc: warning: {ties} of {len(progress.trace)} decisions came as near to the threshold {threshold:g} as"
            f" rounding reaches (nearest {progress.smallest_margin(threshold):.1e}, rounding"
            f" {progress.float_error:.1e}): another machine may decide otherwise;"
            f" {more_digits}another threshold settles it",
            file=sys.stderr,
        )


def progress_bar(engine: Engine, progress: Any) -> Any:
    from acdc.progress import EdgeBar

    return EdgeBar(engine.graph, progress)


def score(flags: EngineFlags, how: MethodFlags, out: Path) -> None:
    """Score every edge or node at once, and cut the scores at several sizes.

    By eap (Syed et al. 2023), eap_ig (Hanna et al. 2024), hisp (Michel et al. 2019, of heads and MLPs) or random.
    Writes scores.csv, and circuits.json with circuits of the best edges (of hisp, nodes) by their number.

    Example:
      python -m acdc score --task ioi --model data/test/models/tiny-llama --model-name tiny-llama \\
          --dataset data/test/datasets/tiny-llama/ioi/discovery.safetensors --metric logit_difference \\
          --ablation corrupted --method eap --fractions 0.01 0.1 --out scored
    """
    from acdc import tasks

    tasks.check_metrics(how.task, [how.metric])
    scores, found = scored(load_engine(flags), flags, how)
    write_table(scores.rows(), out / "scores.csv")
    write_json(found, out / "circuits.json")


def scored(engine: Engine, flags: EngineFlags, how: MethodFlags) -> tuple[Scores, list[dict[str, Any]]]:
    """Scores, and circuits of the best by them as ``read_circuits`` reads them."""
    from acdc import tasks
    from acdc.evaluation import nested_circuits
    from acdc.methods import scoring

    kind = tasks.metrics_of(how.task)[how.metric]
    scores, metric = scoring.score(how.method, engine, kind, how.ig_steps), engine.metric(kind)
    settings, found = settings_of(engine, flags, how), []
    evaluations = {"eap_ig": how.ig_steps, "random": 0}.get(how.method, 1)
    for size, circuit in nested_circuits(scores.absolute(), [float(fraction) for fraction in how.fractions]):
        (final,) = engine.measure(metric, engine.finals(circuit))
        sizes = {"n_edges": circuit.n_edges, "n_nodes": len(circuit.nodes)}
        result = {**sizes, "final_metric": final, "evaluations": evaluations, "note": "-"}
        found.append({"settings": settings | {"threshold": size}, "result": result, "circuit": circuit.to_json()})
    return scores, found


def stability(flags: EngineFlags, how: MethodFlags, resamples: int, work: Path, out: Path) -> None:
    """Find circuits on bootstrap resamples of the prompts, and tell how much they overlap.

    Writes a table with the mean Jaccard overlap of all pairs of resamples, of edges and of nodes, and the interval that
    95% of the pairs lie in.
    """
    from acdc import tasks
    from acdc.stability import stability_rows

    tasks.check_metrics(how.task, [how.metric])
    if resamples < 2:
        raise InputError(f"{resamples} resamples have no overlap: give at least two")
    found: dict[str, list[Circuit]] = {}
    for i in range(resamples):
        for threshold, circuit in on_resample(flags, how, i, work / str(i)):
            found.setdefault(threshold, []).append(circuit)
    # Where scores are cut at every size, some sizes may be of some resamples only.
    of_all = {threshold: circuits for threshold, circuits in found.items() if len(circuits) == resamples}
    labels = {"task": how.task, "model": how.model_name, "metric": how.metric, "ablation": flags.ablation}
    write_table([{**labels, "method": how.method, **row} for row in stability_rows(of_all)], out)
    shutil.rmtree(work, ignore_errors=True)


def on_resample(flags: EngineFlags, how: MethodFlags, i: int, work: Path) -> Iterator[tuple[str, Circuit]]:
    """Thresholds and circuits of one bootstrap resample of the prompts; those of a killed job are not found again."""
    from acdc.graph import Circuit

    engine = load_engine(flags, resample=i)
    if how.method in ("acdc", "sp"):
        run(engine, flags, how, work, resample=i)
        for threshold in how.thresholds:
            yield threshold, read_circuit(work / threshold / "circuit.json")[2]
    else:
        for entry in scored(engine, flags, how)[1]:
            yield entry["settings"]["threshold"], Circuit.from_json(entry["circuit"])
