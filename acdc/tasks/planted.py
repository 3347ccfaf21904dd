"""Define the task planted, for the model with a planted circuit in ``acdc.models.toy.planted``.

A prompt has seven different tokens, and then one of the second to sixth again. The answer is the successor of the token
that followed that one the first time. The corrupted ("baseline") prompt is another prompt of the same form.
"""

from __future__ import annotations

import random
from math import perm
from typing import Any

import torch

from acdc.data import Dataset
from acdc.models.toy import planted as model
from acdc.tasks import Task
from acdc.text import check_count


def make_dataset(tokenizer: Any | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of distinct prompts, each with a corrupted prompt whose answer is another one.

    Returns:
        A dataset whose target ``correct`` is the answer, and ``incorrect`` the answer of the corrupted prompt.

    Raises:
        InputError: more prompts are asked for than exist, or none.
    """
    rng = random.Random(seed)
    check_count("planted", n_prompts, exist=perm(model.N_TOKENS, model.N_POS - 1) * (model.N_POS - 3))
    clean: dict[tuple[int, ...], None] = {}
    while len(clean) < n_prompts:
        clean[draw(rng)] = None
    corrupted = []
    for prompt in clean:
        other = draw(rng)
        while answer(other) == answer(prompt):
            other = draw(rng)
        corrupted.append(other)
    scored = torch.zeros(n_prompts, model.N_POS, dtype=torch.bool)
    scored[:, -1] = True
    targets = {
        name: torch.tensor([answer(p) for p in prompts])
        for name, prompts in (("correct", clean), ("incorrect", corrupted))
    }
    about = {"task": "planted", "seed": seed, "clean": list(clean), "corrupted": corrupted}
    return Dataset(torch.tensor(list(clean)), torch.tensor(corrupted), scored, targets, about)


def draw(rng: random.Random) -> tuple[int, ...]:
    """Draw one prompt."""
    tokens = rng.sample(range(model.N_TOKENS), model.N_POS - 1)
    return (*tokens, tokens[rng.randrange(1, model.N_POS - 2)])


def answer(prompt: tuple[int, ...]) -> int:
    """Return a prompt's answer: the successor of the token that followed the last token the first time."""
    return (prompt[prompt.index(prompt[-1]) + 1] + 1) % model.N_TOKENS


TASK = Task(
    make_dataset=make_dataset,
    known_circuits={"planted": {"planted": model.known_circuit}},
    made_for=("planted",),
)
