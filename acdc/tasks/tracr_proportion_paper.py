"""Define the paper's tracr task ``proportion`` with the tokens that the paper's own code gives the model.

That code (tracr_task/utils.py at bc99ace8) numbers the letters w, x, y, z from 0 and puts nothing before them. The
model's tokens 0 to 3 are BOS, PAD, "w" and "x": no string of them is one that the program was compiled for.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from acdc.data import Dataset
from acdc.models.toy.rasp import dataset
from acdc.models.toy.tracr_proportion import PROGRAM
from acdc.tasks import Task
from acdc.tasks.tracr_proportion import KNOWN


def make_dataset(tokenizer: Any | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of strings of four tokens, see ``acdc.models.toy.rasp.dataset``."""
    strings = list(product(PROGRAM.tokens[:4], repeat=4))
    return dataset.make_dataset("tracr_proportion_paper", PROGRAM, strings, n_prompts, seed, bos=False)


TASK = Task(
    make_dataset=make_dataset,
    metrics=("l2",),
    known_circuits=KNOWN,
    made_for=("tracr_proportion",),
    n_distinct=256,
)
