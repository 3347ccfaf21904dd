"""Make prompts for models that are compiled from RASP."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.data import Dataset
from acdc.models.toy.rasp import Value, is_numerical, run
from acdc.models.toy.rasp.compiler import Program
from acdc.text import check_count


def make_dataset(
    task: str, program: Program, strings: Sequence[Sequence[Value]], n_prompts: int, seed: int, *, bos: bool = True
) -> Dataset:
    """Make a dataset of strings in random order, each with another string as its corrupted ("baseline") prompt.

    No string is the corrupted prompt of two (the paper's corrupted prompts are the clean ones in another order). Every
    position but the first is scored, as in the original's tracr_task/utils.py.

    Args:
        strings: all strings that exist, of one length.
        bos: whether strings are put after BOS, and targets hold the program's outputs.

    Returns:
        A dataset. If strings are put after BOS, its targets are ``outputs`` for the clean prompts and
        ``corrupted_outputs`` for the corrupted ones, both Float[prompt pos d_vocab_out].

    Raises:
        InputError: more prompts are asked for than there are strings, or none.
    """
    check_count(task, n_prompts, exist=len(strings))
    rng = random.Random(seed)
    order, partner = rng.sample(range(len(strings)), len(strings)), derangement(rng, len(strings))
    clean = [strings[i] for i in order[:n_prompts]]
    corrupted = [strings[partner[i]] for i in order[:n_prompts]]
    clean_ids, corrupted_ids = (torch.tensor(program.encode(rows, bos)) for rows in (clean, corrupted))
    scored = torch.ones_like(clean_ids, dtype=torch.bool)
    scored[:, 0] = False
    targets = {}
    if bos:
        targets["outputs"] = torch.stack([outputs(program, string) for string in clean])
        targets["corrupted_outputs"] = torch.stack([outputs(program, string) for string in corrupted])
    texts = {
        name: [" ".join(map(str, row)) for row in rows] for name, rows in (("clean", clean), ("corrupted", corrupted))
    }
    return Dataset(clean_ids, corrupted_ids, scored, targets, {"task": task, "seed": seed, **texts})


def derangement(rng: random.Random, n: int) -> list[int]:
    """Draw a permutation that leaves no element in its place."""
    while True:
        order = rng.sample(range(n), n)
        if all(i != j for i, j in enumerate(order)):
            return order


def outputs(program: Program, string: Sequence[Value]) -> Float[Tensor, "pos d_vocab_out"]:
    """Return the program's values on a string as logits, 0 at BOS: Float[pos d_vocab_out]."""
    values = run(program.expression, string)
    if is_numerical(program.expression):
        rows = [[value] for value in values]
    else:
        rows = [[float(value == other) for other in program.domain(program.expression)] for value in values]
    return torch.tensor([[0.0] * len(rows[0]), *rows])
