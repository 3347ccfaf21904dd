"""Build a model trained to name the larger of two of five numbers, by a circuit of two heads and an MLP."""

from __future__ import annotations

import torch

from acdc.models.toy.siit.files import of_program
from acdc.models.toy.siit.program import Program, Step, Tokens, Value, any_of, same

NUMBERS = "0 1 2 3 4 5 6 7 8 9"
N_POS, FIRST, SECOND = 5, 1, 3


def draw(program: Program, n: int, generator: torch.Generator) -> Tokens:
    """Draw prompts of five numbers, of which the second and the fourth count."""
    return any_of(program.ids(NUMBERS), (n, N_POS), generator)


def first(tokens: Tokens) -> Value:
    """Return the first number that counts."""
    return tokens[:, FIRST]


def second(tokens: Tokens) -> Value:
    """Return the second number that counts."""
    return tokens[:, SECOND]


PROGRAM = Program(
    name="trained_max",
    words=tuple(NUMBERS.split()),
    draw=draw,
    steps=(
        Step("a0.h0", (("embed", "v"),), first),
        Step("a0.h3", (("embed", "v"),), second),
        Step("m1", (("a0.h0", ""), ("a0.h3", "")), torch.maximum),
        Step("logits", (("m1", ""),), same),
    ),
    n_layers=2,
    n_steps=1000,
    n_distinct=10**5,
)
TRAINED = of_program(PROGRAM)
build = TRAINED.build
