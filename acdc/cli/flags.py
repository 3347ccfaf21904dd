"""Define the flags that several commands share."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from acdc.catalogue import ABLATIONS, METHODS, METRICS
from acdc.found import LABELS
from acdc.tables import write_table

if TYPE_CHECKING:
    from acdc.engine.model import Engine
    from acdc.metrics import Metric

STARTED = time.monotonic()
"""When this process began to import the command that it runs."""

AblationName = Annotated[str, Parameter(choices=tuple(ABLATIONS))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineFlags:
    """The flags that an engine is made of."""

    model: Path
    """folder of the model, as the command model writes it"""
    model_name: str
    """the model's name in tables"""
    dataset: Path
    """prompts, as the command dataset writes them"""
    ablation: AblationName
    """what a removed edge carries"""
    split_embed: bool = False
    """make token and position embeddings two senders"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one"""
    precision: Literal["float32", "float64"] = "float32"
    """precision of the arithmetic"""
    memory_gib: float = 2
    """memory for what is tried at once; less is slower, never another result"""
    threads: int = 1
    """threads of torch"""

    def load(self, resample: int | None = None) -> Engine:
        """Return the engine; ``resample`` is the seed of a bootstrap resample of the dataset."""
        from acdc.engine.load import load_engine

        return load_engine(
            self.model,
            self.dataset,
            ablation=self.ablation,
            split_embed=self.split_embed,
            device=self.device,
            precision=self.precision,
            memory_gib=self.memory_gib,
            threads=self.threads,
            resample=resample,
        )


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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SearchFlags(TaskFlags):
    """The flags that name a search."""

    metric: Annotated[str, Parameter(choices=tuple(METRICS))]
    """what is minimised or explained"""
    method: Annotated[str, Parameter(choices=tuple(METHODS))]
    """how circuits are found"""

    def labels(self, engine: EngineFlags) -> dict[str, str]:
        """Return the labels of the search in tables."""
        names = {"task": self.task, "model": engine.model_name, "metric": self.metric}
        return {**names, "ablation": engine.ablation, "method": self.method}

    def settings(self, flags: EngineFlags, engine: Engine, own: dict[str, str]) -> dict[str, Any]:
        """Return all that decides what the search finds, but for the value that sets a circuit's size.

        Args:
            own: the method's settings, as flags without dashes in front.

        Raises:
            InputError: a flag is not the method's, or the task does not have the metric.
        """
        from acdc import fingerprint
        from acdc.engine.load import settings_of

        settings = settings_of(
            self.labels(flags),
            self.parsed(own),
            fingerprint.of_model(flags.model),
            engine.dataset,
            split_embed=flags.split_embed,
            precision=flags.precision,
        )
        return settings | {"device": engine.device.type}

    def parsed(self, own: dict[str, str]) -> dict[str, Any]:
        """Return the method's settings; see ``settings``."""
        return METHODS[self.method].parse({name.replace("-", "_"): text for name, text in own.items()})

    def check(self, own: dict[str, str]) -> None:
        """Raises InputError for what is wrong with the flags, before anything is loaded."""
        from acdc import tasks
        from acdc.catalogue import check_suits

        self.parsed(own)
        tasks.check_metrics(self.task, [self.metric], self.module)
        check_suits(METHODS[self.method], METRICS[self.metric])


def write_timing(path: Path | None, settings: dict[str, Any], values: list[str]) -> None:
    """Write what this process cost, as one row: seconds since it began, and its largest memory.

    Args:
        settings: of the circuits that it found.
        values: that it found circuits for.
    """
    if path is None:
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = {
        "value": values[0] if len(values) == 1 else None,
        "n_circuits": len(values),
        "seconds": round(time.monotonic() - STARTED, 3),
        "max_rss_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
        "device": settings["device"],
    }
    labels = {key: settings[key] for key in LABELS}
    write_table([{**labels, "size_by": METHODS[settings["method"]].sized_by or None, **cost}], path)
