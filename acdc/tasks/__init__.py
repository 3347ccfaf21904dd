"""Define tasks: prompts, metrics and, if one is known, the circuit.

A module ``acdc/tasks/<name>.py``, or a file ``workflow/extensions/<name>.py``, that defines ``TASK`` is a task. No list
names them: ``load`` imports by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from acdc import catalogue, declared
from acdc.catalogue import METRICS, OF_TEXT
from acdc.data import Dataset
from acdc.errors import InputError
from acdc.graph import Circuit, Graph
from acdc.metrics import Metric
from acdc.prompt_files import MOST_PROMPTS, Prompt, check_count, check_held_out, distinct_prompts, held_out, in_order
from acdc.text import Answers, Bos, Unfit, begun, fitting, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Task:
    """Define a task: its prompts, its metrics, and its known circuits.

    Attributes:
        make_dataset: a function ``(tokenizer, n_prompts, seed, **options) -> Dataset`` of exactly ``n_prompts``
            distinct prompts, in random order, so that any split of them is fair. Options have defaults; the config
            gives them under ``options``. The tokenizer is the model's (a Hugging Face fast tokenizer), or None for a
            model without one. The function raises InputError if the prompts cannot be made: too few exist, an answer is
            not one token, or lengths differ.
        metrics: the names of its metrics in the catalogue.
        known_circuits: functions ``graph -> Circuit``, by the model's name in the config, then by a name that says
            where the circuit is from. Figures show the first one.
        known_heads: functions that return the published class of each head, by the model's name in the config.
        bos: whether ``auto`` puts a beginning-of-sequence token: None for what the tokenizer does, False for none (for
            prompts of a paper, or prompts whose targets have an entry per position).
        made_for: the models of ``acdc/models/toy`` that the task is made for; empty for any model.
        n_distinct: the number of distinct prompts, whatever the tokenizer; None if it depends on the tokenizer.
    """

    make_dataset: Callable[..., Dataset]
    metrics: tuple[str, ...] = OF_TEXT
    known_circuits: Mapping[str, Mapping[str, Callable[[Graph], Circuit]]] = field(default_factory=dict)
    known_heads: Mapping[str, Callable[[], Mapping[str, str]]] = field(default_factory=dict)
    bos: bool | None = None
    made_for: tuple[str, ...] = ()
    n_distinct: int | None = None


def load(name: str, module: Path | None = None) -> Task:
    """Return the task of that name.

    Args:
        module: the file that assigns ``TASK``, for a task that is neither in the package nor an extension.

    Raises:
        InputError: there is neither a module nor an extension of that name, or the file assigns no task.
    """
    if module:
        return of_file(module)
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}").TASK
    for path in catalogue.extension_files():
        if path.stem == name and "TASK" in catalogue.assigned(path):
            return catalogue.extension(path).TASK
    raise InputError(
        f"unknown task {name!r}: there is neither a module acdc/tasks/{name}.py nor workflow/extensions/{name}.py"
    )


def of_file(path: Path) -> Task:
    """Return the task that a Python file assigns to ``TASK``.

    Raises:
        InputError: there is no such file, it does not load, or it assigns no task.
    """
    if not path.is_file():
        raise InputError(f"task file {path} does not exist: check the path")
    task = getattr(catalogue.run_file(path, f"acdc_task_{path.stem}", "task file"), "TASK", None)
    if not isinstance(task, Task):
        raise InputError(f"task file {path} assigns no TASK: it needs TASK = Task(make_dataset=...)")
    return task


def of_prompts(
    name: str,
    path: Path,
    columns: Mapping[str, str] | None = None,
    unfit: Unfit = "refuse",
    answers: Answers = "whole",
    test: tuple[Path, int] | None = None,
) -> Task:
    """Return the task of a file of prompts: its distinct rows in a random order that a seed determines.

    Args:
        name: the task's name.
        path: the file.
        columns: the file's own names of the four columns, see ``acdc.prompt_files.read``.
        unfit: whether rows that do not fit the model's tokenizer, and rows that lack an entry, are refused, or left out
            with a warning.
        answers: whether answers are one token as they stand after the prompt, or are encoded by themselves and their
            first tokens taken.
        test: a second file, and the number of prompts at a dataset's end that are taken from it, without rows of the
            first file.

    Raises:
        InputError: a file cannot be read, see ``acdc.prompt_files.read``, or the second has too few prompts that are
            not in the first.
    """
    skip_empty = unfit == "leave_out"
    rows = distinct_prompts(path, columns, skip_empty=skip_empty)
    others, n_others = [], 0
    if test:
        others, n_others = held_out(rows, test[0], columns, skip_empty=skip_empty), test[1]
        check_held_out(others, *test)

    def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
        check_count(rows, path, n_prompts - n_others)

        def taken(prompts: list[Prompt], n: int) -> list[Prompt]:
            marked = [one._replace(first_token=answers == "first_token") for one in in_order(prompts, seed)]
            return fitting(tokenizer, marked, n) if unfit == "leave_out" else marked[:n]

        both = taken(rows, n_prompts - n_others) + (taken(others, n_others) if test else [])
        files = {"test_file": test[0].name} if test else {}
        return to_dataset(tokenizer, both, task=name, seed=seed, file=path.name, **files)

    # Token ids are taken as they are: whoever wrote them wrote the first one too.
    return Task(make_dataset=make_dataset, bos=None if isinstance(rows[0].clean, str) else False)


def dataset_of(
    task: Task,
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    n_prompts: int,
    seed: int,
    options: Mapping[str, object],
    bos: Bos = "auto",
) -> Dataset:
    """Return the dataset of a task, with or without a beginning-of-sequence token.

    Raises:
        InputError: the task has no such option, cannot make the prompts or makes another number of them, or the
            beginning-of-sequence token that ``bos`` asks for is not possible.
    """
    check_options(name, task, options)
    check_suits(name, task, tokenizer, n_prompts)
    made = task.make_dataset(tokenizer, n_prompts, seed, **options)
    if len(made) != n_prompts:
        raise InputError(f"task {name} made {len(made)} prompts and {n_prompts} were asked for: ask for {len(made)}")
    return begun(made, tokenizer, task.bos if bos == "auto" and task.bos is not None else bos)


def check_options(name: str, task: Task, options: Mapping[str, object]) -> None:
    """Check that a task has the given options, and that they are of the right type; raise InputError if not."""
    known = list(inspect.signature(task.make_dataset).parameters.values())[declared.N_GIVEN :]
    types = {one.name: inspect.formatannotation(one.annotation).strip("'") for one in known}
    declared.check_options(name, types, options)


def check_suits(name: str, task: Task, tokenizer: PreTrainedTokenizerBase | None, n_prompts: int) -> None:
    """Check that a task suits the model's tokenizer and that a dataset may be so large; raise InputError if not."""
    if task.made_for and tokenizer is not None:
        raise InputError(
            f"task {name} is made for the model that acdc/models/toy/{task.made_for[0]}.py builds, which reads numbers,"
            " and this model reads text: choose another task for it"
        )
    if n_prompts > MOST_PROMPTS:
        raise InputError(f"{n_prompts} prompts were asked for: a dataset has at most {MOST_PROMPTS}")


def known_circuits(name: str, model: str, module: Path | None = None) -> Mapping[str, Callable[[Graph], Circuit]]:
    """Return the known circuits of a task for a model; raise InputError if there are none."""
    known = load(name, module).known_circuits
    declared.check_known(name, known, model)
    return known[model]


def metrics_of(name: str, module: Path | None = None) -> dict[str, type[Metric]]:
    """Return the metrics of a task by name: its own, and those in the catalogue that name the task.

    A task without a module, whose datasets come from a rule, has the metrics of tasks of text.
    """
    try:
        own = load(name, module).metrics
    except InputError:
        if module:
            raise
        own = OF_TEXT
    added = [metric.name for metric in METRICS.values() if name in metric.tasks and metric.name not in own]
    return {metric: METRICS[metric].load() for metric in (*own, *added)}


def check_metrics(name: str, metrics: Iterable[str], module: Path | None = None) -> None:
    """Check that a task has the given metrics; raise InputError if not."""
    declared.check_metrics(name, metrics_of(name, module), metrics)
