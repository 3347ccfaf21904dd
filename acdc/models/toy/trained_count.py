"""Build a model trained to count how often the last letter occurs: RASP's ``Width(Select(tokens, tokens, ==))``.

As in compiled models, a head attends to the same letters and to BOS, and an MLP reads the count off the share of
attention on BOS. The values that the head moves are the same in all prompts. The model was trained to have this
circuit.
"""

from __future__ import annotations

import torch

from acdc.models.toy.siit.files import of_program
from acdc.models.toy.siit.program import Program, Step, Tokens, Value, any_of, in_any_order, same

LETTERS, COUNTS = "a b c d e", "1 2 3 4"
N_LETTERS = 4


def draw(program: Program, n: int, generator: torch.Generator) -> Tokens:
    """Draw prompts of BOS and four letters, of which a random share is the last letter."""
    letters = any_of(program.ids(LETTERS), (n, N_LETTERS), generator)
    is_last = torch.rand(n, N_LETTERS, generator=generator) < torch.rand(n, 1, generator=generator)
    letters = torch.where(is_last, letters[:, -1:], letters)
    return torch.cat([program.ids("BOS").expand(n, 1), letters], 1)


def draw_like(program: Program, prompts: Tokens, generator: torch.Generator) -> Tokens:
    """Draw prompts of the same letters, so that the last letter of each prompt occurs in the other."""
    return torch.cat([prompts[:, :1], in_any_order(prompts[:, 1:], generator)], 1)


def count(query: Tokens, key: Tokens) -> Value:
    """Return how often the last letter occurs."""
    return (key == query[:, -1:]).sum(1)


def numeral(n: Value) -> Value:
    """Return the token of a count from 1 on."""
    return n - 1


PROGRAM = Program(
    name="trained_count",
    words=(*COUNTS.split(), *LETTERS.split(), "BOS"),
    draw=draw,
    draw_like=draw_like,
    steps=(
        Step("a0.h3", (("embed", "q"), ("embed", "k")), count),
        Step("m1", (("a0.h3", ""),), numeral),
        Step("logits", (("m1", ""),), same),
    ),
    n_layers=2,
    n_steps=2500,
    seed=1,
    n_distinct=5**N_LETTERS,
)
TRAINED = of_program(PROGRAM)
build = TRAINED.build
