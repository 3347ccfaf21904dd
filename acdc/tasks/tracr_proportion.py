"""Say the share of tokens so far that are "x": the paper's tracr task ``proportion`` (Conmy et al. 2023, section 4).

Prompts are strings of four of the letters w, x, y, z. So are the corrupted ("baseline") prompts.
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
    """Make a dataset, see ``acdc.models.toy.rasp.dataset``."""
    strings = list(product(PROGRAM.vocabulary, repeat=4))
    return dataset.make_dataset("tracr_proportion", PROGRAM, strings, n_prompts, seed)


TASK = Task(
    make_dataset=make_dataset,
    metrics=OF_NUMBERS,
    known_circuits=KNOWN,
    made_for=("tracr_proportion",),
    n_distinct=256,
)
