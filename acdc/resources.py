"""Estimate the memory and time that a cluster's job needs, before it runs; torch is not needed.

Estimates use the config and the job's input files. For files that do not exist yet, as in a dry run, there are
defaults. An estimate that is too small costs an attempt: the next one asks for more, and a search resumes from its
checkpoints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open

from acdc.study import Batch, Study

if TYPE_CHECKING:
    from acdc.models.architecture import Architecture

GIB = 2**30
PROCESSES = 1.5 * GIB
"""The bytes of Python with its libraries, of the Snakemakes that run around a job on a node, and a reserve."""
ON_GPU = 4 * GIB
"""The bytes that CUDA's libraries take in the node's own memory."""
COPIES = 3
"""The copies of the weights in a job on a CPU: two (``acdc.engine.memory.copies``), and one more at the start."""
UNKNOWN = 2 * GIB
"""The bytes of a large model's weights if the model does not exist yet: half a billion numbers."""
UNPACKED = 8
"""The ratio of the bytes of the engine's weights to those of a file of 4-bit weights."""
TOKENS = 32
"""The tokens of a prompt in a dataset that does not exist yet."""
CANDIDATES = 2
"""The GiB for candidates on a CPU if the config says auto (``acdc.engine.memory.DEFAULT``)."""
SECONDS = 1e-4
"""The seconds of a search per edge and token: between a sparse and a dense one in GPT-2 small (docs/cluster.md)."""
HOUR = 60


class Need(NamedTuple):
    """Hold the memory and the time that the first attempt at a job needs.

    Attributes:
        bytes: bytes of memory.
        minutes: minutes of wall time.
    """

    bytes: float
    minutes: float

    def mem_mb(self, attempt: int) -> int:
        """Return the megabytes that an attempt asks for: half the first attempt's need more each time."""
        return math.ceil(self.bytes * (attempt + 1) / 2 / 1e6)

    def runtime(self, attempt: int, most: int) -> int:
        """Return the minutes that an attempt asks for, at most ``most``."""
        return min(most, math.ceil(self.minutes) * attempt)


@dataclass(frozen=True)
class Needs:
    """Estimate the memory and time of a study's jobs.

    Attributes:
        study: the study.
        on_gpu: whether engines run on a GPU, whose own memory Slurm does not count.
    """

    study: Study
    on_gpu: bool

    def model(self, w: Any, inputs: Mapping[str, Any]) -> Need:
        """Return the need of making a model, which is held as its own program reads it and as the engine does."""
        return self.of_programs(w, self.to_be_made(w.model, inputs))

    def behaviour(self, w: Any, inputs: Mapping[str, Any]) -> Need:
        """Return the need of running a model by its own program."""
        return self.of_programs(w, self.weights(w.model, inputs))

    def of_programs(self, w: Any, weights: float) -> Need:
        return Need(PROCESSES + COPIES * weights, self.usual_minutes(w.model))

    def resampling(self, w: Any, inputs: Mapping[str, Any]) -> Need:
        """Return the need of searching again on resamples of the prompts."""
        return self.search(self.study.resampled(w), inputs, self.study.search(w).entry["resamples"])

    def search(self, batch: Batch, inputs: Mapping[str, Any], repeats: int = 1) -> Need:
        """Return the need of finding a batch's circuits, once or several times."""
        task = batch.search.task
        runs = repeats * sum(max(1, len(values)) for values in batch.values.values())
        seconds = SECONDS * runs * self.edge_tokens(task, inputs)
        return Need(self.engine_bytes(task, inputs), HOUR + seconds / 60)

    def measuring(self, w: Any, inputs: Mapping[str, Any]) -> Need:
        """Return the need of measuring circuits."""
        return Need(self.engine_bytes(self.study.task(w), inputs), self.usual_minutes(w.model))

    def testing(self, w: Any, inputs: Mapping[str, Any]) -> Need:
        """Return the need of testing circuits: about six runs per circuit and random circuit."""
        n_circuits = len(self.study.tested(self.study.search(w))) * self.study.config["significance"]["random_circuits"]
        minutes = self.usual_minutes(w.model) * max(1, n_circuits / 1000)
        return Need(self.engine_bytes(self.study.task(w), inputs), minutes)

    def usual_minutes(self, model: str) -> int:
        return 2 * HOUR if self.study.is_large(model) else HOUR

    # Of one model and one dataset.

    def engine_bytes(self, task: Mapping[str, Any], inputs: Mapping[str, Any]) -> float:
        """Return the bytes of memory of a job that makes an engine."""
        itemsize = 8 if task["precision"] == "float64" else 4
        weights = self.weights(task["model"], inputs) * itemsize / 4
        if self.on_gpu:
            return PROCESSES + ON_GPU + 2 * weights
        memory = self.study.config["memory_gib"]
        candidates = (CANDIDATES if memory == "auto" else memory) * GIB
        held = self.held(task, inputs, weights, itemsize) + size(inputs["logits"])
        return PROCESSES + COPIES * weights + candidates + held

    def held(self, task: Mapping[str, Any], inputs: Mapping[str, Any], weights: float, itemsize: int) -> float:
        """Return the bytes of activations; if the model does not exist yet, a tenth of the bytes of its weights."""
        from acdc.engine.resident import resident  # imports NumPy, which a dry run has no time for

        shape = architecture(inputs["model"], task)
        if shape is None:
            return weights / 10
        is_mixed = task["precision"] == "mixed"
        return resident(shape, shape.graph(task["split_embed"]), *tokens(inputs["dataset"], task), itemsize, is_mixed)

    def edge_tokens(self, task: Mapping[str, Any], inputs: Mapping[str, Any]) -> float:
        """Return the edges that a search may try times the tokens of its prompts; 0 if the model does not exist yet."""
        shape = architecture(inputs["model"], task)
        return 0 if shape is None else shape.graph(task["split_embed"]).n_edges * tokens(inputs["dataset"], task)[0]

    def weights(self, model: str, inputs: Mapping[str, Any]) -> float:
        """Return the bytes of a model's weights in float32."""
        return size(Path(inputs["model"], "engine.safetensors")) or self.unknown(model)

    def to_be_made(self, model: str, inputs: Mapping[str, Any]) -> float:
        """Return the bytes that the weights of a model will have once it is made."""
        entry = self.study.models[model]
        if "folder" in entry:  # most such files have 16-bit numbers
            kinds = ("*.safetensors", "*.pth")
            return 2 * sum(size(file) for kind in kinds for file in Path(entry["folder"]).glob(kind))
        if "reset" in entry:
            return size(Path(inputs["reset"], "engine.safetensors")) or self.unknown(model)
        return UNPACKED * sum(map(size, inputs.get("wheel", []))) or self.unknown(model)

    def unknown(self, model: str) -> float:
        return UNKNOWN if self.study.is_large(model) else 0


def size(path: str | Path) -> int:
    """Return the bytes of a file; 0 if it does not exist."""
    return Path(path).stat().st_size if Path(path).is_file() else 0


def architecture(model: str | Path, task: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture of a model's folder for a task's engine; None if it does not exist or is damaged."""
    from acdc.models.architecture import Architecture

    try:
        found = Architecture.from_json(json.loads(Path(model, "architecture.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # the job says what is wrong with it
        return None
    return found if task["kv_heads"] == "grouped" else found.per_query_head()


def tokens(dataset: str | Path, task: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of tokens and of scored positions in a dataset; a guess if it does not exist yet."""
    try:
        with safe_open(dataset, "numpy") as file:
            return math.prod(file.get_slice("clean").get_shape()), int(file.get_tensor("scored").sum())
    except (OSError, SafetensorError):  # the job says what is wrong with it
        n_prompts = max(task["n_prompts"], task["n_test_prompts"])
        return n_prompts * TOKENS, n_prompts
