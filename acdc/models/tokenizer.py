"""Load a model's tokenizer, without the model: jobs that make prompts need no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer in a model's folder; None for a model without one."""
    if not (folder / "tokenizer.json").exists():
        return None  # models that are built here read numbers, and need no Transformers
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
