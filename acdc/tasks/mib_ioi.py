"""Identify the indirect object, with the counterfactual of MIB's circuit track (Mueller et al. 2025, arXiv 2504.13151).

Prompts are those of ``acdc.tasks.ioi``. In the corrupted one it is the indirect object who gives ("s2_io_flip"): "Then,
Mary and John went to the shop. Mary gave a book to". MIB's own prompts are in its data set, mib-bench/ioi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.known import from_file
from acdc.tasks import Task
from acdc.tasks.ioi import TEMPLATES, made
from acdc.text import to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_dataset(
    tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int, n_templates: int = len(TEMPLATES)
) -> Dataset:
    """Make a dataset of which half names the indirect object first (ABBA), half second (BABA).

    Args:
        n_templates: how many of ``acdc.tasks.ioi.TEMPLATES`` are used, from the first on.

    Returns:
        ``targets``: ``correct``, the indirect object; ``incorrect``, the subject.

    Raises:
        InputError: there is no tokenizer, it knows too few names, or fewer prompts exist than are asked for.
    """
    prompts = made(
        "mib_ioi", tokenizer, n_prompts, seed, n_templates, lambda names: (names.first, names.second, names.io)
    )
    return to_dataset(tokenizer, prompts, task="mib_ioi", seed=seed)


TASK = Task(make_dataset=make_dataset, known_circuits={"gpt2": {"published": from_file("ioi")}})
