"""Define the task ioi: identify the indirect object (Wang et al. 2022, arXiv 2211.00593; Conmy et al. 2023, table 1).

"Then, Mary and John went to the shop. John gave a book to" is followed by the indirect object, " Mary". The
corrupted ("baseline") prompt names three other people, so that nobody is repeated and no answer is named (ABC).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import perm
from typing import TYPE_CHECKING, NamedTuple

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.labels import filled, labelled
from acdc.tasks import Task
from acdc.text import Prompt, distinct, following, is_one_token, needed, to_dataset, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The templates in the appendix of Wang et al. that have a place and an object (13 of 15), without the answer.
TEMPLATES = (
    "Then, {first} and {second} went to the {place}. {giver} gave a {object} to",
    "Then, {first} and {second} had a lot of fun at the {place}. {giver} gave a {object} to",
    "Then, {first} and {second} were working at the {place}. {giver} decided to give a {object} to",
    "Then, {first} and {second} were thinking about going to the {place}. {giver} wanted to give a {object} to",
    "After {first} and {second} went to the {place}, {giver} gave a {object} to",
    "When {first} and {second} got a {object} at the {place}, {giver} decided to give it to",
    "When {first} and {second} got a {object} at the {place}, {giver} decided to give the {object} to",
    "While {first} and {second} were working at the {place}, {giver} gave a {object} to",
    "While {first} and {second} were commuting to the {place}, {giver} gave a {object} to",
    "After the lunch, {first} and {second} went to the {place}. {giver} gave a {object} to",
    "Afterwards, {first} and {second} went to the {place}. {giver} gave a {object} to",
    "The {place} {first} and {second} went to had a {object}. {giver} gave it to",
    "Friends {first} and {second} found a {object} at the {place}. {giver} gave it to",
)


def usable_names(tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    """Return the names that are one token after a space, so that clean and corrupted prompts are aligned.

    Raises:
        InputError: fewer than five names are left, two for the clean prompt and three for the corrupted one.
    """
    names = [n for n in words("names") if is_one_token(tokenizer, following(tokenizer, "and", f" {n}"))]
    if len(names) < 5:
        raise InputError(
            f"names.txt has {len(names)} names that are one token in tokenizer {needed(tokenizer).name_or_path} and a"
            " prompt needs 5: add names to the file or choose another model for the task"
        )
    return names


def make_dataset(
    tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int, n_templates: int = len(TEMPLATES)
) -> Dataset:
    """Make a dataset of prompts, half with the indirect object first (ABBA), half with it second (BABA).

    Args:
        n_templates: the number of ``TEMPLATES`` that are used, the first ones.

    Returns:
        A dataset whose target ``correct`` is the indirect object, and ``incorrect`` the subject. The indirect object
        has the label ``IO``, and the subject's two mentions ``S1`` and ``S2``; in the corrupted prompt these labels are
        at other names in the same places.

    Raises:
        InputError: there is no tokenizer, it knows too few names, or fewer prompts exist than are asked for.
    """
    prompts = made("ioi", tokenizer, n_prompts, seed, n_templates, lambda names: names.others)
    return to_dataset(tokenizer, prompts, task="ioi", seed=seed)


class Names(NamedTuple):
    """Hold the names that a prompt can have.

    Attributes:
        io, subject: the indirect object and the subject.
        first, second: the same names in their order in the clean prompt.
        others: three names that the clean prompt does not have.
    """

    io: str
    subject: str
    first: str
    second: str
    others: tuple[str, str, str]


def made(
    task: str,
    tokenizer: PreTrainedTokenizerBase | None,
    n_prompts: int,
    seed: int,
    n_templates: int,
    corrupted: Callable[[Names], tuple[str, str, str]],
) -> list[Prompt]:
    """Make prompts, half with the indirect object first (ABBA), half with it second (BABA).

    Args:
        n_templates: the number of ``TEMPLATES`` that are used, the first ones.
        corrupted: a function that returns the corrupted prompt's names: the first, the second and the giver.

    Raises:
        InputError: there is no tokenizer, it knows too few names, or fewer prompts exist than are asked for.
    """
    if not 0 < n_templates <= len(TEMPLATES):
        raise InputError(f"task {task}: n_templates is {n_templates}: it must be 1 to {len(TEMPLATES)}")
    templates = TEMPLATES[:n_templates]
    rng = random.Random(seed)
    usable = usable_names(tokenizer)
    places, objects = words("places"), words("objects")

    def draw(done: int) -> Prompt:
        template, place, item = rng.choice(templates), rng.choice(places), rng.choice(objects)
        io, subject, *others = rng.sample(usable, 5)
        pair = (io, subject) if done % 2 == 0 else (subject, io)
        names = Names(io, subject, *pair, others=(others[0], others[1], others[2]))
        (clean, of_clean), (corrupt, of_corrupted) = (
            filled(template, {"first": first, "second": second, "giver": giver, "place": place, "object": item})
            for first, second, giver in ((*pair, subject), corrupted(names))
        )
        both = ("first", "second") if io == pair[0] else ("second", "first")
        labels = labelled({"IO": both[0], "S1": both[1], "S2": "giver"}, of_clean, of_corrupted)
        return Prompt(clean, corrupt, correct=f" {io}", incorrect=f" {subject}", labels=labels)

    exist = 2 * n_templates * len(places) * len(objects) * perm(len(usable), 2)
    prompts = distinct(task, draw, n_prompts, exist)
    rng.shuffle(prompts)
    return prompts


TASK = Task(make_dataset=make_dataset, bos=False)
