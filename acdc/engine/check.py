"""Compare the engine with TransformerLens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.graph import Circuit

TOLERANCE = 1e-3
"""Largest difference in a logit between the engine and TransformerLens. In trained models float32 rounding stays below
1e-4."""
ROUNDINGS = 4
"""A larger difference still counts as rounding below this many times the engine's own rounding."""


def check_engine(
    engine: Engine, clean: Float[Tensor, "scored d_vocab"], corrupted: Float[Tensor, "scored d_vocab"] | None
) -> None:
    """Check that the circuit of all edges has the model's logits, and the circuit of none the corrupted run's.

    Args:
        clean, corrupted: TransformerLens's logits at the scored positions. ``corrupted`` is None where the ablated run
            is no plain run on the corrupted prompts.

    Raises:
        InputError: the logits differ, so the engine computes another model than TransformerLens.
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
    """Return the largest difference in a logit of a circuit between float32 and float64."""
    dtype = torch.float64 if engine.weights.embed.dtype == torch.float32 else torch.float32
    other = Engine(
        engine.weights.to(engine.device, dtype),
        engine.dataset,
        ablation=engine.ablation,
        split_embed=engine.graph.split_embed,
        memory=engine.memory,
    )
    return (other.circuit_logits(circuit) - engine.circuit_logits(circuit)).abs().max().item()
