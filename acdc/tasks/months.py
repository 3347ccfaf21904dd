"""Define the task months: predict the next month (Redwood Research, "Automatic patching for discovering circuits").

"Last month it was February so this month it is" is followed by " March". The corrupted ("baseline") prompt has
as many tokens and no month.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.labels import filled, labelled
from acdc.tasks import Task
from acdc.text import Prompt, distinct, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLEAN = "Last month it was {month} so this month it is"
CORRUPTED = "This time it is here and last time it was"
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
"""From the first of the year to the last."""


def month_after(month: str) -> str:
    """Return the month after a month."""
    return MONTHS[(MONTHS.index(month) + 1) % 12]


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset with one prompt for each month.

    Returns:
        A dataset whose target ``correct`` is the next month, and ``incorrect`` the given month, whose label is
        ``month``.

    Raises:
        InputError: there is no tokenizer, more than twelve prompts are asked for, or the tokenizer splits a
            month or gives the corrupted prompt another length.
    """
    rng = random.Random(seed)

    def draw(done: int) -> Prompt:
        month = rng.choice(MONTHS)
        clean, spans = filled(CLEAN, {"month": month})
        labels = labelled({"month": "month"}, spans, {})
        return Prompt(clean, CORRUPTED, correct=f" {month_after(month)}", incorrect=f" {month}", labels=labels)

    prompts = distinct("months", draw, n_prompts, exist=len(MONTHS))
    return to_dataset(tokenizer, prompts, task="months", seed=seed)


TASK = Task(make_dataset=make_dataset, n_distinct=12)
