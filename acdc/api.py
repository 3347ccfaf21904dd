"""Find circuits from Python: a model, prompts, a circuit."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch

from acdc import catalogue, tasks
from acdc.catalogue import METHODS, METRICS, Method
from acdc.data import Dataset
from acdc.engine.load import settings_of
from acdc.errors import InputError
from acdc.found import Found, Sweep
from acdc.graph import Circuit
from acdc.methods import driver
from acdc.methods.acdc import acdc
from acdc.metrics import Metric
from acdc.models.model import Model, load_model
from acdc.reference import Reference
from acdc.text import Prompt, of_tokens, to_dataset

__all__ = ["find", "load", "load_model", "metric", "prompts", "task_prompts"]

Function = TypeVar("Function", bound=Callable[..., torch.Tensor])
Values = Sequence[float | str]
MetricLike = str | Callable[..., torch.Tensor] | catalogue.Metric


# Prompts.


def prompts(
    model: Model,
    table: str | Path | Mapping[str, Any] | Any | None = None,
    *,
    clean: Sequence[Any] = (),
    corrupted: Sequence[Any] = (),
    correct: Sequence[Any] = (),
    incorrect: Sequence[Any] = (),
) -> Dataset:
    """Make a dataset of clean prompts, a corrupted one for each, and two answers that may follow the clean one.

    Args:
        model: whose tokenizer is used.
        table: the four columns by name, in place of the four lists: a CSV file, a pandas DataFrame, a
            ``datasets.Dataset`` or a dictionary.
        clean, corrupted: texts, as many tokens each pair; or lists of token ids, or Int[prompt pos].
        correct, incorrect: answers of one token each: words that follow the clean text after a space, or token ids
            where the prompts are token ids.

    Returns:
        The dataset, scored at the last token of each prompt; ``dataset[:20]`` are its first 20 prompts.

    Raises:
        InputError: the lists differ in length, a pair of prompts differs in tokens, an answer is not one token, or a
            column is missing.
    """
    lists = {"clean": clean, "corrupted": corrupted, "correct": correct, "incorrect": incorrect}
    columns = {name: list(column) for name, column in (lists if table is None else columns_of(table)).items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["clean"]:
        said = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise InputError(f"prompts need one entry of each kind: there are {said}")
    rows = [Prompt(*row) for row in zip(*columns.values(), strict=True)]
    of_text = [isinstance(value, str) for row in rows for value in row]
    if all(of_text):
        return to_dataset(model.tokenizer, rows, task="prompts")
    if any(of_text):
        raise InputError("prompts and answers are all texts or all token ids: these are some of both")
    return of_tokens(rows, task="prompts")


def columns_of(table: Any) -> dict[str, Iterable[Any]]:
    """Return the four columns of a table.

    Raises:
        InputError: a column is missing, or the file is no CSV.
    """
    where = str(table) if isinstance(table, (str, Path)) else "the table"
    if isinstance(table, (str, Path)):
        table = read_csv(Path(table))
    names = list(getattr(table, "column_names", None) or table)
    if missing := [name for name in Prompt._fields if name not in names]:
        raise InputError(f"{where} has no column {missing[0]}: it needs {', '.join(Prompt._fields)}")
    return {name: table[name] for name in Prompt._fields}


def read_csv(path: Path) -> dict[str, list[str]]:
    """Return the columns of a CSV file by name; every entry is the text that stands there."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [row[name] or "" for row in rows] for name in reader.fieldnames or ()}


def task_prompts(model: Model, task: str | Path, n_prompts: int, *, seed: int = 0, **options: Any) -> Dataset:
    """Make prompts of a task that ships, such as ``ioi``, or of one that a file of yours defines.

    Args:
        task: the name of a module of ``acdc.tasks``, or the path of a file that assigns ``TASK``.
        n_prompts: pairs of prompts.
        seed: of the prompts.
        options: the task's, see its module.

    Raises:
        InputError: there is no such task, or the model's tokenizer cannot make its prompts.
    """
    is_file = isinstance(task, Path) or task.endswith(".py")
    definition = tasks.of_file(Path(task)) if is_file else tasks.load(str(task))
    tasks.check_options(str(task), definition, options)
    return definition.make_dataset(model.tokenizer, n_prompts, seed, **options)


# Metrics.


def metric(
    function: Function | None = None,
    *,
    name: str | None = None,
    label: str | None = None,
    unit: str = "",
    is_distance: bool = False,
) -> Any:
    """Declare a metric of your own, as a decorator: then tables and figures have its label and unit.

    Args:
        function: ``(logits, dataset) -> values``, see ``acdc.metrics.FunctionMetric``. Lower is better.
        name: in tables; by default the function's.
        label: in figures; by default the name with spaces.
        unit: of its values.
        is_distance: whether it is 0 at the whole model, where its slope is 0 too.

    Returns:
        The function itself.

    Raises:
        InputError: the name is taken.
    """
    if function is None:
        return lambda later: metric(later, name=name, label=label, unit=unit, is_distance=is_distance)
    named = str(name or getattr(function, "__name__", ""))
    own = named if named.isidentifier() else "own_metric"
    shown = label or own.replace("_", " ")
    METRICS.add(catalogue.Metric(name=own, label=shown, unit=unit, is_distance=is_distance, function=function))
    return function


def named(chosen: MetricLike) -> str:
    """Return the name of a metric in the catalogue; a function that is not there yet is added.

    Raises:
        InputError: there is no metric of that name.
    """
    if isinstance(chosen, str):
        return METRICS[chosen].name
    if isinstance(chosen, catalogue.Metric):
        if METRICS.entries.get(chosen.name) != chosen:
            METRICS.add(chosen)
        return chosen.name
    known = [entry.name for entry in METRICS.values() if entry.function is chosen]
    if not known:
        metric(chosen)
        return named(chosen)
    return known[0]


# Circuits.


@overload
def find(
    model: Model,
    prompts: Dataset,
    *,
    metric: MetricLike,
    thresholds: Values,
    method: str = ...,
    ablation: str = ...,
    engine: Literal["fast", "plain"] = ...,
    split_embed: bool = ...,
    device: str = ...,
    precision: str = ...,
    memory_gib: float | Literal["auto"] = ...,
    task: str | None = ...,
    folder: str | Path | None = ...,
    **settings: Any,
) -> Sweep: ...


@overload
def find(
    model: Model,
    prompts: Dataset,
    *,
    metric: MetricLike,
    method: str = ...,
    ablation: str = ...,
    engine: Literal["fast", "plain"] = ...,
    split_embed: bool = ...,
    device: str = ...,
    precision: str = ...,
    memory_gib: float | Literal["auto"] = ...,
    task: str | None = ...,
    folder: str | Path | None = ...,
    **settings: Any,
) -> Found: ...


def find(
    model: Model,
    prompts: Dataset,
    *,
    metric: MetricLike,
    method: str = "acdc",
    ablation: str = "corrupted",
    engine: Literal["fast", "plain"] = "fast",
    split_embed: bool = False,
    device: str = "auto",
    precision: str = "float32",
    memory_gib: float | Literal["auto"] = "auto",
    task: str | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> Found | Sweep:
    """Find a circuit, or several of a sweep.

    Args:
        model: see ``load_model``.
        prompts: what to find it on, see ``prompts``.
        metric: what is minimised: a name in the catalogue, or a function, see ``acdc.metric``.
        method, ablation: names in the catalogue.
        engine: ``plain`` runs ACDC as the paper writes it, by one forward pass through TransformerLens per tried edge:
            slow, for whoever doubts the fast one.
        split_embed: token and position embeddings are two senders.
        device: ``auto`` takes CUDA where there is one; or ``cpu``, ``cuda``, ``cuda:1``.
        precision: ``float32`` or ``float64``.
        memory_gib: what candidates may use, in GiB. Less is slower and never gives another result. ``auto`` is most of
            what a GPU has free, and 2 on a CPU.
        task: what tables call the prompts; by default what the prompts say of themselves.
        folder: where circuits and, meanwhile, checkpoints are written. A call that is stopped, by Ctrl-C too, goes on
            from there when it is made again; of a sweep, each value has a folder of its name there.
        settings: the method's, and what sets the circuit's size: ``threshold`` of ACDC, ``regularisation`` of SP,
            ``n_edges`` or ``n_nodes`` of methods that score. ``thresholds=[...]``, ``regularisations=[...]``,
            ``n_edges=[...]`` or ``n_nodes=[...]`` make a sweep.

    Returns:
        The circuit with its trace; or a sweep of circuits, in the order of the values.

    Raises:
        InputError: a name is unknown, a setting is not the method's, or the engine does not cover the model.
    """
    if not isinstance(model, Model):
        raise InputError(f"find needs a model of acdc.load_model, not {type(model).__name__}: load it first")
    chosen, measured = METHODS[method], named(metric)
    values, is_sweep, own = sized(chosen, settings)
    about = task or str(prompts.about.get("task", "prompts"))
    labels = {"method": method, "task": about, "model": model.name, "metric": measured, "ablation": ablation}
    parsed = chosen.parse({name: str(setting) for name, setting in own.items()})
    catalogue.check_suits(chosen, METRICS[measured])
    full = settings_of(labels, parsed, model.sha256, prompts, split_embed=split_embed, precision=precision)
    where = Path(folder) if folder else None
    if engine == "plain":
        found = [plain(model, prompts, full | {"size_by": chosen.size_by, "value": value}) for value in values]
    else:
        made = model.engine(
            prompts,
            ablation=ablation,
            split_embed=split_embed,
            device=device,
            precision=precision,
            memory_gib=memory_gib,
        )
        full |= {"engine": engine, "device": made.device.type}
        if chosen.kind == "score":
            found = driver.score(made, full, sizes=[int(value) for value in values])
        elif is_sweep:
            found = list(driver.find(made, full, values, where))
        else:
            found = [driver.find_one(made, full, values[0], where)]
    sweep = Sweep(replace(one, model=model) for one in found)
    if where and (engine == "plain" or chosen.kind == "score"):  # a search writes what it finds when it is found
        sweep.save(where) if is_sweep else sweep[0].save(where)
    return sweep if is_sweep else sweep[0]


def sized(method: Method, settings: dict[str, Any]) -> tuple[list[str], bool, dict[str, Any]]:
    """Return the values that set circuits' sizes, as texts, whether they are a sweep, and the other settings.

    Raises:
        InputError: there is no value, or one is no number.
    """
    one = method.size_by
    several = method.values_key if method.kind == "search" else one
    given = [name for name in dict.fromkeys((one, several)) if name in settings]
    if len(given) != 1:
        flag = f"--{one.replace('_', '-')} NUMBER"
        raise InputError(f"method {method.name} needs {one}: give it as {one}=NUMBER or {several}=[...] ({flag})")
    (name,) = given
    value = settings[name]
    is_sweep = not isinstance(value, (str, Number))
    if name != (several if is_sweep else one) or (is_sweep and not len(value)):
        raise InputError(f"{one} is one number and {several} a list of numbers: got {name}={value!r}")
    values = [str(entry) for entry in (value if is_sweep else [value])]
    for text in values:
        try:
            (float if method.kind == "search" else int)(text)
        except ValueError:
            raise InputError(f"{name} must be a number, not {text!r}") from None
    return values, is_sweep, {key: setting for key, setting in settings.items() if key != name}


def plain(model: Model, prompts: Dataset, settings: dict[str, Any]) -> Found:
    """Run ACDC as the paper writes it, on the oracle.

    Raises:
        InputError: the method is another; only ACDC has a plain form.
    """
    if settings["method"] != "acdc":
        raise InputError(f"method {settings['method']} has no plain form: leave engine out, or take method acdc")
    oracle = Reference(model.bridge, prompts, ablation=settings["ablation"], split_embed=settings["split_embed"])
    measure = measured_by(oracle, METRICS[settings["metric"]].load())
    progress = acdc(oracle.graph, measure, float(settings["value"]), settings["head_order"])
    more = {"tried": len(progress.trace)}
    outcome = driver.Outcome(progress.circuit, progress.metric, progress.evaluations, progress.trace, more=more)
    return driver.found_of(settings | {"engine": "plain"}, outcome)


def measured_by(oracle: Reference, kind: Callable[..., Metric]) -> Callable[[Circuit], float]:
    """Return what measures a circuit's metric by the oracle: its mean over the dataset."""
    bound = kind(oracle.dataset, oracle.logits(Circuit.full(oracle.graph)))

    def measure(circuit: Circuit) -> float:
        logits = oracle.logits(circuit)
        columns = logits if bound.columns is None else logits.gather(1, bound.columns)
        return torch.dot(bound(columns).double(), oracle.dataset.weight).item()

    return measure


def load(path: str | Path, trace: str | Path | None = None, *, value: float | str | None = None) -> Found:
    """Return the circuit of a file that acdc wrote, with the trace or the scores beside it.

    Args:
        trace: its trace, where that is elsewhere.
        value: which circuit, where the file holds several, such as its number of edges; ``Sweep.load`` reads them all.

    Raises:
        InputError: the file holds no circuit, several while no value is given, or none of the value.
    """
    return Found.load(path, Path(trace) if trace else None, value=value)
