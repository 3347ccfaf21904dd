"""Load a model's tokenizer, without the model: jobs that make prompts need no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokenizer.json"
FILES = (FILE, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
"""Files of which a folder that has a tokenizer has one."""
AS_IN_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes, in tokenizer_config.json, of a tokenizer that is all in tokenizer.json."""
SAMPLE = "In 1999, John's 12345 cats weren't here.\n    Über 中文: def f(x): return x + 1"
"""A text by which tokenizers are compared: what they cut in different ways."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer in a model's folder, of any format that Transformers knows; None for a model without one.

    Raises:
        InputError: it does not load, or Transformers makes of its files another tokenizer than tokenizer.json is.
    """
    if not any((folder / name).exists() for name in FILES):
        return None  # models that are built here read numbers, and need no Transformers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind: Any = PreTrainedTokenizerFast if is_all_in_file(folder) else AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(folder)
    except Exception as error:  # whatever a library raises that lacks a file, a package or the format
        raise InputError(f"the tokenizer in {folder} does not load: {first_line(error)}") from error
    check_same(folder, tokenizer)
    return tokenizer


def is_all_in_file(folder: Path) -> bool:
    """Return whether a folder says that tokenizer.json is all. ``AutoTokenizer`` does not heed it for some models."""
    config = folder / "tokenizer_config.json"
    if not (config.exists() and (folder / FILE).exists()):
        return False
    return json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") in AS_IN_FILE


def check_same(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError where a tokenizer cuts ``SAMPLE`` otherwise than tokenizer.json, which Transformers 4 followed.

    Transformers 5 makes the tokenizer of some kinds of model anew, of the vocabulary and rules of its own.
    """
    if not (folder / FILE).exists():
        return
    from tokenizers import Tokenizer

    in_file = Tokenizer.from_file(str(folder / FILE)).encode(SAMPLE, add_special_tokens=False).ids
    loaded = tokenizer(SAMPLE, add_special_tokens=False).input_ids
    if in_file != loaded:
        raise InputError(
            f"the tokenizer in {folder} is two: tokenizer.json cuts a sample into {len(in_file)} tokens and "
            f"Transformers, by its {type(tokenizer).__name__}, into {len(loaded)}: if the model was trained with the "
            f'first, say "tokenizer_class": "{AS_IN_FILE[0]}" in tokenizer_config.json; if not, save the second there'
        )
