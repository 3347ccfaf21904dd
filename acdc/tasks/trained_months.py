"""Define the task of the model ``trained_months``: name the next month."""

from __future__ import annotations

from typing import Any

from acdc.data import Dataset
from acdc.models.toy.siit import dataset
from acdc.models.toy.trained_months import PROGRAM
from acdc.tasks import Task


def make_dataset(tokenizer: Any | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset, see ``acdc.models.toy.siit.dataset``."""
    return dataset.make_dataset(PROGRAM, tokenizer, n_prompts, seed)


TASK = Task(
    make_dataset=make_dataset,
    known_circuits={"trained_months": {"trained": PROGRAM.circuit}},
)
