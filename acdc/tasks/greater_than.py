"""Define the task greater_than: predict a later year (Hanna et al. 2023, arXiv 2305.00586; Conmy et al. 2023, table 1).

"The war lasted from the year 1732 to 17" is followed by two digits above 32. The corrupted ("baseline") prompt has 01
in place of 32. Nouns, years, draws and seed are those of acdc/greaterthan/utils.py at bc99ace8, so that 200 prompts of
seed 54 are the paper's 100 + 100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.known import from_file
from acdc.tasks import Task
from acdc.text import check_count, encode, needed, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE = "The {noun} lasted from the year {year} to {century}"
CENTURIES = range(11, 18)
TWO_DIGITS = [f"{i:02}" for i in range(100)]


def usable_years(tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    """Return the years that are two tokens, century and two digits, without each century's first and last one.

    Raises:
        InputError: the tokenizer has no such years; only GPT-2's is known to have them.
    """
    years = []
    for century in CENTURIES:
        (first, *_) = encode(tokenizer, f" {century}")
        digits = [encode(tokenizer, two) for two in TWO_DIGITS]
        split = [
            f"{century}{two}"
            for two, tokens in zip(TWO_DIGITS[2:99], digits[2:99], strict=True)
            if encode(tokenizer, f" {century}{two}") == [first, tokens[0]]
        ]
        years += split[1:-1]
    if not years:
        raise InputError(
            f"task greater_than needs years of two tokens, such as ' 17' and '32', and tokenizer"
            f" {needed(tokenizer).name_or_path} has none: choose a model with GPT-2's tokenizer"
        )
    return years


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of prompts drawn with replacement, as in the paper, whose ``seed`` is 54.

    Returns:
        A dataset whose target ``answers`` is the 100 tokens of two digits, and ``right`` says which of them are later
        than the year. The year's two digits have the label ``YY``.

    Raises:
        InputError: there is no tokenizer, or none like GPT-2's.
    """
    nouns, years = words("greater_than_nouns"), usable_years(tokenizer)
    check_count("greater_than", n_prompts, exist=len(nouns) * len(years))
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randint(0, len(of), (n_prompts,), generator=generator).tolist() for of in (nouns, years)]
    pairs = [(nouns[i], years[j]) for i, j in zip(*chosen, strict=True)]
    texts = [TEMPLATE.format(noun=noun, year=year, century=year[:2]) for noun, year in pairs]
    clean = torch.tensor([encode(tokenizer, text) for text in texts])  # [prompt pos]
    answers = torch.tensor([encode(tokenizer, two)[0] for two in TWO_DIGITS])
    corrupted, digits = clean.clone(), clean.shape[1] - 3  # the last two tokens are " to" and the century
    corrupted[:, digits] = answers[1]
    scored = torch.zeros_like(clean, dtype=torch.bool)
    scored[:, -1] = True
    right = torch.tensor([[i > int(year[2:]) for i in range(100)] for _, year in pairs])
    targets = {"answers": answers.expand(n_prompts, -1), "right": right}
    about = {"task": "greater_than", "seed": seed, "clean": texts}
    about["corrupted"] = [text.replace(year, f"{year[:2]}01") for text, (_, year) in zip(texts, pairs, strict=True)]
    labels = {"YY": torch.full((n_prompts, 2), digits)}
    return Dataset(clean, corrupted, scored, targets, about, labels=labels)


TASK = Task(
    make_dataset=make_dataset,
    metrics=("kl_divergence", "probability_difference"),
    known_circuits={"gpt2": {"published": from_file("greater_than")}},
    bos=False,
)
