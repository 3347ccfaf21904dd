"""Build a model trained to add two of five digits modulo 7, by a circuit of a head and an MLP."""

from __future__ import annotations

import torch

from acdc.models.toy.siit.files import of_program
from acdc.models.toy.siit.program import Program, Step, Tokens, Value, any_of, same

DIGITS = "0 1 2 3 4 5 6"
N_POS, FIRST = 5, 1


def draw(program: Program, n: int, generator: torch.Generator) -> Tokens:
    """Draw prompts of five digits, of which the second and the last count."""
    return any_of(program.ids(DIGITS), (n, N_POS), generator)


def first(tokens: Tokens) -> Value:
    """Return the first digit that counts."""
    return tokens[:, FIRST]


def added(tokens: Tokens, digit: Value) -> Value:
    """Return the sum modulo 7 of a digit and the last digit."""
    return (tokens[:, -1] + digit) % len(DIGITS.split())


PROGRAM = Program(
    name="trained_sum",
    words=tuple(DIGITS.split()),
    draw=draw,
    steps=(
        Step("a0.h2", (("embed", "v"),), first),
        Step("m0", (("embed", ""), ("a0.h2", "")), added),
        Step("logits", (("m0", ""),), same),
    ),
    n_layers=2,
    n_steps=1500,
    n_distinct=7**5,
)
TRAINED = of_program(PROGRAM)
build = TRAINED.build
