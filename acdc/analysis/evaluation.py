"""Measure circuits on held-out prompts, and the model itself on a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.data import NO_ANSWER, Dataset, answers
from acdc.engine.check import TOLERANCE
from acdc.engine.model import Engine
from acdc.found import SIZE, Found, sizes_of
from acdc.graph import Circuit, Graph
from acdc.methods.random_order import random_scores
from acdc.metrics import MetricKind


def circuit_rows(
    engine: Engine, metrics: Mapping[str, MetricKind], circuits: Iterable[tuple[dict[str, Any], Circuit]]
) -> Iterator[dict[str, Any]]:
    """Yield one row per circuit: its labels, the counts of ``sizes_of``, and every metric on the engine's dataset.

    Raises:
        ArithmeticError: a metric is not a finite number; the message names it and the circuit.
    """
    bound = {name: engine.metric(kind) for name, kind in metrics.items()}
    for labels, circuit in circuits:
        finals = engine.finals(circuit)
        values = {name: engine.measure(metric, finals)[0] for name, metric in bound.items()}
        for name, value in values.items():
            if not np.isfinite(value):
                raise ArithmeticError(f"{name} of circuit {labels} is {value}")
        yield {**labels, **sizes_of(circuit), **values}


def node_effects(engine: Engine, kind: MetricKind, circuit: Circuit) -> Iterator[tuple[str, float]]:
    """Yield each node's name, and by how much the metric rises without the node's outgoing edges in the circuit.

    Raises:
        ArithmeticError: an effect is not a finite number; the message names the node.
    """
    metric = engine.metric(kind)
    (whole,) = engine.measure(metric, engine.finals(circuit))
    for sender in np.flatnonzero(circuit.present.any(1)):
        without, name = circuit.copy(), circuit.graph.senders[sender].name
        without.present[sender] = False
        (value,) = engine.measure(metric, engine.finals(without))
        if not np.isfinite(value - whole):
            raise ArithmeticError(f"the effect of removing {name} is {value - whole}")
        yield name, value - whole


def node_table(engine: Engine, kind: MetricKind, found: Iterable[Found]) -> pd.DataFrame:
    """Return a table with a row per circuit and node: ``SIZE``, ``node`` and its ``effect``, see ``node_effects``."""
    rows = [
        (*(one.settings[key] for key in SIZE), node, effect)
        for one in found
        for node, effect in node_effects(engine, kind, one.circuit)
    ]
    # Circuits without an edge have no node: the columns stay.
    return pd.DataFrame(rows, columns=[*SIZE, "node", "effect"])


def controls(graph: Graph, seeds: int, fractions: Sequence[float]) -> Iterator[tuple[str, int | None, Circuit]]:
    """Yield control circuits that a found circuit should beat: all edges, no edges, and nested sets of random edges.

    Args:
        seeds: the number of random orders of the edges.
        fractions: the fractions of the addition edges that random circuits have, one circuit for each and every seed.
            Ports that an edge enters get their direct edge too.

    Yields:
        The name (``full``, ``empty`` or ``random``), the seed of a random circuit, and the circuit.
    """
    yield "full", None, Circuit.full(graph)
    yield "empty", None, Circuit.empty(graph)
    for seed in range(seeds):
        scores = random_scores(graph, seed)
        for fraction in fractions:
            yield "random", seed, scores.top(round(fraction * int(graph.exists.sum())))


def behaviour_rows(
    dataset: Dataset, logits: Mapping[str, Float[Tensor, "scored d_vocab"]], metrics: Mapping[str, MetricKind]
) -> Iterator[dict[str, Any]]:
    """Measure the model itself on a task, and yield one row for the clean and one for the corrupted prompts.

    Args:
        logits: the model's logits at the scored positions, under ``clean`` and ``corrupted``.

    Yields:
        ``bos``, whether prompts begin with the beginning-of-sequence token; ``accuracy``, the share of scored positions
        whose likeliest token is a correct one, or whose logits are the target ``outputs``; ``prefers_correct``, the
        share where a correct answer's logit is above every incorrect one's; and the means of the metrics. The two
        shares are there if the dataset has such targets.
    """
    weight = dataset.weight.to(logits["clean"].device)
    for prompts, values in logits.items():
        row = {
            "prompts": prompts,
            "n_prompts": len(dataset),
            "bos": dataset.about.get("bos"),
            **right_answers(dataset, values),
        }
        for name, kind in metrics.items():
            metric = kind(dataset, logits["clean"])
            columns = values if metric.columns is None else values.gather(1, metric.columns)
            row[name] = (metric(columns).double() @ weight).item()
        yield row


def right_answers(dataset: Dataset, logits: Float[Tensor, "scored d_vocab"]) -> dict[str, float]:
    """Return the shares of scored positions with the right answer, see ``behaviour_rows``."""
    prompt, _ = dataset.scored_rows
    shares = {}
    if "outputs" in dataset.targets:
        far = (logits - dataset.targets["outputs"][dataset.scored]).abs().amax(-1)
        shares["accuracy"] = far < TOLERANCE
    if "correct" in dataset.targets:
        correct, incorrect = (answers(dataset.targets, name)[prompt] for name in ("correct", "incorrect"))
        shares["accuracy"] = (logits.argmax(-1, keepdim=True) == correct).any(1)
        shares["prefers_correct"] = best(logits, correct) > best(logits, incorrect)
    return {name: share.float().mean().item() for name, share in shares.items()}


def best(logits: Float[Tensor, "scored d_vocab"], tokens: Int[Tensor, "scored answer"]) -> Float[Tensor, "scored"]:
    """Return the largest logit among the answers of every scored position."""
    return logits.gather(1, tokens.clamp(min=0)).masked_fill(tokens == NO_ANSWER, -torch.inf).amax(1)
