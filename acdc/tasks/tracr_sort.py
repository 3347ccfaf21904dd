"""Define the tracr task sort, which is not in the paper: sort a string without repetitions.

"BOS 3 1 5 2" gives "1 2 3 5". Prompts have four of five tokens in any order. The known circuit is read off the weights.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

from acdc.catalogue import OF_NUMBERS
from acdc.data import Dataset
from acdc.models.toy.rasp import dataset
from acdc.models.toy.tracr_sort import PROGRAM
from acdc.tasks import Task


def make_dataset(tokenizer: Any | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of strings of four different tokens, see ``acdc.models.toy.rasp.dataset``."""
    return dataset.make_dataset("tracr_sort", PROGRAM, list(permutations(PROGRAM.vocabulary, 4)), n_prompts, seed)


TASK = Task(
    make_dataset=make_dataset,
    metrics=OF_NUMBERS,
    known_circuits={"tracr_sort": {"compiled": PROGRAM.circuit}},
    made_for=("tracr_sort",),
    n_distinct=120,
)
