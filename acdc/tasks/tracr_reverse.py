"""Define the paper's tracr task ``reverse``: reverse a string, "BOS 1 2 3" to "3 2 1" (Conmy et al. 2023, section 4).

Prompts are the six orders of three tokens. The corrupted ("baseline") prompts are the same in another order.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

from acdc.catalogue import OF_NUMBERS
from acdc.data import Dataset
from acdc.known import from_file
from acdc.models.toy.rasp import dataset
from acdc.models.toy.tracr_reverse import PROGRAM
from acdc.tasks import Task


def make_dataset(tokenizer: Any | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of the six orders of three tokens, see ``acdc.models.toy.rasp.dataset``."""
    return dataset.make_dataset("tracr_reverse", PROGRAM, list(permutations(PROGRAM.vocabulary)), n_prompts, seed)


TASK = Task(
    make_dataset=make_dataset,
    metrics=OF_NUMBERS,
    known_circuits={"tracr_reverse": {"published": from_file("tracr_reverse"), "compiled": PROGRAM.circuit}},
    made_for=("tracr_reverse",),
    n_distinct=6,
)
