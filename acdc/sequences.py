"""Make prompts that continue a sequence of words (Lan et al. 2023, arXiv 2311.04131).

"Van done in one. Hat done in two. Ring done in three. Desk done in four. Lamp done in" is followed by " five". The
corrupted ("baseline") prompt has the same items and four different members, none of which follows the one before it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import perm
from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.labels import Span
from acdc.text import Prompt, answer_token, distinct, to_dataset, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_GIVEN = 4


@dataclass(frozen=True)
class Continuation:
    """Make the prompts of a task that continues a sequence.

    Attributes:
        name: the task's name.
        members: the words of the sequence, in order.
        cyclic: whether the first member follows the last.
    """

    name: str
    members: Sequence[str]
    cyclic: bool

    def make_dataset(self, tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
        """Make a dataset of prompts that each have five items and four successive members of the sequence.

        Returns:
            A dataset whose target ``correct`` is the next member, and ``incorrect`` the last member of the prompt. That
            word has the label ``last``.

        Raises:
            InputError: there is no tokenizer, it splits a member, or fewer prompts exist than are asked for.
        """
        rng = random.Random(seed)
        items, starts = words("items"), len(self.members) - (0 if self.cyclic else N_GIVEN)
        # Members of several tokens could give clean and corrupted prompts one length and still misalign them.
        for member in self.members:
            answer_token(tokenizer, "done in", f" {member}")

        def draw(done: int) -> Prompt:
            first, chosen = rng.randrange(starts), rng.sample(items, N_GIVEN + 1)
            *given, correct = (self.members[(first + i) % len(self.members)] for i in range(N_GIVEN + 1))
            clean, corrupted = text(chosen, given), text(chosen, self.scrambled(rng, given))
            labels = {"last": (last_member(clean), last_member(corrupted))}
            return Prompt(clean, corrupted, correct=f" {correct}", incorrect=f" {given[-1]}", labels=labels)

        prompts = distinct(self.name, draw, n_prompts, exist=starts * perm(len(items), N_GIVEN + 1))
        return to_dataset(tokenizer, prompts, task=self.name, seed=seed)

    def scrambled(self, rng: random.Random, given: Sequence[str]) -> list[str]:
        """Draw four different members: none follows the one before it, none stands where it stands in ``given``.

        The last condition keeps the corrupted prompt from suggesting the same answer by its last member.
        """
        following = dict(pairwise([*self.members, *self.members[: int(self.cyclic)]]))
        while True:
            members = rng.sample(self.members, N_GIVEN)
            in_sequence = any(following.get(a) == b for a, b in pairwise(members))
            if not in_sequence and all(a != b for a, b in zip(members, given, strict=True)):
                return members


def text(items: Sequence[str], members: Sequence[str]) -> str:
    """Write a sentence for each item and its member; the last item has no member."""
    done = [f"{item} done in {member}." for item, member in zip(items, members, strict=False)]
    return " ".join([*done, f"{items[-1]} done in"])


def last_member(prompt: str) -> Span:
    """Return the span of the last member that a prompt gives, which stands before its last full stop."""
    end = prompt.rindex(".")
    return prompt.rindex(" ", 0, end) + 1, end
