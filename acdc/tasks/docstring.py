"""Define the task docstring: complete docstrings (Heimersheim and Janiak 2023; Conmy et al. 2023, table 1).

A function's arguments are documented one after another; the next argument follows the last ":param". The corrupted
("baseline") prompt has other arguments both in the definition and in the docstring (``random_random``).
Words, draws and seeds are those of acdc/docstring/prompts.py at bc99ace8, so that with seed 0 the first 100 prompts
are the paper's 50 + 50.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import torch

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.known import from_file
from acdc.tasks import Task
from acdc.text import answer_token, check_count, encode, needed, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_MATCHING, N_BEFORE, N_AFTER = 3, 2, 1
"""The numbers of arguments that the docstring is about, and of others before and after them in the definition."""
N_DESCRIBING, N_ABOUT = 2, 3
"""The numbers of words that describe an argument, and the function."""
PARAM = "    :param"


class Doc(NamedTuple):
    """Hold the arguments in a prompt's definition and in its docstring, which differ between clean and corrupted."""

    definition: list[str]
    documented: list[str]


def text(function: str, about: Sequence[str], descriptions: Sequence[Sequence[str]], doc: Doc) -> str:
    """Write a function's definition and its docstring up to the argument to predict."""
    lines = [
        "",
        f"def {function}(self, {', '.join(doc.definition)}):",
        f'    """{" ".join(about)}',
        "",
        *(f"{PARAM} {a}: {' '.join(d)}" for a, d in zip(doc.documented, descriptions, strict=True)),
        PARAM,
    ]
    return "\n".join(lines)


class Prompt(NamedTuple):
    """Hold a clean prompt, its corrupted prompt, the next argument, and incorrect arguments."""

    clean: str
    corrupted: str
    correct: str
    incorrect: list[str]


def draw(seed: int, arguments: list[str], nouns: list[str]) -> Prompt:
    """Draw one prompt; arguments that were drawn for corruptions of other kinds are incorrect answers too."""
    rng = random.Random(seed)
    documented = N_MATCHING - 1
    sizes = (1, N_MATCHING, documented, documented, N_MATCHING, N_BEFORE, N_AFTER)
    function, *drawn = rng.sample(arguments, 1 + sum(sizes))
    rest = iter(drawn)
    _, other_definition, other_documented, _, matching, before, after = (list(islice(rest, size)) for size in sizes)
    about = rng.sample(nouns, N_ABOUT)
    descriptions = [rng.sample(nouns, N_DESCRIBING) for _ in range(documented)]
    clean = Doc([*before, *matching, *after], matching[:-1])
    corrupted = Doc([*before, *other_definition, *after], other_documented)
    first, second = (text(function, about, descriptions, doc) for doc in (clean, corrupted))
    return Prompt(first, second, matching[-1], [argument for argument in drawn if argument != matching[-1]])


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return a list of the token that TransformerLens 1.x put before every prompt; empty if there is none."""
    token = tokenizer.bos_token_id
    return [] if token is None else [token]


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of the prompts of seeds ``seed``, ``seed + 1``, ...; the paper's begin at 0.

    Returns:
        A dataset whose target ``correct`` is the next argument, and ``incorrect`` 13 other arguments.

    Raises:
        InputError: there is no tokenizer, or it splits arguments so that prompts differ in length.
    """
    check_count("docstring", n_prompts, exist=10**6)
    arguments, nouns = words("docstring_arguments"), words("docstring_nouns")
    prompts = [draw(seed + i, arguments, nouns) for i in range(n_prompts)]
    # Answers first: the message that an argument is two tokens says more than the one that two lengths differ.
    correct = torch.tensor([answer_token(tokenizer, p.clean, f" {p.correct}") for p in prompts])
    incorrect = torch.tensor([[answer_token(tokenizer, p.clean, f" {a}") for a in p.incorrect] for p in prompts])
    clean, corrupted = (
        same_length(needed(tokenizer), [getattr(p, kind) for p in prompts]) for kind in ("clean", "corrupted")
    )
    scored = torch.zeros_like(clean, dtype=torch.bool)
    scored[:, -1] = True
    about = {"task": "docstring", "seed": seed, "clean": [p.clean for p in prompts]}
    about["corrupted"] = [p.corrupted for p in prompts]
    return Dataset(clean, corrupted, scored, {"correct": correct, "incorrect": incorrect}, about)


def same_length(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> torch.Tensor:
    """Encode texts that must have one length: Int[prompt pos]. Raise InputError if two differ in length."""
    rows = [beginning(tokenizer) + encode(tokenizer, each) for each in texts]
    if len({len(row) for row in rows}) > 1:
        raise InputError(
            f"task docstring: prompts have {min(map(len, rows))} to {max(map(len, rows))} tokens in tokenizer"
            f" {tokenizer.name_or_path}, which splits some of the words: choose another model for the task"
        )
    return torch.tensor(rows)


TASK = Task(
    make_dataset=make_dataset,
    metrics=("kl_divergence", "docstring_metric"),
    known_circuits={"attn-only-4l": {"published": from_file("docstring")}},
    bos=False,  # the dataset has the token already, as the paper's does
)
