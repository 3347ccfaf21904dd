"""Guesses that let many edges be tried at once, though each decision depends on those before it.

No decision depends on a guess.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

LARGEST_BLOCK = 32
N_RECENT = 64


class Speculation:
    """Guesses which edges will stay, and how far ahead guessing pays."""

    def __init__(self) -> None:
        self.recent: deque[bool] = deque(maxlen=N_RECENT)
        self.right: deque[bool] = deque(maxlen=N_RECENT)
        self.guesses: dict[int, bool] = {}

    def start(self) -> None:
        """Go on with another receiver."""
        self.guesses = {}

    @property
    def size(self) -> int:
        """How many edges to try at once.

        A block's price is about that of one candidate more than it has, and what follows a wrong guess is tried
        again. If a guess is wrong with probability p, about sqrt(2 / p) candidates decide most edges for the price.
        """
        wrong = len(self.right) - sum(self.right)
        p = (wrong + 0.5) / (len(self.right) + 1)
        return min(round(sqrt(2 / p)), LARGEST_BLOCK)

    def stays(self, sender: int) -> bool:
        """The guess for a sender: what was seen of it in vain or, if nothing, what most of the last edges did."""
        return self.guesses.get(sender, 2 * sum(self.recent) > len(self.recent))

    def expect(self, sender: int, stays: bool) -> None:
        """What a sender seems to do, from a try that did not count."""
        self.guesses[sender] = stays

    def learn(self, decisions: list[bool], guesses: list[bool]) -> None:
        """What was decided: True where an edge stayed. The last of as many guesses may have been wrong."""
        self.recent.extend(decisions)
        self.right.extend(a == b for a, b in zip(decisions, guesses, strict=False))
