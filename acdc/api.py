"""Define the functions of ``import acdc``: load a model, make prompts, find a circuit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch

from acdc import ablation as ablations
from acdc import catalogue, tasks
from acdc.catalogue import METHODS, METRICS, Method, Precision
from acdc.data import Dataset
from acdc.engine.load import settings_of
from acdc.errors import InputError
from acdc.found import Found, Sweep
from acdc.graph import Circuit
from acdc.methods import driver
from acdc.methods.acdc import acdc
from acdc.metrics import Metric
from acdc.models.architecture import KvHeads
from acdc.models.model import Model, load_model
from acdc.prompt_files import read
from acdc.reference import Reference
from acdc.text import Answers, Bos, Unfit, begun, fitting, to_dataset

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
    columns: Mapping[str, str] | None = None,
    bos: Bos = "auto",
    unfit: Unfit = "refuse",
    answers: Answers = "whole",
) -> Dataset:
    """Make a dataset of clean prompts, each with a corrupted prompt and with its correct and incorrect answers.

    Args:
        model: the model whose tokenizer is used.
        table: the four columns by name, in place of the four lists: a file (.csv, .tsv, .json, .jsonl, .parquet), a
            pandas DataFrame, a ``datasets.Dataset`` or a dictionary.
        clean, corrupted: texts, lists of token ids, or Int[prompt pos]. A clean prompt and its corrupted one have the
            same number of tokens.
        correct, incorrect: for each prompt an answer or a list of answers. An answer is a token id, or the text of one
            token as it stands after the clean text (``" Mary"`` with its space, ``"99"`` without one).
        columns: the table's own names of the four columns, see ``acdc.prompt_files.read``.
        bos: whether the tokenizer's beginning-of-sequence token is put before every prompt. ``auto``: before texts if
            the tokenizer itself does so, never before token ids.
        unfit: whether prompts that do not fit the tokenizer, and rows that lack an entry, are refused (``refuse``), or
            left out with a warning (``leave_out``).
        answers: ``whole``: an answer is one token. ``first_token``: an answer's text is encoded by itself and its first
            token is the answer, as in MIB; prompts may end with a space.

    Returns:
        The dataset, scored at the last token of each prompt; ``dataset[:20]`` are its first 20 prompts. ``targets``
        ``correct`` and ``incorrect`` are Int[prompt], or Int[prompt answer] where a prompt has several.

    Raises:
        InputError: the lists differ in length, a column is missing, a prompt is empty or ends with a space, a clean
            prompt and its corrupted one differ in the number of tokens or are the same, an answer is not one token or
            is both correct and incorrect, or the tokenizer has no beginning-of-sequence token where one is asked for.
    """
    lists = {"clean": clean, "corrupted": corrupted, "correct": correct, "incorrect": incorrect}
    read_rows = read(lists if table is None else table, columns, skip_empty=unfit == "leave_out")
    rows = [row._replace(first_token=answers == "first_token") for row in read_rows]
    of_text = isinstance(rows[0].clean, str)
    if unfit == "leave_out":
        rows = fitting(model.tokenizer, rows)
    return begun(to_dataset(model.tokenizer, rows, task="prompts"), model.tokenizer, bos if of_text else bos is True)


def task_prompts(
    model: Model, task: str | Path, n_prompts: int, *, seed: int = 0, bos: Bos = "auto", **options: Any
) -> Dataset:
    """Make the prompts of a task that ships, such as ``ioi``, or of a task that your own file defines.

    Args:
        model: the model whose tokenizer is used.
        task: the name of a module of ``acdc.tasks``, or the path of a file that assigns ``TASK``.
        n_prompts: the number of clean prompts, each with its corrupted one.
        seed: the seed by which prompts are drawn.
        bos: whether the tokenizer's beginning-of-sequence token is put before every prompt. ``auto``: as the task says
            or, where it says nothing, as the tokenizer does it.
        options: the task's own options, see its module.

    Raises:
        InputError: there is no such task, or the model's tokenizer cannot make its prompts.
    """
    is_file = isinstance(task, Path) or task.endswith(".py")
    definition = tasks.of_file(Path(task)) if is_file else tasks.load(str(task))
    return tasks.dataset_of(definition, str(task), model.tokenizer, n_prompts, seed, options, bos)


# Metrics.


def metric(
    function: Function | None = None,
    *,
    name: str | None = None,
    label: str | None = None,
    unit: str = "",
    is_distance: bool = False,
) -> Any:
    """Declare your own metric, as a decorator, so that tables and figures show its label and unit.

    Args:
        function: ``(logits, dataset) -> values``, see ``acdc.metrics.FunctionMetric``. Lower is better.
        name: its name in tables; by default the function's.
        label: its name in figures; by default the name with spaces.
        unit: the unit of its values.
        is_distance: whether it is 0 for the circuit of all edges, where its gradient is 0 too.

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
    """Return the name of a metric in the catalogue; add a function that is not there yet.

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
    precision: Precision = ...,
    memory_gib: float | Literal["auto"] = ...,
    kv_heads: KvHeads = ...,
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
    precision: Precision = ...,
    memory_gib: float | Literal["auto"] = ...,
    kv_heads: KvHeads = ...,
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
    precision: Precision = "float32",
    memory_gib: float | Literal["auto"] = "auto",
    kv_heads: KvHeads = "grouped",
    task: str | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> Found | Sweep:
    """Find one circuit, or the circuits of a sweep over several values.

    Args:
        model: the model, see ``load_model``.
        prompts: the dataset on which the circuit is found, see ``prompts``.
        metric: the metric to minimise: a name in the catalogue, or a function, see ``acdc.metric``.
        method, ablation: names in the catalogue.
        engine: ``plain`` runs ACDC as the paper writes it, with one forward pass through TransformerLens per tried
            edge. It is slow and serves to check the ``fast`` one.
        split_embed: whether token and position embeddings are two senders.
        device: ``auto`` takes CUDA where there is one; or ``cpu``, ``cuda``, ``cuda:1``.
        precision: ``float32``, ``float64``, or ``mixed``, see ``acdc.engine.load.Options``.
        memory_gib: the memory for edges that are tried together, in GiB. Less is slower; decisions are the same but
            for rounding, see ``acdc.engine.load.Options``. ``auto`` is most of what a GPU has free, and 2 on a CPU.
        kv_heads: whether query heads that share a key and a value share its ports, or each has its own
            (``per_query_head``), as in EAP-IG and MIB.
        task: the name of the prompts in tables; by default ``prompts.about["task"]``.
        folder: the folder for circuits and, during the search, checkpoints. A call that was stopped, by Ctrl-C too,
            resumes from them when it is made again. In a sweep, each value has its own subfolder.
        settings: the method's settings, and the one that sets the circuit's size: ``threshold`` of ACDC,
            ``regularisation`` of SP, ``sparsity_target`` of Edge Pruning, ``n_edges`` or ``n_nodes`` of methods that
            score. ``thresholds=[...]`` and the like, ``n_edges=[...]`` or ``n_nodes=[...]`` make a sweep.

    Returns:
        The circuit with its trace or scores; or a sweep of circuits, in the order of the values.

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
    full = settings_of(
        labels, parsed, model.sha256, prompts, split_embed=split_embed, precision=precision, kv_heads=kv_heads
    )
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
            kv_heads=kv_heads,
        )
        full |= {"engine": engine, "device": made.device.type}
        if chosen.kind == "score":
            found = driver.score(made, full, sizes=[int(value) for value in values])
        elif is_sweep:
            found = list(driver.find(made, full, values, where))
        else:
            found = [driver.find_one(made, full, values[0], where)]
    sweep = Sweep(replace(one, model=model) for one in found)
    if where and (engine == "plain" or chosen.kind == "score"):  # a search writes its circuits itself
        sweep.save(where) if is_sweep else sweep[0].save(where)
    return sweep if is_sweep else sweep[0]


def sized(method: Method, settings: dict[str, Any]) -> tuple[list[str], bool, dict[str, Any]]:
    """Return the values that set the circuits' sizes, as texts; whether they are a sweep; and the other settings.

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
        if method.kind == "search":
            method.check_value(text)
        elif not text.isdecimal():
            raise InputError(f"{name} must be a whole number of 0 or more, not {text!r}")
    return values, is_sweep, {key: setting for key, setting in settings.items() if key != name}


def plain(model: Model, prompts: Dataset, settings: dict[str, Any]) -> Found:
    """Run Algorithm 1 of the paper literally, with one forward pass through TransformerLens per tried edge.

    Raises:
        InputError: the method is not ``acdc``, ``kv_heads`` is not ``grouped``, or the ablation does not suit the
            prompts.
    """
    if settings["method"] != "acdc":
        raise InputError(f"method {settings['method']} has no plain form: leave engine out, or take method acdc")
    if settings["kv_heads"] != "grouped":
        raise InputError("the plain engine has grouped key and value heads alone: leave out engine or kv_heads")
    ablations.named(settings["ablation"]).check(prompts)
    oracle = Reference(model.bridge, prompts, ablation=settings["ablation"], split_embed=settings["split_embed"])
    measure = measured_by(oracle, METRICS[settings["metric"]].load())
    progress = acdc(oracle.graph, measure, float(settings["value"]), settings["head_order"])
    more = {"tried": len(progress.trace)}
    outcome = driver.Outcome(progress.circuit, progress.metric, progress.evaluations, progress.trace, more=more)
    return driver.found_of(settings | {"engine": "plain"}, outcome)


def measured_by(oracle: Reference, kind: Callable[..., Metric]) -> Callable[[Circuit], float]:
    """Return a function that gives a circuit's metric by the oracle: the mean over the dataset."""
    bound = kind(oracle.dataset, oracle.logits(Circuit.full(oracle.graph)))

    def measure(circuit: Circuit) -> float:
        logits = oracle.logits(circuit)
        columns = logits if bound.columns is None else logits.gather(1, bound.columns)
        return torch.dot(bound(columns).double(), oracle.dataset.weight).item()

    return measure


def load(path: str | Path, trace: str | Path | None = None, *, value: float | str | None = None) -> Found:
    """Read the circuit in a file that acdc wrote, with the trace or the scores beside it.

    Args:
        path: the file, circuit.json or circuits.json.
        trace: the file of the trace, if it is not beside the circuit.
        value: which of several circuits to read, such as its threshold or number of edges; ``Sweep.load`` reads all.

    Raises:
        InputError: the file holds no circuit, holds several while ``value`` is not given, or none of that value.
    """
    return Found.load(path, Path(trace) if trace else None, value=value)
