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
    """Check that a number is more than 0 and at most 1, which nan is not; raise ValueError if not."""
    if not 0 < value <= 1:
        raise ValueError("Must be more than 0 and at most 1.")


OutFile = Annotated[Path, Parameter(validator=lambda _, path: check_outputs(path))]
"""A file that a command writes; whether it can be written is checked before anything is computed."""
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
    """Hold the flags by which commands make engines."""

    model: Path
    """folder of the model, as the command model writes it"""
    model_name: str
    """the model's name in tables"""
    dataset: Path
    """prompts, as the command dataset writes them"""
    logits: Path
    """the model's logits on these prompts, as the command behaviour writes them"""
    split_embed: bool = False
    """whether token and position embeddings are two senders"""
    device: str = "auto"
    """auto takes CUDA where there is one; or cpu, cuda, cuda:1"""
    precision: Precision = "float32"
    """precision of the arithmetic; mixed finds float32's circuit and tries edges in less"""
    kv_heads: Literal["grouped", "per_query_head"] = "grouped"
    """whether query heads that share a key and a value share its ports, or each has its own, as in EAP-IG"""
    memory_gib: float | Literal["auto"] = "auto"
    """memory for edges tried at once; less is slower, effects differ by rounding; auto: most of a GPU, 2 on a CPU"""
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
        """Return the options of the engine for an ablation."""
        from acdc.engine.load import Options

        return Options(ablation, self.split_embed, self.device, self.precision, self.memory_gib, self.kv_heads)

    def engine(self, ablation: str) -> Engine:
        """Return the engine for an ablation, after comparing its logits with the stored ones."""
        from acdc.data import Dataset
        from acdc.engine.check import Expected

        data = Dataset.load(self.dataset)
        return self.options(ablation).engine(self.weights, data, lambda: Expected.load(self.logits))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AblationFlags(EngineFlags):
    """Hold the flags by which commands make one engine."""

    ablation: AblationName
    """the activations that removed edges carry"""

    def load(self) -> Engine:
        """Return the engine, after comparing its logits with the stored ones."""
        return self.engine(self.ablation)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskFlags:
    """Hold the flags that name a task."""

    task: str
    """a task: acdc/tasks/TASK.py, workflow/extensions/TASK.py, or one whose dataset a rule makes"""
    module: Path | None = None
    """the file that assigns TASK, of a task that is none of these"""

    def metrics(self) -> dict[str, type[Metric]]:
        """Return the task's metrics by name."""
        from acdc import tasks

        return tasks.metrics_of(self.task, self.module)


class Run(NamedTuple):
    """Hold a method, the values to run it for (none for a method that scores), and its settings."""

    method: Method
    values: list[str]
    own: dict[str, Any]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SearchFlags(TaskFlags):
    """Hold the flags that name a search and its methods."""

    metric: Annotated[str, Parameter(choices=tuple(METRICS))]
    """the metric that methods minimise or explain"""
    methods: list[str]
    """methods, one that is run for values with these: acdc=0.1,0.3 sp=20 eap"""
    settings: list[str] = field(default_factory=list)
    """settings of methods, such as acdc.head_order=ascending sp.steps=100"""
    fractions: list[Fraction] = field(default_factory=list)
    """for methods that score: circuits' sizes, as shares of all edges or, for hisp, of all nodes"""

    def runs(self) -> list[Run]:
        """Return the methods to run with their values and settings, all checked before anything is loaded.

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
        """Return one method with its values and settings, checked; see ``runs``."""
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
        """Return all settings that determine what a method finds, except the value that sets a circuit's size."""
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
    """Return the JSON object that a flag gives; raise InputError if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{flag} is no JSON ({error}): write it as '{{\"key\": 1}}'") from error
    if not isinstance(value, dict):
        raise InputError(f"{flag} is an object of JSON, such as '{{\"key\": 1}}', and not {text}")
    return value


def halves(text: str, by: str) -> tuple[str, str]:
    """Return the parts of a text before and after a separator."""
    before, _, after = text.partition(by)
    return before, after


def timing_row(found: Sequence[Found]) -> dict[str, Any]:
    """Return the cost of finding circuits: seconds without the start of Python, and the peak memory of the process.

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
