"""Define the paper's tracr task ``proportion``: compute the share of "x" among the tokens so far (Conmy et al. 2023).

Prompts, clean and corrupted ("baseline"), are strings of four of the letters w, x, y, z (section 4 of the paper).
"""

from __future__ import annotations

from itertools import product
from typing import Any

from acdc.catalogue import OF_NUMBERS
from acdc.data import Dataset
from acdc.known import from_file
from acdc.models.toy.rasp import dataset
from acdc.models.toy.tracr_proportion import PROGRAM
from acdc.tasks import Task

KNOWN = {"tracr_proportion": {"published": from_file("tracr_proportion"), "compiled": PROGRAM.circuit}}


def make_dataset(tokenizer: Any | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of strings of four letters, see ``acdc.models.toy.rasp.dataset``."""
    strings = list(product(PROGRAM.vocabulary, repeat=4))
    return dataset.make_dataset("tracr_proportion", PROGRAM, strings, n_prompts, seed)


TASK = Task(
    make_dataset=make_dataset,
    metrics=OF_NUMBERS,
    known_circuits=KNOWN,
    made_for=("tracr_proportion",),
    n_distinct=256,
)
