"""The month that continues a sequence (Lan et al. 2023, arXiv 2311.04131).

"Van done in January. Hat done in February. Ring done in March. Desk done in April. Lamp done in" is followed by
" May". The corrupted ("baseline") prompt has the same things and four months of which none follows the one
before it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from math import perm
from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.prompts import WORDS, Prompt, answer_token, distinct, to_dataset, words
from acdc.tasks import Task
from acdc.tasks.months import MONTHS, month_after

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def text(items: Sequence[str], months: Sequence[str]) -> str:
    """A sentence for each month, and one without for the last item."""
    done = [f"{item} done in {month}." for item, month in zip(items, months, strict=False)]
    return " ".join([*done, f"{items[-1]} done in"])


def scrambled(rng: random.Random, given: Sequence[str]) -> list[str]:
    """Four different months, none after its predecessor, none where it is in ``given``.

    The last condition keeps the corrupted prompt from suggesting the same answer by its last month.
    """
    while True:
        months = rng.sample(MONTHS, 4)
        in_sequence = any(month_after(a) == b for a, b in pairwise(months))
        if not in_sequence and all(a != b for a, b in zip(months, given, strict=True)):
            return months


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Five items and four months in order, which may pass from December to January.

    Returns:
        ``targets``: ``correct``, the next month; ``incorrect``, the last month given.

    Raises:
        InputError: there is no tokenizer, it splits a month, or fewer prompts exist than are asked for.
    """
    rng = random.Random(seed)
    items = words(WORDS / "items.txt")
    # Months of several tokens could give clean and corrupted prompts one length and still misalign them.
    for month in MONTHS:
        answer_token(tokenizer, "done in", month)

    def draw(done: int) -> Prompt:
        first, chosen = rng.randrange(12), rng.sample(items, 5)
        *given, correct = (MONTHS[(first + i) % 12] for i in range(5))
        return Prompt(text(chosen, given), text(chosen, scrambled(rng, given)), correct, incorrect=given[-1])

    prompts = distinct("months_sequence", draw, n_prompts, exist=12 * perm(len(items), 5))
    return to_dataset(tokenizer, prompts, task="months_sequence", seed=seed)


TASK = Task(make_dataset=make_dataset)
