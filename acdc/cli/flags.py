"""Define the flags that several commands share."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from acdc import fingerprint
from acdc.catalogue import ABLATIONS, METHODS, METRICS, MOST_SEED, Method, Precision, check_suits
from acdc.errors import InputError
from acdc.files import check_folder_output, check_outputs
from acdc.found import LABELS

if TYPE_CHECKING:
    from acdc.engine.load import Options
    from acdc.engine.model import Engine
    from acdc.engine.weights import Weights
    from acdc.found import Found
    from acdc.metrics import Metric


def check_fraction(_: Any, value: float) -> None:
    """Raise ValueError for what is no fraction of 1, nan among it."""
    if not 0 < value <= 1:
        raise ValueError("Must be more than 0 and at most 1.")


OutFile = Annotated[Path, Parameter(validator=lambda _, path: check_outputs(path))]
"""A file that a command writes: whether it can is asked before anything is computed."""
OutFiles = Annotated[list[Path], Parameter(validator=lambda _, paths: check_outputs(paths))]
OutFolder = Annotated[Path, Parameter(validator=lambda _, folder: check_folder_output(folder))]
AblationName = Annotated[str, Parameter(choices=tuple(ABLATIONS))]
BosName = Literal["auto", "true", "false"]
UnfitName = Literal["refuse", "leave_out"]
AnswersName = Literal["whole", "first_token"]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lte=MOST_SEED))]
Fraction = Annotated[float, Parameter(validator=check_fraction)]
BOS: dict[str, bool | Literal["auto"]] = {"auto": "auto", "true": True, "false": False}
"""Map the flag ``--bos`` to its value in Python."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineFlags:
    """The flags that engines are made of."""

    model: Path
    """folder of the model, as the command model writes it"""
    model_name: str
    """the model's name in tables"""
    dataset: Path
    """prompts, as the command dataset writes them"""
    logits: Path
    """the model's logits on these prompts, as the command behaviour writes them"""
    split_embed: bool = False
    """make token and position embeddings two senders"""
    device: str = "auto"
    """auto takes CUDA where there is one; or cpu, cuda, cuda:1"""
    precision: Precision = "float32"
    """precision of the arithmetic; mixed finds float32's circuit and tries edges in less"""
    kv_heads: Literal["grouped", "per_query_head"] = "grouped"
    """make keys and values that query heads share one port each, or one for each query head, as EAP-IG does"""
    memory_gib: float | Literal["auto"] = "auto"
    """memory for what is tried at once; less is slower, effects differ by rounding; auto: most of a GPU, 2 on a CPU"""
    threads: PositiveInt = 1
    """threads of torch"""

    @cached_property
    def weights(self) -> Weights:
        """Return the model's weights on the device, the same for all engines of this process."""
        import torch

        from acdc.engine.memory import keep_freed_memory
        from acdc.models.black_box import load_weights

        torch.set_num_threads(self.threads)
        keep_freed_memory()
        fingerprint.check_model(self.model)
        return self.options("corrupted").place(load_weights(self.model), are_mapped=True)

    def options(self, ablation: str) -> Options:
        """Return how the engine of an ablation computes."""
        from acdc.engine.load import Options

        return Options(ablation, self.split_embed, self.device, self.precision, self.memory_gib, self.kv_heads)

    def engine(self, ablation: str) -> Engine:
        """Return the engine of an ablation, after a comparison with the stored logits."""
        from acdc.data import Dataset
        from acdc.engine.check import Expected

        data = Dataset.load(self.dataset)
        return self.options(ablation).engine(self.weights, data, lambda: Expected.load(self.logits))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AblationFlags(EngineFlags):
    """The flags that one engine is made of."""

    ablation: AblationName
    """what a removed edge carries"""

    def load(self) -> Engine:
        """Return the engine, after a comparison with the stored logits."""
        return self.engine(self.ablation)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskFlags:
    """The flags that name a task."""

    task: str
    """a task: acdc/tasks/TASK.py, workflow/extensions/TASK.py, or one whose dataset a rule makes"""
    module: Path | None = None
    """the file that assigns TASK, of a task that is none of these"""

    def metrics(self) -> dict[str, type[Metric]]:
        """Return the task's metrics by name."""
        from acdc import tasks

        return tasks.metrics_of(self.task, self.module)


class Run(NamedTuple):
    """A method, the values that it is run for (none of one that scores), and its settings."""

    method: Method
    values: list[str]
    own: dict[str, Any]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SearchFlags(TaskFlags):
    """The flags that name a search, and the methods that search."""

    metric: Annotated[str, Parameter(choices=tuple(METRICS))]
    """what is minimised or explained"""
    methods: list[str]
    """methods, one that is run for values with these: acdc=0.1,0.3 sp=20 eap"""
    settings: list[str] = field(default_factory=list)
    """settings of methods, such as acdc.head_order=ascending sp.steps=100"""
    fractions: list[Fraction] = field(default_factory=list)
    """of methods that score: shares of all edges or, by hisp, of nodes that make a circuit"""

    def runs(self) -> list[Run]:
        """Return what is to be run, checked before anything is loaded.

        Raises:
            InputError: a method, a value or a setting is wrong, or the task does not have the metric.
        """
        from acdc import tasks

        tasks.check_metrics(self.task, [self.metric], self.module)
        wanted = [(name, values.split(",")) for name, values in map(partial(halves, by="="), self.methods)]
        runs = [self.run(METHODS[name], [value for value in values if value]) for name, values in wanted]
        own = {name for name, _ in map(partial(halves, by="."), self.settings)}
        if unknown := own - {run.method.name for run in runs}:
            raise InputError(f"settings are of {unknown.pop()}, which is not among the methods")
        return runs

    def run(self, method: Method, values: list[str]) -> Run:
        """Return one method with its values and settings; see ``runs``."""
        check_suits(method, METRICS[self.metric])
        if method.kind == "search" and not values:
            raise InputError(f"method {method.name} is run for values: give it some, such as {method.name}=0.1,0.3")
        if method.kind == "score" and (values or not self.fractions):
            raise InputError(f"method {method.name} scores everything once: give --fractions in place of values")
        for value in values:
            method.check_value(value)
        prefix = f"{method.name}."
        texts = [text.removeprefix(prefix) for text in self.settings if text.startswith(prefix)]
        return Run(method, values, method.parse(dict(halves(text, by="=") for text in texts)))

    def labels(self, flags: AblationFlags, method: Method) -> dict[str, str]:
        """Return the labels of a method's search in tables."""
        names = {"task": self.task, "model": flags.model_name, "metric": self.metric}
        return {**names, "ablation": flags.ablation, "method": method.name}

    def settings_of(self, flags: AblationFlags, engine: Engine, run: Run) -> dict[str, Any]:
        """Return all that decides what a method finds, but for the value that sets a circuit's size."""
        from acdc.engine.load import settings_of

        settings = settings_of(
            self.labels(flags, run.method),
            run.own,
            fingerprint.of_model(flags.model),
            engine.dataset,
            split_embed=flags.split_embed,
            precision=flags.precision,
            kv_heads=flags.kv_heads,
        )
        return settings | {"device": engine.device.type}


def json_object(text: str, flag: str) -> dict[str, Any]:
    """Return the object that a flag gives as JSON. Raises InputError where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{flag} is no JSON ({error}): write it as '{{\"key\": 1}}'") from error
    if not isinstance(value, dict):
        raise InputError(f"{flag} is an object of JSON, such as '{{\"key\": 1}}', and not {text}")
    return value


def halves(text: str, by: str) -> tuple[str, str]:
    """Return what stands before and after a sign."""
    before, _, after = text.partition(by)
    return before, after


def timing_row(found: Sequence[Found]) -> dict[str, Any]:
    """Return what finding circuits cost: seconds without the start of Python, and the process's largest memory so far.

    Args:
        found: one circuit of a method that is run for values, or all of one scoring.
    """
    first, peak = found[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings = first.settings
    return {
        **{key: settings[key] for key in LABELS},
        "size_by": METHODS[settings["method"]].sized_by or None,
        "value": first.value if len(found) == 1 else None,
        "n_circuits": len(found),
        "seconds": None if first.seconds is None else round(first.seconds, 3),
        "max_rss_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
        "device": settings["device"],
    }
