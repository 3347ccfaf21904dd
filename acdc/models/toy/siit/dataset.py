"""Make prompts for models that were trained to follow a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from acdc.data import Dataset
from acdc.models.toy.siit.program import Program, Tokens
from acdc.prompt_files import Prompt
from acdc.text import check_count, last_scored, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_dataset(program: Program, tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of distinct prompts, each with a corrupted ("baseline") prompt whose answer is another one.

    Returns:
        A dataset whose target ``correct`` is the answer, and ``incorrect`` the answer of the corrupted prompt.

    Raises:
        InputError: more prompts are asked for than exist, or none; or the model has no tokenizer and prompts are texts.
    """
    check_count(program.name, n_prompts, exist=program.n_distinct)
    generator = torch.Generator().manual_seed(seed)
    clean = distinct(program, n_prompts, generator)
    corrupted = others(program, clean, generator)
    answers = [program.answers(prompts) for prompts in (clean, corrupted)]
    if program.is_text:
        texts = [[program.text(row) for row in rows] for rows in (clean, corrupted, *(a[:, None] for a in answers))]
        return to_dataset(tokenizer, [Prompt(*row) for row in zip(*texts, strict=True)], task=program.name, seed=seed)
    about = {"task": program.name, "seed": seed}
    about |= {name: [program.text(row) for row in rows] for name, rows in (("clean", clean), ("corrupted", corrupted))}
    pairs = list(zip(clean.tolist(), corrupted.tolist(), strict=True))
    return last_scored(pairs, 0, dict(zip(("correct", "incorrect"), answers, strict=True)), about)


def distinct(program: Program, n_prompts: int, generator: torch.Generator) -> Tokens:
    """Draw ``n_prompts`` distinct prompts."""
    found: dict[tuple[int, ...], None] = {}
    while len(found) < n_prompts:
        found |= dict.fromkeys(map(tuple, program.draw(program, n_prompts, generator).tolist()))
    return torch.tensor(list(found)[:n_prompts])


def others(program: Program, clean: Tokens, generator: torch.Generator) -> Tokens:
    """Draw for each prompt another one with another answer."""
    answers, drawn = program.answers(clean), program.draw(program, len(clean), generator)
    while (again := program.answers(drawn) == answers).any():
        drawn[again] = program.draw(program, int(again.sum()), generator)
    return drawn
