"""Load a model's tokenizer without the model, for jobs that only make prompts."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError, first_line, reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokenizer.json"
FILES = (FILE, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
"""Files of which every folder with a tokenizer has one."""
AS_IN_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes in tokenizer_config.json of a tokenizer that tokenizer.json holds as a whole."""
NO_CODE = {"trust_remote_code": False}
"""Options by which Transformers does not run a folder's own code. Otherwise it asks on the terminal."""
SAMPLE = "In 1999, John's 12345 cats weren't here.\n    Über 中文: def f(x): return x + 1"
"""A text that different tokenizers cut in different ways, to compare them."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer in a model's folder, of any format that Transformers knows; None if the folder has none.

    Raises:
        InputError: the tokenizer does not load, or Transformers makes another one than tokenizer.json holds.
    """
    if not any((folder / name).exists() for name in FILES):
        return None  # models that are built here read numbers, and need no Transformers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind: Any = PreTrainedTokenizerFast if is_all_in_file(folder) else AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(folder, **NO_CODE)
    except Exception as error:  # any error of a library for a missing file, package or format
        raise InputError(f"the tokenizer in {folder} does not load: {first_line(error)}") from error
    check_same(folder, tokenizer)
    return tokenizer


def is_all_in_file(folder: Path) -> bool:
    """Return whether a folder's config says that tokenizer.json holds the whole tokenizer.

    ``AutoTokenizer`` does not heed it for some models.
    """
    config = folder / "tokenizer_config.json"
    if not (config.exists() and (folder / FILE).exists()):
        return False
    with reading(config, "get the model again"):
        return json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") in AS_IN_FILE


def check_same(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer cuts ``SAMPLE`` as tokenizer.json does; raise InputError if not.

    Transformers 4 followed tokenizer.json. Transformers 5 builds the tokenizer of some kinds of model anew, from the
    vocabulary and its own rules.
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


def beginning_of(tokenizer: Any) -> int | None:
    """Return the beginning-of-sequence token; None if the vocabulary has none."""
    token = tokenizer.bos_token_id
    # If the vocabulary lacks the token, its id is that of unknown words.
    return token if token is not None and tokenizer.convert_ids_to_tokens(token) == tokenizer.bos_token else None


def adds_beginning(tokenizer: Any) -> bool:
    """Return whether the tokenizer itself puts a beginning-of-sequence token before a text."""
    alone = tokenizer("a", add_special_tokens=False).input_ids
    return tokenizer("a").input_ids[: len(alone) + 1] == [beginning_of(tokenizer), *alone]


def own_beginning(tokenizer: Any | None) -> Any | None:
    """Return a bridge's tokenizer, which puts a beginning-of-sequence token if its own files say so.

    TransformerLens loads all tokenizers so that they put this token, whatever the model was trained with. If their
    files are not at hand, the tokenizer stays as it is.
    """
    if tokenizer is None or not adds_beginning(tokenizer):
        return tokenizer
    from transformers import AutoTokenizer

    try:
        own = AutoTokenizer.from_pretrained(tokenizer.name_or_path, local_files_only=True, **NO_CODE)
    except (OSError, ValueError):
        return tokenizer
    if adds_beginning(own):
        return tokenizer
    without = copy.deepcopy(tokenizer)
    without.add_bos_token = False
    return without
