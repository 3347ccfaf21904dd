"""Define the task mib_ioi: identify the indirect object, with the counterfactual of MIB (Mueller et al. 2025).

Clean prompts are those of ``acdc.tasks.ioi``. In the corrupted prompt the indirect object is the giver ("s2_io_flip"):
"Then, Mary and John went to the shop. Mary gave a book to". The circuit track is that of arXiv 2504.13151; its own
prompts are in mib-bench/ioi.
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
    """Make a dataset of prompts, half with the indirect object first (ABBA), half with it second (BABA).

    Args:
        n_templates: the number of ``acdc.tasks.ioi.TEMPLATES`` that are used, the first ones.

    Returns:
        A dataset whose target ``correct`` is the indirect object, and ``incorrect`` the subject.

    Raises:
        InputError: there is no tokenizer, it knows too few names, or fewer prompts exist than are asked for.
    """
    prompts = made(
        "mib_ioi", tokenizer, n_prompts, seed, n_templates, lambda names: (names.first, names.second, names.io)
    )
    return to_dataset(tokenizer, prompts, task="mib_ioi", seed=seed)


TASK = Task(make_dataset=make_dataset, known_circuits={"gpt2": {"published": from_file("ioi")}})
