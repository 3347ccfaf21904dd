"""Build a model trained to identify the indirect object, by a circuit like GPT-2's.

A duplicate-token head finds which of two names is repeated, an S-inhibition head moves that to the end, and a name
mover copies the other name. These are three steps of GPT-2's circuit (Wang et al. 2022), with one head each.
"""

from __future__ import annotations

import torch

from acdc.models.toy.siit.files import of_program
from acdc.models.toy.siit.program import (
    UNDEFINED,
    Program,
    Step,
    Tokens,
    Value,
    any_of,
    in_any_order,
    same,
    without_repetition,
)

NAMES = "Anna Ben Carl Dora Emil Fritz Greta Hans"
OBJECTS = "ball book drink ring coat pen lamp key"
TEMPLATE = "When {} and {} met {} gave a {} to"
FIRST, SECOND, AGAIN = 1, 3, 5
"""The positions of names in a prompt."""


def draw(program: Program, n: int, generator: torch.Generator) -> Tokens:
    """Draw prompts of two names, the first or the second name again, and an object."""
    return filled(program, without_repetition(program.ids(NAMES), (n, 2), generator), generator)


def draw_like(program: Program, prompts: Tokens, generator: torch.Generator) -> Tokens:
    """Draw prompts of the same names."""
    return filled(program, in_any_order(prompts[:, [FIRST, SECOND]], generator), generator)


def filled(program: Program, names: Tokens, generator: torch.Generator) -> Tokens:
    """Return prompts of two given names each, with the rest drawn at random."""
    n = len(names)
    again = names.gather(1, torch.randint(2, (n, 1), generator=generator))
    columns = iter([names[:, :1], names[:, 1:], again, any_of(program.ids(OBJECTS), (n, 1), generator)])
    after = TEMPLATE.split()[1:]
    words = [next(columns) if word == "{}" else program.ids(word).expand(n, 1) for word in after]
    return torch.cat([torch.full((n, 1), program.begin), *words], 1)


def which_is_again(query: Tokens, key: Tokens) -> Value:
    """Return the index of the name that is repeated: 0 or 1."""
    again = query[:, AGAIN]
    return torch.where(key[:, FIRST] == again, 0, torch.where(key[:, SECOND] == again, 1, UNDEFINED))


def other_name(again: Value, tokens: Tokens) -> Value:
    """Return the name that is not repeated."""
    name = torch.where(again == 0, tokens[:, SECOND], tokens[:, FIRST])
    return torch.where(again == UNDEFINED, UNDEFINED, name)


PROGRAM = Program(
    name="trained_ioi",
    words=tuple(dict.fromkeys([*TEMPLATE.replace("{}", "").split(), *NAMES.split(), *OBJECTS.split()])),
    draw=draw,
    draw_like=draw_like,
    steps=(
        Step("a0.h0", (("embed", "q"), ("embed", "k")), which_is_again),
        Step("a1.h3", (("a0.h0", "v"),), same),
        Step("a2.h1", (("a1.h3", "q"), ("embed", "v")), other_name),
        Step("logits", (("a2.h1", ""),), same),
    ),
    n_layers=3,
    n_steps=3000,
    n_distinct=8 * 7 * 2 * 8,
    is_text=True,
)
TRAINED = of_program(PROGRAM)
build = TRAINED.build
