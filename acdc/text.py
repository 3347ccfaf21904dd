"""Make datasets from prompts of text: read word lists, draw distinct prompts, encode them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from acdc.assets import asset
from acdc.data import NO_ANSWER, NOWHERE, OF_POSITIONS, Dataset, pad
from acdc.errors import InputError
from acdc.labels import Span
from acdc.models.tokenizer import adds_beginning, beginning_of
from acdc.prompt_files import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Unfit = Literal["refuse", "leave_out"]
"""Whether prompts that do not fit the model's tokenizer are refused or left out."""
Answers = Literal["whole", "first_token"]
"""Whether answers are one token where they stand, or are encoded by themselves and their first tokens taken."""
Bos = bool | Literal["auto"]
"""Whether prompts begin with the beginning-of-sequence token; ``auto``: as the tokenizer itself does it."""


def words(name: str) -> list[str]:
    """Return the words in acdc/assets/words/<name>.txt, in the file's order."""
    return asset("words", f"{name}.txt").read_text(encoding="utf-8").split()


def distinct(task: str, draw: Callable[[int], Prompt], n_prompts: int, exist: int) -> list[Prompt]:
    """Draw prompts until ``n_prompts`` of them have different clean texts.

    Args:
        draw: a function that makes the next prompt at random, given the number of prompts so far.
        exist: the number of different clean texts that ``draw`` can make.

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
    """Check that a task asks for at least one prompt and for no more than exist; raise InputError if not."""
    if not 0 < n_prompts <= exist:
        raise InputError(f"{task} has {exist} distinct prompts and {n_prompts} were asked for: ask for 1 to {exist}")


def needed(tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer; raise InputError if the model has none."""
    if tokenizer is None:
        raise InputError("prompts of text need a tokenizer and this model has none: choose another model for the task")
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerBase | None, text: str) -> list[int]:
    """Return the token ids of a text, without a beginning-of-sequence token.

    Raises:
        InputError: the model has no tokenizer.
    """
    return needed(tokenizer)(text, add_special_tokens=False).input_ids


def following(tokenizer: PreTrainedTokenizerBase | None, text: str, answer: str) -> list[int]:
    """Return the token ids of an answer where it stands right after a text.

    Tokenizers differ in which token a space belongs to, so the answer is never encoded by itself.
    """
    return encode(tokenizer, text + answer)[len(encode(tokenizer, text)) :]


def is_one_token(tokenizer: PreTrainedTokenizerBase | None, tokens: list[int]) -> bool:
    """Return whether a word is one token, and not the tokenizer's token for unknown words."""
    return len(tokens) == 1 and tokens[0] != needed(tokenizer).unk_token_id


def answer_token(tokenizer: PreTrainedTokenizerBase | None, text: str, answer: str | int) -> int:
    """Return the one token id of an answer as it stands after a text; return a token id unchanged.

    Raises:
        InputError: the answer is several tokens, is unknown to the tokenizer, or continues a word or a token of the
            text. Its first token alone would silently measure something else.
    """
    if not isinstance(answer, str):
        return answer
    if goes_on(text, answer):
        raise InputError(
            f"answer {answer!r} goes on inside the last word of {text!r}: write {' ' + answer!r} with the space that "
            f"belongs there or, if it is the rest of the word, its token id"
        )
    before, after = encode(tokenizer, text), encode(tokenizer, text + answer)
    tokens = after[len(before) :]
    if after[: len(before)] != before:
        raise InputError(
            f"answer {answer!r} shares a token with the end of {text!r} ({pieces(tokenizer, after[-2:])}): end the "
            f"text before that one{alone(tokenizer, answer)}"
        )
    if not is_one_token(tokenizer, tokens):
        raise InputError(
            f"answer {answer!r} must be one known token and is {len(tokens)} ({pieces(tokenizer, tokens)}) in "
            f"tokenizer {needed(tokenizer).name_or_path}: {remedy(tokenizer, text, answer)}"
        )
    return tokens[0]


def alone(tokenizer: PreTrainedTokenizerBase | None, answer: str) -> str:
    """Return advice to give the token id of an answer that is one token by itself; an empty text if it is not."""
    tokens = encode(tokenizer, answer)
    is_one = is_one_token(tokenizer, tokens) and piece(needed(tokenizer), tokens[0]) == answer
    return f", or give the id of {answer!r} alone, {tokens[0]}" if is_one else ""


def goes_on(text: str, answer: str) -> bool:
    """Return whether an answer continues a text's last word, in scripts with capitals, whose words have spaces."""
    return all(letter.isalpha() and letter.lower() != letter.upper() for letter in (text[-1:], answer[:1]))


def remedy(tokenizer: PreTrainedTokenizerBase | None, text: str, answer: str) -> str:
    """Return advice for an answer that is not one token."""
    other = answer.strip() if answer.startswith(" ") else f" {answer}"
    before, after = encode(tokenizer, text), encode(tokenizer, text + other)
    is_one = after[: len(before)] == before and is_one_token(tokenizer, after[len(before) :])
    if is_one and not goes_on(text, other):
        return f"{other!r} is one, if that is what follows; or take another word"
    return "take another word, or the id of the one token that decides"


def pieces(tokenizer: PreTrainedTokenizerBase | None, tokens: Sequence[int]) -> str:
    """Return tokens as readable texts in quotes."""
    return " ".join(map(repr, (piece(needed(tokenizer), token) for token in tokens))) or "none"


def piece(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """Return a token as a readable text, with the space that it begins with."""
    raw, text = str(tokenizer.convert_ids_to_tokens(token)), str(tokenizer.decode([token]))
    if not text or "\ufffd" in text:  # of a character of several tokens, or one that decoding leaves out
        return raw
    return f" {text}" if raw.startswith("\u2581") and not text.startswith(" ") else text


@contextmanager
def at(where: str) -> Iterator[None]:
    """Put the file and the row of a prompt before messages about it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}{error}") from None


def answer_tokens(tokenizer: PreTrainedTokenizerBase | None, prompt: Prompt) -> tuple[list[int], list[int]]:
    """Return the token ids of a prompt's correct and of its incorrect answers.

    Raises:
        InputError: an answer is not one token, or both correct and incorrect.
    """
    own = first_tokens if prompt.first_token else whole_tokens
    correct, incorrect = own(tokenizer, prompt)
    if both := set(correct) & set(incorrect):
        said = pieces(tokenizer, sorted(both)) if tokenizer else str(min(both))
        raise InputError(f"{said} is both a correct and an incorrect answer of {prompt.clean!r}: take another one")
    return correct, incorrect


def several(given: Any) -> list[Any]:
    """Return a list of one answer or of several."""
    return [given] if isinstance(given, (str, int)) else list(given)


def whole_tokens(tokenizer: PreTrainedTokenizerBase | None, prompt: Prompt) -> list[list[int]]:
    """Return the token ids of a prompt's answers, each one token after the clean text, see ``answer_token``."""
    both = prompt.correct, prompt.incorrect
    return [[answer_token(tokenizer, prompt.clean, one) for one in several(given)] for given in both]


def first_tokens(tokenizer: PreTrainedTokenizerBase | None, prompt: Prompt) -> list[list[int]]:
    """Return the first token ids of a prompt's answers, each encoded by itself; a token id stays as it is.

    Raises:
        InputError: answers differ in their numbers of tokens, so that their first tokens are no fair comparison.
    """
    both = (several(given) for given in (prompt.correct, prompt.incorrect))
    tokens = [[encode(tokenizer, one) if isinstance(one, str) else [one] for one in given] for given in both]
    if len({len(one) for side in tokens for one in side}) > 1:
        said = " and ".join(pieces(tokenizer, one) for side in tokens for one in side)
        raise InputError(f"the answers of {prompt.clean!r} are of different numbers of tokens ({said}): take others")
    return [[one[0] for one in side] for side in tokens]


def aligned(tokenizer: PreTrainedTokenizerBase | None, prompt: Prompt) -> tuple[list[int], list[int]]:
    """Return the token ids of the clean and of the corrupted prompt, which have the same number.

    Raises:
        InputError: the numbers of tokens differ, so that positions do not correspond; or all tokens are the same.
    """
    clean, corrupted = (encode(tokenizer, given) if isinstance(given, str) else list(given) for given in prompt[:2])
    if len(clean) != len(corrupted):
        of = f" in tokenizer {needed(tokenizer).name_or_path}" if isinstance(prompt.clean, str) else ""
        raise InputError(
            f"prompt {prompt.clean!r} has {len(clean)} tokens and its corrupted prompt {prompt.corrupted!r} has "
            f"{len(corrupted)}{of}{difference(tokenizer, clean, corrupted)}: take words of as many tokens"
        )
    if not clean:
        raise InputError("the prompt has no token: fill it in")
    if clean == corrupted:
        raise InputError(f"prompt {prompt.clean!r} and its corrupted prompt are the same: change one or remove both")
    return clean, corrupted


def difference(tokenizer: PreTrainedTokenizerBase | None, clean: list[int], corrupted: list[int]) -> str:
    """Return a text on the tokens by which two prompts differ in length; an empty text without a tokenizer."""
    if tokenizer is None:
        return ""
    shorter = min(len(clean), len(corrupted))
    start = next((i for i in range(shorter) if clean[i] != corrupted[i]), shorter)
    end = next((i for i in range(shorter - start) if clean[-1 - i] != corrupted[-1 - i]), shorter - start)
    first, second = (pieces(tokenizer, tokens[start : len(tokens) - end]) for tokens in (clean, corrupted))
    return f", for where the one has {first} the other has {second}"


def check_texts(prompt: Prompt) -> None:
    """Check that a prompt's texts are not empty and do not end with a space; raise InputError if they do."""
    for kind, text in zip(("clean", "corrupted"), prompt[:2], strict=True):
        if isinstance(text, str) and not text:
            raise InputError(f"the {kind} prompt is empty: fill it in")
        if isinstance(text, str) and text.endswith(" ") and not prompt.first_token:
            raise InputError(
                f"the {kind} prompt {text!r} ends with a space: begin the answers with it, for tokens begin with theirs"
            )


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token to pad with, which is in the vocabulary but which nothing reads."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in candidates if token is not None)


def fitting(
    tokenizer: PreTrainedTokenizerBase | None, prompts: Sequence[Prompt], n_prompts: int | None = None
) -> list[Prompt]:
    """Return the prompts, or the first ``n_prompts``, that ``to_dataset`` accepts, and warn of those left out.

    Raises:
        InputError: fewer than ``n_prompts`` prompts, or none, are accepted.
    """
    found: list[Prompt] = []
    refused: list[str] = []
    for prompt in prompts:
        if len(found) == n_prompts:
            break
        try:
            to_dataset(tokenizer, [prompt])
            found.append(prompt)
        except InputError as error:
            refused.append(str(error))
    if len(found) < (n_prompts or 1):
        raise InputError(
            f"{len(found)} prompts fit this model's tokenizer and {n_prompts or 'some'} were asked for; of the others "
            f"the first: {refused[0]}"
        )
    if refused:
        n_tried = len(found) + len(refused)
        warnings.warn(f"{len(refused)} of {n_tried} prompts are left out, the first: {refused[0]}", stacklevel=2)
    return found


def to_dataset(tokenizer: PreTrainedTokenizerBase | None, prompts: Sequence[Prompt], **about: Any) -> Dataset:
    """Make a dataset from prompts, in the given order, scored at the last token of each.

    Args:
        tokenizer: the model's tokenizer; None if it has none, for prompts of token ids.
        prompts: texts with answers as they stand after the clean text, or token ids.
        about: entries for the dataset's ``about``, beside the texts.

    Returns:
        ``clean`` and ``corrupted`` Int[prompt pos], padded on the right; ``targets`` ``correct`` and ``incorrect``,
        Int[prompt] where every prompt has one such answer, else Int[prompt answer], see ``together``.

    Raises:
        InputError: there is no tokenizer, a text is empty or ends with a space, an answer is not one token, or a prompt
            and its corrupted one are the same or differ in length.
    """
    of_text = isinstance(prompts[0].clean, str)
    if any(isinstance(prompt.clean, str) != of_text for prompt in prompts):
        raise InputError("prompts are all texts or all token ids: these are some of both")
    answers, pairs = [], []
    # Answers first: the message that a month is two tokens says more than the one that two lengths differ.
    for prompt in prompts:
        with at(prompt.where):
            check_texts(prompt)
            answers.append(answer_tokens(tokenizer, prompt))
    for prompt in prompts:
        with at(prompt.where):
            pairs.append(aligned(tokenizer, prompt))
    if of_text:
        about |= {"clean": [p.clean for p in prompts], "corrupted": [p.corrupted for p in prompts]}
    targets = {
        name: together(side) for name, side in zip(("correct", "incorrect"), zip(*answers, strict=True), strict=True)
    }
    made = last_scored(pairs, pad_token(needed(tokenizer)) if of_text else 0, targets, about)
    return replace(made, labels=label_positions(tokenizer, prompts))


def label_positions(
    tokenizer: PreTrainedTokenizerBase | None, prompts: Sequence[Prompt]
) -> dict[str, Int[Tensor, "prompt 2"]]:
    """Return the positions of the labelled words in prompts, see ``Dataset``: Int[prompt 2] by label."""
    names = dict.fromkeys(name for prompt in prompts for name in prompt.labels)
    rows = [
        [
            last_tokens(tokenizer, text, [prompt.labels.get(name, (None, None))[side] for name in names])
            for side, text in enumerate(prompt[:2])
        ]
        for prompt in (prompts if names else ())
    ]
    return {name: torch.tensor([[side[i] for side in row] for row in rows]) for i, name in enumerate(names)}


def last_tokens(
    tokenizer: PreTrainedTokenizerBase | None, text: str | list[int], spans: Sequence[Span | None]
) -> list[int]:
    """Return the position of the last token of each word in a text; ``NOWHERE`` where there is no word.

    Raises:
        InputError: the tokenizer does not tell which characters its tokens are.
    """
    if not isinstance(text, str):
        return [span[1] - 1 if span else NOWHERE for span in spans]
    if not needed(tokenizer).is_fast:
        raise InputError(
            "labels need a tokenizer that tells where its tokens stand: save it as a fast one, or leave out the labels"
        )
    ends = needed(tokenizer)(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    found = ([i for i, (start, end) in enumerate(ends) if start < span[1] <= end] if span else [] for span in spans)
    return [tokens[-1] if tokens else NOWHERE for tokens in found]


def together(answers: Sequence[list[int]]) -> Int[Tensor, "prompt *answer"]:
    """Return answers as Int[prompt] if every prompt has one, else Int[prompt answer], filled with ``NO_ANSWER``."""
    if all(len(tokens) == 1 for tokens in answers):
        return torch.tensor([token for (token,) in answers])
    return pad(list(answers), NO_ANSWER)


def last_scored(
    pairs: list[tuple[list[int], list[int]]], padding: int, targets: dict[str, Tensor], about: dict[str, Any]
) -> Dataset:
    """Return a dataset of pairs of clean and corrupted token ids, scored at the last token of each.

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
        padding=padding if len({len(clean) for clean, _ in pairs}) > 1 else None,
    )


# The beginning-of-sequence (BOS) token.


def begun(data: Dataset, tokenizer: PreTrainedTokenizerBase | None, bos: Bos) -> Dataset:
    """Return the dataset with or without a beginning-of-sequence token before every prompt, as ``bos`` says.

    The entry ``bos`` of ``about`` says whether the prompts begin with the token; without a tokenizer there is no such
    entry. Prompts that begin with the token already get no second one.

    Raises:
        InputError: the token is asked for and the tokenizer has none, or targets belong to positions, which the token
            would move.
    """
    token = None if tokenizer is None else beginning_of(tokenizer)
    if bos is True and token is None:
        raise InputError("bos: this model's tokenizer has no token that marks the beginning: leave bos out")
    if token is None:
        return data if tokenizer is None else replace_about(data, bos=False)
    has_it = bool((data.clean[:, 0] == token).all())
    if not has_it and (bos is True or (bos == "auto" and adds_beginning(tokenizer))):
        data, has_it = with_first(data, token), True
    return replace_about(data, bos=has_it)


def replace_about(data: Dataset, **about: Any) -> Dataset:
    """Return the dataset with further entries in ``about``."""
    return replace(data, about={**data.about, **about})


def with_first(data: Dataset, token: int) -> Dataset:
    """Return the dataset with a token before every prompt; raise InputError if targets belong to positions."""
    if moved := set(OF_POSITIONS) & data.targets.keys():
        raise InputError(f"bos: prompts with the target {min(moved)} are scored by position: set bos to false")
    first = torch.full_like(data.clean[:, :1], token)
    return replace(
        data,
        clean=torch.cat([first, data.clean], 1),
        corrupted=torch.cat([first, data.corrupted], 1),
        scored=torch.cat([torch.zeros_like(data.scored[:, :1]), data.scored], 1),
        labels={name: t + (t != NOWHERE) for name, t in data.labels.items()},
    )
