"""What circuits do on held-out prompts, and what the model itself does on a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from acdc.data import Dataset
from acdc.engine import Engine
from acdc.engine.runs import Rows
from acdc.errors import InputError
from acdc.graph import Circuit, EdgeScores, Graph, Scores
from acdc.metrics import Metric

TOLERANCE = 1e-3
"""Largest difference in a logit between the engine and TransformerLens; float32 rounding stays below 1e-4 in models
that were trained."""
ROUNDINGS = 4
"""A larger difference is rounding too where it is less than this many times what the engine's own precision makes."""


def check_engine(
    engine: Engine, clean: Float[Tensor, "scored d_vocab"], corrupted: Float[Tensor, "scored d_vocab"] | None
) -> None:
    """All edges must give the model's own logits, none the corrupted run's.

    Args:
        clean, corrupted: TransformerLens's logits at the scored positions; None where removed edges are
            not replaced by a plain run on the corrupted prompts.

    Raises:
        InputError: they do not; the engine computes another model than TransformerLens.
    """
    expected = {"all": (Circuit.full(engine.graph), clean), "no": (Circuit.empty(engine.graph), corrupted)}
    for which, (circuit, logits) in expected.items():
        if logits is None:
            continue
        difference = (engine.circuit_logits(circuit) - logits).abs().max().item()
        if not (difference < TOLERANCE or difference < ROUNDINGS * rounding_of_logits(engine, circuit)):
            raise InputError(
                f"with {which} edges the engine's logits differ from TransformerLens's by {difference:.2g} "
                f"(at most {TOLERANCE} is rounding): the engine does not cover this model"
            )


def rounding_of_logits(engine: Engine, circuit: Circuit) -> float:
    """The largest difference in a logit of a circuit between float32 and float64."""
    dtype = torch.float64 if engine.weights.embed.dtype == torch.float32 else torch.float32
    settings = {"ablation": engine.ablation, "split_embed": engine.graph.split_embed, "memory": engine.memory}
    other = Engine(engine.weights.to(engine.device, dtype), engine.dataset, **settings)
    return (other.circuit_logits(circuit) - engine.circuit_logits(circuit)).abs().max().item()


def circuit_rows(
    engine: Engine, metrics: Mapping[str, type[Metric]], circuits: Iterable[tuple[dict[str, Any], Circuit]]
) -> Iterator[dict[str, Any]]:
    """One row per circuit: what it is called, its size, and every metric on the engine's dataset.

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
        yield {**labels, "n_edges": circuit.n_edges, "n_nodes": len(circuit.nodes), **values}


def node_effects(engine: Engine, kind: type[Metric], circuit: Circuit) -> Iterator[tuple[str, float]]:
    """By name: how much the metric rises when all that a node sends in the circuit is removed from it.

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


EVERY_SIZE = 200
"""Scores that are so few that nested circuits are of every size that they tell apart."""


def nested_circuits(scores: Scores, fractions: Sequence[float]) -> Iterator[tuple[str, Circuit]]:
    """The best edges or nodes by a score, by their number: some fractions of all or, where they are few, any.

    Where they are few, those of one score come together, so that no order among them is made up.
    """
    ranked = -np.sort(-scores.values)
    n = len(ranked)
    if n <= EVERY_SIZE:
        sizes = [*(size for size in range(1, n) if ranked[size] < ranked[size - 1]), n]
    else:
        sizes = sorted({max(1, round(fraction * n)) for fraction in fractions})
    for size in sizes:
        yield f"top {size}", scores.top(size)


def random_circuits(graph: Graph, seeds: int, fractions: Sequence[float]) -> Iterator[tuple[str, Circuit]]:
    """Nested circuits of random edges, by seed: the control that a found circuit has to beat.

    Args:
        fractions: of the graph's addition edges. Ports that receive an edge get their direct edge too.
    """
    n_edges = int(graph.exists.sum())
    for seed in range(seeds):
        scores = random_scores(graph, seed)
        for fraction in fractions:
            yield f"seed {seed}", scores.top(round(fraction * n_edges))


def random_scores(graph: Graph, seed: int) -> EdgeScores:
    """What knows nothing of the model."""
    score = np.random.default_rng(seed).random(graph.exists.shape)
    return EdgeScores(graph, np.where(graph.exists, score, np.nan))


def behaviour_rows(
    dataset: Dataset, logits: Mapping[str, Float[Tensor, "scored d_vocab"]], metrics: Mapping[str, type[Metric]]
) -> Iterator[dict[str, Any]]:
    """Whether the model does the task at all: one row for clean and one for corrupted prompts.

    Args:
        logits: the model's at the scored positions, under ``clean`` and ``corrupted``.

    Yields:
        ``accuracy``, the share of scored positions whose likeliest token is the correct one, or whose logits are
        the target ``outputs``; ``prefers_correct``, the share where the correct answer's logit is above
        every incorrect one's; both as far as the dataset has such targets; and the mean metrics.
    """
    weight = Rows.of(dataset, logits["clean"].device).weight
    for prompts, values in logits.items():
        row = {"prompts": prompts, "n_prompts": len(dataset), **right_answers(dataset, values)}
        for name, kind in metrics.items():
            metric = kind(dataset, logits["clean"])
            columns = values if metric.columns is None else values.gather(1, metric.columns)
            row[name] = (metric(columns).double() @ weight).item()
        yield row


def right_answers(dataset: Dataset, logits: Float[Tensor, "scored d_vocab"]) -> dict[str, float]:
    """Shares of scored positions with the right answer, see ``behaviour_rows``."""
    prompt, _ = dataset.scored_rows
    shares = {}
    if "outputs" in dataset.targets:
        far = (logits - dataset.targets["outputs"][dataset.scored]).abs().amax(-1)
        shares["accuracy"] = far < TOLERANCE
    if "correct" in dataset.targets:
        correct, incorrect = (dataset.targets[name][prompt].view(len(prompt), -1) for name in ("correct", "incorrect"))
        shares["accuracy"] = logits.argmax(-1, keepdim=True) == correct
        shares["prefers_correct"] = logits.gather(1, correct) > logits.gather(1, incorrect).amax(1, keepdim=True)
    return {name: share.float().mean().item() for name, share in shares.items()}
