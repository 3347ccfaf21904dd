"""A run of ACDC or SP on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from acdc.graph import Circuit, Graph
from acdc.methods.acdc import Progress, Tried
from acdc.methods.sp import Training


def save(path: Path, progress: Progress, settings: dict[str, Any]) -> None:
    """Replace the checkpoint in one step, so that a kill leaves the old one or the new one."""
    data = {
        "settings": settings,
        "layer": progress.layer,
        "circuit": progress.circuit.to_json(),
        "evaluations": progress.evaluations,
        "float_error": progress.float_error,
        "trace": progress.trace,
    }
    replace(path, lambda partial: partial.write_text(json.dumps(data)))


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    write(partial)
    os.replace(partial, path)


def load(path: Path, graph: Graph, settings: dict[str, Any]) -> Progress:
    """The run to go on with; a new one where there is no checkpoint or it is of other settings."""
    if not path.exists():
        return Progress.start(graph)
    data = json.loads(path.read_text())
    if data["settings"] != settings:
        return Progress.start(graph)
    trace = [Tried(*row) for row in data["trace"]]
    circuit = Circuit.from_json(data["circuit"])
    return Progress(circuit, data["layer"], trace, data["evaluations"], data["float_error"])


def save_training(path: Path, training: Training, settings: dict[str, Any]) -> None:
    """As ``save``, of a run of SP."""
    data = {"settings": json.dumps(settings), "training": training.state()}
    replace(path, lambda partial: torch.save(data, partial))


def load_training(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The state to go on with; None where there is no checkpoint or it is of other settings."""
    if not path.exists():
        return None
    data = torch.load(path, weights_only=True)
    return data["training"] if data["settings"] == json.dumps(settings) else None
