"""Make datasets of prompts of text: read word lists, draw distinct prompts, encode them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from acdc.assets import asset
from acdc.data import Dataset, pad
from acdc.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompt(NamedTuple):
    """Hold a clean prompt, its corrupted one, and two words that may follow the clean one after a space."""

    clean: str
    corrupted: str
    correct: str
    incorrect: str


def words(name: str) -> list[str]:
    """Return the words of acdc/assets/words/<name>.txt, in the file's order."""
    return asset("words", f"{name}.txt").read_text(encoding="utf-8").split()


def distinct(task: str, draw: Callable[[int], Prompt], n_prompts: int, exist: int) -> list[Prompt]:
    """Draw prompts until ``n_prompts`` of them have different clean texts.

    Args:
        draw: makes the next prompt at random, given the number of prompts so far.
        exist: how many different clean texts ``draw`` can make.

    Raises:
        InputError: more prompts are asked for than exist, or none.
    """
    check_count(task, n_prompts, exist)
    found: dict[str, Prompt] = {}
    while len(found) < n_prompts:
        prompt = draw(len(found))
        found.setdefault(prompt.clean, prompt)
    return list(found.values())


def check_count(task: str, n_prompts: int, exist: int) -> None:
    """Raise InputError where more prompts are asked for than exist, or none."""
    if not 0 < n_prompts <= exist:
        raise InputError(f"{task} has {exist} distinct prompts and {n_prompts} were asked for: ask for 1 to {exist}")


def needed(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer.

    Raises:
        InputError: the model has none.
    """
    if tokenizer is None:
        raise InputError("prompts of text need a tokenizer and this model has none: choose another model for the task")
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerBase | None, text: str) -> list[int]:
    """Return the tokens of ``text``, without a token that marks the beginning.

    Raises:
        InputError: the model has no tokenizer.
    """
    return needed(tokenizer)(text, add_special_tokens=False).input_ids


def following(tokenizer: PreTrainedTokenizerBase | None, text: str, word: str) -> list[int]:
    """Return the tokens of ``word`` where it follows ``text`` after a space.

    Tokenizers differ in which token the space belongs to, so the word is never encoded by itself.
    """
    return encode(tokenizer, f"{text} {word}")[len(encode(tokenizer, text)) :]


def is_one_token(tokenizer: PreTrainedTokenizerBase | None, tokens: list[int]) -> bool:
    """Return whether a word is one token, and not the token that stands for all unknown words."""
    return len(tokens) == 1 and tokens[0] != needed(tokenizer).unk_token_id


def answer_token(tokenizer: PreTrainedTokenizerBase | None, text: str, answer: str) -> int:
    """Return the token that ``answer`` is after ``text``.

    Raises:
        InputError: the answer is several tokens, or unknown to the tokenizer. Its first token alone would silently
            measure something else.
    """
    tokens, tokenizer = following(tokenizer, text, answer), needed(tokenizer)
    if not is_one_token(tokenizer, tokens):
        pieces = tokenizer.convert_ids_to_tokens(tokens)
        raise InputError(
            f"answer {' ' + answer!r} must be one known token and is {len(tokens)} ({', '.join(pieces)}) "
            f"in tokenizer {tokenizer.name_or_path}: choose another model for the task"
        )
    return tokens[0]


def aligned(tokenizer: PreTrainedTokenizerBase | None, prompt: Prompt) -> tuple[list[int], list[int]]:
    """Return the tokens of the clean and of the corrupted text.

    Raises:
        InputError: the numbers of tokens differ, so that positions do not correspond.
    """
    clean, corrupted = encode(tokenizer, prompt.clean), encode(tokenizer, prompt.corrupted)
    if len(clean) != len(corrupted):
        raise InputError(
            f"prompt {prompt.clean!r} has {len(clean)} tokens and its corrupted prompt {prompt.corrupted!r} has "
            f"{len(corrupted)} in tokenizer {needed(tokenizer).name_or_path}: choose another model for the task"
        )
    return clean, corrupted


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token to pad with. Nothing reads it, but it must be in the vocabulary."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in candidates if token is not None)


def of_tokens(prompts: Sequence[Sequence[Any]], **about: Any) -> Dataset:
    """Make a dataset of prompts of token ids, scored at the last token of each.

    Args:
        prompts: for each a clean prompt and a corrupted one, as token ids of one length, then the correct and the
            incorrect answer, a token id each.
        about: goes into the dataset's ``about``.

    Raises:
        InputError: a clean prompt and its corrupted one differ in length, or have no token.
    """
    pairs = [([int(token) for token in clean], [int(token) for token in other]) for clean, other, *_ in prompts]
    for i, (clean, other) in enumerate(pairs):
        if len(clean) != len(other) or not clean:
            raise InputError(
                f"prompt {i} has {len(clean)} tokens and its corrupted prompt {len(other)}: they need as many, and one"
            )
    answers = torch.tensor([[int(correct), int(incorrect)] for *_, correct, incorrect in prompts])
    return last_scored(pairs, 0, {"correct": answers[:, 0], "incorrect": answers[:, 1]}, about)


def last_scored(
    pairs: list[tuple[list[int], list[int]]], padding: int, targets: dict[str, Tensor], about: dict[str, Any]
) -> Dataset:
    """Return the dataset of pairs of clean and corrupted tokens, scored at the last token of each.

    Args:
        padding: the token that shorter prompts are padded with on the right.
    """
    tokens = pad([clean for clean, _ in pairs], padding)  # [prompt pos]
    last = torch.tensor([len(clean) - 1 for clean, _ in pairs])
    return Dataset(
        clean=tokens,
        corrupted=pad([corrupted for _, corrupted in pairs], padding),
        scored=torch.arange(tokens.shape[1]) == last[:, None],
        targets=targets,
        about=about,
    )


def to_dataset(tokenizer: PreTrainedTokenizerBase | None, prompts: list[Prompt], **about: Any) -> Dataset:
    """Make a dataset of prompts, in the order given, scored at the last token of each.

    Args:
        about: goes into the dataset's ``about``, beside the texts.

    Returns:
        ``clean`` and ``corrupted`` Int[prompt pos], padded on the right; ``targets`` ``correct`` and
        ``incorrect`` Int[prompt].

    Raises:
        InputError: there is no tokenizer, an answer is not one token, or a prompt and its corrupted one differ
            in length.
    """
    # Answers first: the message that a month is two tokens says more than the one that two lengths differ.
    targets = {
        "correct": torch.tensor([answer_token(tokenizer, p.clean, p.correct) for p in prompts]),
        "incorrect": torch.tensor([answer_token(tokenizer, p.clean, p.incorrect) for p in prompts]),
    }
    pairs = [aligned(tokenizer, p) for p in prompts]
    texts = {"clean": [p.clean for p in prompts], "corrupted": [p.corrupted for p in prompts]}
    return last_scored(pairs, pad_token(needed(tokenizer)), targets, {**about, **texts})
