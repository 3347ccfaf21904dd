"""Define the task mib_mcqa: answer with the letter of a colour, as in MIB's circuit track (Mueller et al. 2025).

"Question: The box is brown. What color is the box?" and four choices, A to D, are followed by the letter of "brown".
The corrupted prompt has other letters for the same choices ("symbol_counterfactual"); its right letter is the incorrect
answer. The task is from Wiegreffe et al. 2025, and the circuit track from arXiv 2504.13151; its own prompts are in
mib-bench/copycolors_mcqa.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import perm
from string import ascii_uppercase
from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.tasks import Task
from acdc.text import Prompt, distinct, following, is_one_token, needed, to_dataset, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLORS = ("black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "silver", "white", "yellow")
N_CHOICES = 4
LETTERS = ascii_uppercase[:N_CHOICES]


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of questions with four choices.

    Returns:
        A dataset whose target ``correct`` is the letter of the right choice, and ``incorrect`` the letter of that
        choice in the corrupted prompt.

    Raises:
        InputError: there is no tokenizer, it splits letters, or fewer prompts exist than are asked for.
    """
    rng = random.Random(seed)
    objects, others = words("objects"), other_letters(tokenizer)

    def draw(done: int) -> Prompt:
        thing, colors, right = rng.choice(objects), rng.sample(COLORS, N_CHOICES), rng.randrange(N_CHOICES)
        letters = rng.sample(others, N_CHOICES)
        clean, corrupted = (question(thing, colors, right, symbols) for symbols in (LETTERS, letters))
        return Prompt(clean, corrupted, correct=f" {LETTERS[right]}", incorrect=f" {letters[right]}")

    exist = len(objects) * perm(len(COLORS), N_CHOICES) * N_CHOICES
    prompts = distinct("mib_mcqa", draw, n_prompts, exist)
    return to_dataset(tokenizer, prompts, task="mib_mcqa", seed=seed)


def question(thing: str, colors: Sequence[str], right: int, letters: Sequence[str]) -> str:
    """Write a question and its choices."""
    choices = "".join(f"\n{letter}. {color}" for letter, color in zip(letters, colors, strict=True))
    return f"Question: The {thing} is {colors[right]}. What color is the {thing}?{choices}\nAnswer:"


def other_letters(tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    """Return the letters beyond those of clean prompts that are one token, both before a choice and as an answer.

    Raises:
        InputError: there are fewer letters than a prompt needs.
    """
    places = ("?\n", ""), ("Answer:", " ")
    found = [
        letter
        for letter in ascii_uppercase[N_CHOICES:]
        if all(is_one_token(tokenizer, following(tokenizer, text, f"{space}{letter}")) for text, space in places)
    ]
    if len(found) < N_CHOICES:
        raise InputError(
            f"task mib_mcqa: {len(found)} letters beyond {LETTERS[-1]} are one token in tokenizer"
            f" {needed(tokenizer).name_or_path} and a prompt needs {N_CHOICES}: choose another model for the task"
        )
    return found


TASK = Task(make_dataset=make_dataset)
