"""Prompts of compiled models."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.data import Dataset
from acdc.models.toy.rasp import Value, is_numerical, run
from acdc.models.toy.rasp.compiler import Program
from acdc.prompts import check_count


def make_dataset(
    task: str, program: Program, strings: Sequence[Sequence[Value]], n_prompts: int, seed: int, *, bos: bool = True
) -> Dataset:
    """Some of the strings in random order, each with another one for its corrupted ("baseline") prompt.

    No string is the corrupted one of two (the paper's corrupted prompts are the clean ones in another order).
    Scored is every position but the first, as in the original's tracr_task/utils.py.

    Args:
        strings: all that there are, of one length.
        bos: they are put after BOS, and targets say what the program makes of them.

    Returns:
        ``targets``: ``outputs`` of the clean prompts and ``corrupted_outputs``, Float[prompt pos d_vocab_out], where
        the strings are put after BOS.

    Raises:
        InputError: more prompts are asked for than there are strings, or none.
    """
    check_count(task, n_prompts, exist=len(strings))
    rng = random.Random(seed)
    order, partner = rng.sample(range(len(strings)), len(strings)), derangement(rng, len(strings))
    clean = [strings[i] for i in order[:n_prompts]]
    corrupted = [strings[partner[i]] for i in order[:n_prompts]]
    ids = [torch.tensor(program.encode(rows, bos)) for rows in (clean, corrupted)]
    scored = torch.ones_like(ids[0], dtype=torch.bool)
    scored[:, 0] = False
    targets = {}
    if bos:
        targets["outputs"] = torch.stack([outputs(program, string) for string in clean])
        targets["corrupted_outputs"] = torch.stack([outputs(program, string) for string in corrupted])
    texts = {
        name: [" ".join(map(str, row)) for row in rows] for name, rows in (("clean", clean), ("corrupted", corrupted))
    }
    return Dataset(*ids, scored, targets, {"task": task, "seed": seed, **texts})


def derangement(rng: random.Random, n: int) -> list[int]:
    """A random permutation that leaves nothing where it was."""
    while True:
        order = rng.sample(range(n), n)
        if all(i != j for i, j in enumerate(order)):
            return order


def outputs(program: Program, string: Sequence[Value]) -> Float[Tensor, "pos d_vocab_out"]:
    """What the program says of a string, as logits; 0 at BOS."""
    values = run(program.expression, string)
    if is_numerical(program.expression):
        rows = [[value] for value in values]
    else:
        rows = [[float(value == other) for other in program.domain(program.expression)] for value in values]
    return torch.tensor([[0.0] * len(rows[0]), *rows])
