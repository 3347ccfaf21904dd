"""Tasks: prompts, metrics and, where one is known, the circuit. A module ``acdc/tasks/<name>.py`` is a task.

Such a module defines ``TASK``. Nothing lists the modules: ``load`` imports by name.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.graph import Circuit, Graph
from acdc.metrics import STANDARD, Metric


@dataclass(frozen=True)
class Task:
    """What the workflow needs of a task.

    Attributes:
        make_dataset: ``(tokenizer, n_prompts, seed, **options) -> Dataset`` of exactly ``n_prompts`` distinct
            prompts, in random order, so that any split of them is a fair one. Options, with defaults, are
            what the config may say of the prompts under ``options``. The tokenizer is the model's
            (a Hugging Face fast tokenizer) or None for a model without one. Raises InputError where the
            prompts cannot be made: too few exist, an answer is not one token, lengths differ.
        metrics: by the name that the config uses.
        known_circuits: by the model's name in the config, for a circuit is known for a model: by a name that
            says whence, ``graph -> Circuit``. The first is the one that figures show.
    """

    make_dataset: Callable[..., Dataset]
    metrics: Mapping[str, type[Metric]] = field(default_factory=lambda: STANDARD)
    known_circuits: Mapping[str, Mapping[str, Callable[[Graph], Circuit]]] = field(default_factory=dict)


def load(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: there is no module ``acdc/tasks/<name>.py``.
    """
    try:
        return importlib.import_module(f"{__name__}.{name}").TASK
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise InputError(f"unknown task {name!r}: there is no module acdc/tasks/{name}.py") from None


def known_circuits(name: str, model: str) -> Mapping[str, Callable[[Graph], Circuit]]:
    """Raises InputError where the task knows no circuit of that model."""
    known = load(name).known_circuits
    if model not in known:
        others = f"only of {', '.join(known)}" if known else "of no model"
        raise InputError(
            f"task {name}: no circuit is known of model {model!r}, {others}: leave known_circuit out of the config"
        )
    return known[model]


def metrics_of(name: str) -> Mapping[str, type[Metric]]:
    """The metrics of a task; the standard ones where its datasets come from a rule and it has no module."""
    return load(name).metrics if importlib.util.find_spec(f"{__name__}.{name}") else STANDARD


def check_metrics(name: str, metrics: Iterable[str]) -> None:
    """Raises InputError for a metric that the task does not have."""
    known = metrics_of(name)
    unknown = [metric for metric in metrics if metric not in known]
    if unknown:
        raise InputError(f"task {name} has no metric {unknown[0]!r}: it has {', '.join(known)}")
