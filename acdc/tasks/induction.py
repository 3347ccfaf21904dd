"""Define the task induction: predict the token that followed the same token before (Conmy et al. 2023, table 1).

The paper's sequences, from the model's training text, and its mask of the positions to score are files on the
Hugging Face hub (ArthurConmy/redwood_attn_2l: validation_data.pt, mask_repeat_candidates.pkl). Local copies of them are
given under ``options``. Without them the sequences are a substitute: random tokens with repeated stretches. Corrupted
("baseline") prompts are the same sequences in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.tasks import Task
from acdc.tensor_files import load_torch
from acdc.text import check_count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHUFFLE_SEED = 42
STRETCH = 20
"""The number of successive tokens that a substitute sequence repeats at once."""


def make_dataset(
    tokenizer: PreTrainedTokenizerBase | None,
    n_prompts: int,
    seed: int,
    n_tokens: int = 300,
    shuffled_among: int = 50,
    sequences: str | None = None,
    mask: str | None = None,
    n_vocabulary: int = 50257,
) -> Dataset:
    """Make a dataset, scored where a token and its successor occurred before, with equal weight of all these positions.

    Args:
        seed: the seed of the substitute sequences; the paper's are taken in their order.
        n_tokens: the length of a sequence.
        shuffled_among: the number of sequences in a row that are shuffled to make the corrupted ones, always by the
            paper's seed. The paper's halves of 50 never mix.
        sequences, mask: files that torch saved: Int[sequence pos] and Bool[sequence pos].
        n_vocabulary: the number of tokens that the substitute is drawn from.

    Returns:
        A dataset whose target ``next`` is the token after each position; ``mean_over`` is ``positions``.

    Raises:
        InputError: a file is given without the other, is missing or of another shape, or there are too few sequences.
    """
    if (sequences is None) != (mask is None):
        raise InputError("task induction: options sequences and mask go together: give both files, or neither")
    if sequences:
        assert mask is not None
        tokens, scored = read(sequences), read(mask).bool()
        if tokens.shape != scored.shape:
            raise InputError(f"task induction: {sequences} is {[*tokens.shape]} and {mask} is {[*scored.shape]}")
    else:
        tokens = repeating(n_prompts, n_tokens + 1, n_vocabulary, seed)
        scored = repeated(tokens)
    check_count("induction", n_prompts, exist=len(tokens))
    if not n_tokens < tokens.shape[1]:
        raise InputError(f"task induction: n_tokens is {n_tokens} and {sequences} has sequences of {tokens.shape[1]}")
    tokens, scored = tokens[:n_prompts].long(), scored[:n_prompts, :n_tokens]
    clean = tokens[:, :n_tokens]
    return Dataset(
        clean=clean,
        corrupted=clean[shuffled(n_prompts, shuffled_among)],
        scored=scored,
        targets={"next": tokens[:, 1 : n_tokens + 1].contiguous()},
        about={"task": "induction", "seed": seed, "source": sequences or "random tokens of which stretches come again"},
        mean_over="positions",
    )


def read(path: str) -> Tensor:
    """Read a tensor that torch saved, and run no code in the file; raise InputError if there is no file."""
    if not Path(path).exists():
        raise InputError(f"task induction: there is no file {path}: check the task's options")
    return load_torch(Path(path), "check the task's options", "file that torch saved")


def shuffled(n_prompts: int, among: int) -> Int[Tensor, "prompt"]:
    """Return an order of prompts: the original's ``shuffle_tensor`` of every ``among`` prompts in a row."""
    order = []
    for start in range(0, n_prompts, among):
        size = min(among, n_prompts - start)
        order.append(start + torch.randperm(size, generator=torch.Generator().manual_seed(SHUFFLE_SEED)))
    return torch.cat(order)


def repeating(n_prompts: int, n_tokens: int, n_vocabulary: int, seed: int) -> Int[Tensor, "prompt pos"]:
    """Draw sequences whose first half is random tokens, and whose second half is stretches of the first."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(n_vocabulary, (n_prompts, n_tokens), generator=generator)
    for start in range(n_tokens // 2, n_tokens, STRETCH):
        size = min(STRETCH, n_tokens - start)
        source = torch.randint(n_tokens // 2 - size + 1, (n_prompts, 1), generator=generator)
        tokens[:, start : start + size] = tokens.gather(1, source + torch.arange(size))
    return tokens


def repeated(tokens: Int[Tensor, "prompt pos"]) -> Bool[Tensor, "prompt pos"]:
    """Return the positions of tokens that occurred before with the same successor: Bool[prompt pos]."""
    pairs = torch.stack([tokens[:, :-1], tokens[:, 1:]], -1)  # [prompt pos 2]
    same = (pairs[:, :, None] == pairs[:, None]).all(-1).tril(-1).any(-1)  # [prompt pos]
    return torch.cat([same, torch.zeros_like(same[:, :1])], 1)


TASK = Task(make_dataset=make_dataset, metrics=("kl_divergence", "nll"), bos=False)
