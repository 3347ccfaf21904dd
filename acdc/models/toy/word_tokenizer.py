"""Build a tokenizer of whole words, with which small random models run the tasks offline."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from acdc.assets import asset
from acdc.tasks import ioi, months
from acdc.text import words

UNKNOWN, PAD = "<unk>", "<pad>"


def word_tokenizer(words: Iterable[str], split: str | None = None) -> PreTrainedTokenizerFast:
    """Build a tokenizer with two tokens for each word, without and with the space before it, as in byte-level BPE.

    Args:
        words: the words, each of letters and digits only or one punctuation mark.
        split: a word to cut in two after its third letter, for tests of such tokenizers.
    """
    cut = {split[:3], split[3:]} if split else set()
    known = sorted({*words, *cut} - {split})
    vocabulary = [UNKNOWN, PAD, *known, *(f" {word}" for word in known)]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN))
    before_cut = rf"\s?{split[:3]}(?={split[3:]}\b)|" if split else ""
    pattern = Regex(before_cut + r"\s?\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PAD)


def task_words() -> set[str]:
    """Return all words in prompts and answers of the tasks ioi, months and months_sequence."""
    names = [file.name.removesuffix(".txt") for file in asset("words").iterdir() if file.name.endswith(".txt")]
    lists = {word for name in names for word in words(name)}
    templates = " ".join([*ioi.TEMPLATES, months.CLEAN, months.CORRUPTED, "done in."])
    return lists | {*months.MONTHS} | {*re.findall(r"\w+|[^\w\s]", re.sub(r"\{\w+\}", "", templates))}


def task_tokenizer(split: str | None = None) -> PreTrainedTokenizerFast:
    """Build the tokenizer of these tasks' words, about 900 tokens."""
    return word_tokenizer(task_words(), split)
