"""Run any method of the catalogue, with progress bars, checkpoints and files.

A method that searches is a ``Search``. A method that scores all edges or nodes once is a ``Score``. Neither knows files
or progress bars: this module handles both, and returns the outcome as ``acdc.found.Found``.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from acdc.catalogue import METHODS, METRICS, SELECTION, Method, check_suits
from acdc.engine.model import Engine
from acdc.errors import InputError, first_line, reading
from acdc.files import check_outputs
from acdc.found import FOUND, PRUNED, Found
from acdc.graph import Circuit, Scores
from acdc.methods.selection import Selection, consistent_first, mean_and_consistent, of_edges
from acdc.metrics import Metric, MetricKind
from acdc.tensor_files import load_torch, save_torch

EVERY_SIZE = 200
"""The largest number of scored edges or nodes for which there is a circuit of every size that the scores tell apart."""
CHECKPOINT = "checkpoint.pt"


@dataclass
class Outcome:
    """Hold the outcome of a search: the circuit, its metric and the trace.

    Attributes:
        circuit: the circuit.
        final_metric: the circuit's metric on the discovery prompts; None if the search measured nothing.
        evaluations: the number of runs of the model that the search took.
        trace: the rows of the trace, in order.
        converged: whether the search ended because it was done, not because it ran out of steps.
        more: further entries for the result in the circuit's file, by name.
    """

    circuit: Circuit
    final_metric: float | None
    evaluations: int
    trace: Sequence[Any]
    converged: bool = True
    more: dict[str, Any] = field(default_factory=dict)


class Search(ABC):
    """Run a method at one value, so that the run can be stopped and resumed: the base class of methods that search.

    The constructor takes the engine, the metric's class, the value, and the method's settings as keywords.

    Attributes:
        unit: the unit in which progress is counted.
        total: the number of units of the whole run.
    """

    unit = "step"
    total: int

    @property
    @abstractmethod
    def done(self) -> int:
        """Return how much of ``total`` is done."""

    @abstractmethod
    def steps(self) -> Iterator[tuple[int, bool]]:
        """Run to the end. Yield how much was done since the last time, and whether the state can be saved now."""

    def status(self) -> dict[str, Any]:
        """Return the entries of the progress bar, such as the loss."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: tensors, numbers, texts, lists and dictionaries of them."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Continue the run from a checkpoint's state."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """Return the outcome, after the last step."""

    def warning(self) -> str | None:
        """Return a sentence that the user should read before trusting the outcome; None if there is none."""
        return None


class Scored(NamedTuple):
    """Hold scores, of largest absolute value where edges or nodes matter most, and the number of runs they took."""

    scores: Scores
    evaluations: int


class Score(Protocol):
    """Score every edge or node once: the form of methods that score."""

    def __call__(self, engine: Engine, kind: MetricKind, **settings: Any) -> Scored:
        """Return the scores by a metric on the engine's prompts."""


def find(
    engine: Engine,
    settings: dict[str, Any],
    values: Sequence[str],
    folder: Path | None = None,
) -> Iterator[Found]:
    """Yield the circuits of a search, one for each value; read those that are finished from their files.

    The last checkpoint of each value stays until all circuits are found. If a workflow's job ends early, the workflow
    deletes the circuits of the values that were done, and the checkpoints bring them back at once.

    Args:
        settings: everything that determines the result: ``method``, ``metric``, the method's settings, and fingerprints
            of model, data and code. Results and checkpoints of other settings are not used.
        values: thresholds of ACDC, regularisations of SP, targets of Edge Pruning, as texts.
        folder: the folder in which each value has a subfolder for its circuit, trace and checkpoint; None for no files.
    """
    folders = [folder / value if folder else None for value in values]
    for value, own in zip(values, folders, strict=True):
        yield saved(engine, settings, value, own)
    for own in filter(None, folders):
        (own / CHECKPOINT).unlink(missing_ok=True)


def find_one(engine: Engine, settings: dict[str, Any], value: str, folder: Path | None = None) -> Found:
    """Return the circuit of one value, see ``find``; its files go into ``folder`` itself."""
    found = saved(engine, settings, value, folder)
    if folder:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return found


def saved(engine: Engine, settings: dict[str, Any], value: str, folder: Path | None) -> Found:
    """Return the circuit of one value, read from its folder or found and written there; keep the last checkpoint."""
    method = METHODS[settings["method"]]
    own = settings | {"size_by": method.size_by, "value": value}
    found = finished(folder, own) if folder else None
    if found is None:
        check_outputs([folder / name for name in (Found.FILE, Found.TRACE, CHECKPOINT)] if folder else [])
        found = search(engine, method, own, folder)
        if folder:
            found.save(folder)
    return found


def finished(folder: Path, settings: dict[str, Any]) -> Found | None:
    """Read the circuit of exactly these settings from its folder; None if there is none or it is damaged."""
    if not (folder / Found.FILE).exists() or not (folder / Found.TRACE).exists():
        return None
    try:
        found = Found.load(folder / Found.FILE)
    except (InputError, ValueError) as error:
        warnings.warn(f"{folder} holds a damaged circuit, which is found again: {first_line(error)}", stacklevel=2)
        return None
    return found if found.settings == settings else None


def search(engine: Engine, method: Method, settings: dict[str, Any], folder: Path | None) -> Found:
    """Run a method at one value, from its checkpoint if the folder has one."""
    own = {setting.name: settings[setting.name] for setting in method.settings}
    made = partial(method.load(), engine, METRICS[settings["metric"]].load(), float(settings["value"]), **own)
    checkpoint, started = folder / CHECKPOINT if folder else None, time.monotonic()
    run, before = resumed(made, checkpoint, settings) if checkpoint else (made(), 0.0)
    with progress_bar(run) as bar:
        for n, can_be_saved in run.steps():
            bar.set_postfix(run.status(), refresh=False)
            bar.update(n)
            if can_be_saved and checkpoint:
                save_state(checkpoint, settings, run.state() | {"seconds": before + time.monotonic() - started})
    if sentence := run.warning():
        warnings.warn(sentence, stacklevel=2)
    found = found_of(settings, run.outcome())
    found.seconds = before + time.monotonic() - started
    if not found.circuit.is_connected:
        warnings.warn(
            f"no path leads from the embedding to the logits at {method.size_by} {settings['value']}: the circuit, "
            f"{found.circuit.n_edges} edges, does what the ablated run does",
            stacklevel=2,
        )
    return found


def resumed(made: Callable[[], Search], checkpoint: Path, settings: dict[str, Any]) -> tuple[Search, float]:
    """Return a run that continues from its checkpoint, if there is a sound one, and the seconds that it took before."""
    run = made()
    try:
        if state := load_state(checkpoint, settings):
            with reading(checkpoint, "remove it", "checkpoint"):
                before = float(state.pop("seconds"))
                run.restore(state)
                return run, before
    except InputError as error:
        warnings.warn(
            f"checkpoint {checkpoint} is damaged, so the search starts afresh: {first_line(error)}", stacklevel=2
        )
        return made(), 0.0
    return run, 0.0


def found_of(settings: dict[str, Any], outcome: Outcome) -> Found:
    """Return an outcome as a found circuit with the settings that led to it."""
    result = {"final_metric": outcome.final_metric, "evaluations": outcome.evaluations, **outcome.more}
    trace = pd.DataFrame([row._asdict() for row in outcome.trace])
    return Found(settings, outcome.circuit, result | {"converged": outcome.converged, "origin": FOUND}, trace)


def score(
    engine: Engine, settings: dict[str, Any], *, fractions: Sequence[float] = (), sizes: Sequence[int] = ()
) -> list[Found]:
    """Score all edges or nodes once, and return the circuits of largest scores.

    Args:
        settings: the settings, as in ``find``.
        fractions: the circuits' sizes, as shares of all edges or nodes that have a score, see ``sizes_of``.
        sizes: the circuits' sizes, as numbers of edges or nodes, in place of ``fractions``.

    Raises:
        InputError: all scores are 0, because the method needs gradients and the metric is a distance.
    """
    method, metric, started = METHODS[settings["method"]], METRICS[settings["metric"]], time.monotonic()
    check_suits(method, metric)
    own = {setting.name: settings[setting.name] for setting in method.settings}
    bound = engine.metric(metric.load())
    if method.needs_slope and is_zero_at_model(engine, bound):
        check_suits(method, replace(metric, is_distance=True))
    selection = Selection.of(own)
    scores, evaluations, more, rows = scored(engine, method, metric.load(), own)
    found = []
    for n in sizes or sizes_of(selection.ranked(scores), fractions):
        cut = selection.cut(scores, n)
        circuit = engine.without_dead(cut.circuit)
        (final,) = engine.measure(bound, engine.finals(circuit))
        result = {"final_metric": final, "evaluations": evaluations, "converged": cut.converged, "origin": FOUND}
        result |= {PRUNED: len(cut.circuit) - len(circuit)} | more | cut.more
        found.append(Found(settings | {"size_by": method.size_by, "value": str(n)}, circuit, result, scores=rows))
    for one in found:
        one.seconds = time.monotonic() - started
    if empty := [one.value for one in found if one.result[PRUNED] and not len(one.circuit)]:
        warnings.warn(
            f"no path leads from the embedding to the logits at {method.size_by} {', '.join(empty)}: all edges there"
            " are dead, and without them the circuit does what the ablated run does",
            stacklevel=2,
        )
    return found


def scored(
    engine: Engine, method: Method, kind: MetricKind, own: Mapping[str, Any]
) -> tuple[Scores, int, dict[str, Any], pd.DataFrame]:
    """Score all edges or nodes on the engine's prompts or, if the settings ask for it, on bootstrap resamples of them.

    Args:
        own: the method's settings.

    Returns:
        The scores that rank edges or nodes; the number of runs of the model that they took; further entries for the
        results in the circuits' files; and a table of the scores, which says for resamples whether each is consistent.
    """
    code: Score = method.load()
    of_rule = {setting.name for setting in SELECTION}
    how = {name: value for name, value in own.items() if name not in of_rule}
    n = Selection.of(own).bootstraps
    if not n:
        scores, evaluations = code(engine, kind, **how)
        return scores, evaluations, {}, pd.DataFrame(scores.rows())
    resampled = [code(engine.on(engine.dataset.resample(i)), kind, **how) for i in range(n)]
    mean, consistent = mean_and_consistent([of_edges(one.scores) for one in resampled])
    rows = pd.DataFrame(mean.rows()).assign(consistent=consistent[mean.graph.exists])
    more = {"n_consistent": int(consistent.sum())}
    return consistent_first(mean, consistent), sum(one.evaluations for one in resampled), more, rows


def is_zero_at_model(engine: Engine, bound: list[Metric]) -> bool:
    """Return whether a metric is 0 at every scored position of the whole model, as a distance is."""
    finals = engine.finals(Circuit.full(engine.graph))
    values = [engine.values(metric, final).abs().max() for metric, final in zip(bound, finals, strict=True)]
    return max(values).item() <= engine.rounding


def sizes_of(ranked: Scores, fractions: Sequence[float]) -> list[int]:
    """Return the sizes of circuits: fractions of all scored edges or nodes or, if there are few, all sizes.

    If there are few, edges or nodes of equal score come in together, so that no order among them is made up.
    """
    values = -np.sort(-ranked.values)
    n = len(values)
    if n <= EVERY_SIZE:
        return [*(size for size in range(1, n) if values[size] < values[size - 1]), n]
    return sorted({max(1, round(fraction * n)) for fraction in fractions})


def progress_bar(run: Search) -> tqdm:
    """Return the progress bar of a search: a notebook's, a terminal's, or a line every ten seconds in a log."""
    interval = 0.2 if sys.stderr.isatty() or "ipykernel" in sys.modules else 10
    return tqdm(total=run.total, initial=run.done, unit=run.unit, mininterval=interval, maxinterval=interval)


def save_state(path: Path, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace a checkpoint in one step, so that a kill leaves either the old one or the new one."""
    save_torch({"settings": json.dumps(settings), "state": state}, path)


def load_state(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Read the state in a checkpoint; None if there is no checkpoint or it is of other settings.

    Raises:
        InputError: the checkpoint is damaged.
    """
    if not path.exists():
        return None
    saved = load_torch(path, "remove it", "checkpoint")
    with reading(path, "remove it", "checkpoint"):
        state: dict[str, Any] = saved["state"]
        return state if saved["settings"] == json.dumps(settings) else None
