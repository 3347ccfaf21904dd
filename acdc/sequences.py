"""Prompts that continue a sequence (Lan et al. 2023, arXiv 2311.04131), for tasks of any sequence of words.

"Van done in one. Hat done in two. Ring done in three. Desk done in four. Lamp done in" is followed by " five". The
corrupted ("baseline") prompt has the same things and four other members of which none follows the one before it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import perm
from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.prompts import WORDS, Prompt, answer_token, distinct, to_dataset, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_GIVEN = 4


@dataclass(frozen=True)
class Continuation:
    """The task of a sequence.

    Attributes:
        name: the task's.
        members: in order.
        cyclic: the first follows the last.
    """

    name: str
    members: Sequence[str]
    cyclic: bool

    def make_dataset(self, tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
        """Five items and four members in order.

        Returns:
            ``targets``: ``correct``, the next member; ``incorrect``, the last one given.

        Raises:
            InputError: there is no tokenizer, it splits a member, or fewer prompts exist than are asked for.
        """
        rng = random.Random(seed)
        items, starts = words(WORDS / "items.txt"), len(self.members) - (0 if self.cyclic else N_GIVEN)
        # Members of several tokens could give clean and corrupted prompts one length and still misalign them.
        for member in self.members:
            answer_token(tokenizer, "done in", member)

        def draw(done: int) -> Prompt:
            first, chosen = rng.randrange(starts), rng.sample(items, N_GIVEN + 1)
            *given, correct = (self.members[(first + i) % len(self.members)] for i in range(N_GIVEN + 1))
            return Prompt(text(chosen, given), text(chosen, self.scrambled(rng, given)), correct, incorrect=given[-1])

        prompts = distinct(self.name, draw, n_prompts, exist=starts * perm(len(items), N_GIVEN + 1))
        return to_dataset(tokenizer, prompts, task=self.name, seed=seed)

    def scrambled(self, rng: random.Random, given: Sequence[str]) -> list[str]:
        """Four different members, none after its predecessor, none where it is in ``given``.

        The last condition keeps the corrupted prompt from suggesting the same answer by its last member.
        """
        following = dict(pairwise([*self.members, *self.members[: int(self.cyclic)]]))
        while True:
            members = rng.sample(self.members, N_GIVEN)
            in_sequence = any(following.get(a) == b for a, b in pairwise(members))
            if not in_sequence and all(a != b for a, b in zip(members, given, strict=True)):
                return members


def text(items: Sequence[str], members: Sequence[str]) -> str:
    """A sentence for each member, and one without for the last item."""
    done = [f"{item} done in {member}." for item, member in zip(items, members, strict=False)]
    return " ".join([*done, f"{items[-1]} done in"])
