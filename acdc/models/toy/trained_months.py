"""Build a model trained to name the next month, by a circuit of a head and the last MLP."""

from __future__ import annotations

import torch

from acdc.models.toy.siit.files import of_program
from acdc.models.toy.siit.program import Program, Step, Tokens, Value, any_of, same, without_repetition
from acdc.tasks.months import MONTHS

NAMES = "Anna Ben Carl Dora Emil Fritz Greta Hans"
AFTER = "so a month later it was"
MONTH = 5
"""The position of the month in a prompt."""


def draw(program: Program, n: int, generator: torch.Generator) -> Tokens:
    """Draw prompts such as "When Anna met Ben in March so a month later it was"."""
    names = without_repetition(program.ids(NAMES), (n, 2), generator)
    months = any_of(program.ids(" ".join(MONTHS)), (n, 1), generator)
    begin = torch.full((n, 1), program.begin)
    met, within, after = (program.ids(words).expand(n, -1) for words in ("met", "in", AFTER))
    return torch.cat([begin, names[:, :1], met, names[:, 1:], within, months, after], 1)


def month(tokens: Tokens) -> Value:
    """Return the index of the month that a prompt names: 0 to 11."""
    return (tokens[:, MONTH, None] == PROGRAM.ids(" ".join(MONTHS))).int().argmax(1)


def next_month(number: Value) -> Value:
    """Return the token of the next month."""
    return PROGRAM.ids(" ".join(MONTHS))[(number + 1) % len(MONTHS)]


PROGRAM = Program(
    name="trained_months",
    words=("When", "met", "in", *AFTER.split(), *NAMES.split(), *MONTHS),
    draw=draw,
    steps=(
        Step("a0.h2", (("embed", "v"),), month),
        Step("m1", (("a0.h2", ""),), next_month),
        Step("logits", (("m1", ""),), same),
    ),
    n_layers=2,
    n_steps=1500,
    n_distinct=8 * 7 * 12,
    is_text=True,
)
TRAINED = of_program(PROGRAM)
build = TRAINED.build
