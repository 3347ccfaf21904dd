"""Guess decisions, so that many edges can be tried at once though each decision depends on those before it.

No decision depends on a guess.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

LARGEST_BLOCK = 32
N_RECENT = 64


class Speculation:
    """Guess which edges will stay, and how many to try at once."""

    def __init__(self) -> None:
        self.recent: deque[bool] = deque(maxlen=N_RECENT)
        self.right: deque[bool] = deque(maxlen=N_RECENT)
        self.guesses: dict[int, bool] = {}

    def start(self) -> None:
        """Go on with another receiver."""
        self.guesses = {}

    @property
    def size(self) -> int:
        """Return how many edges to try at once.

        A block costs about as much as one candidate more than it has, and the edges after a wrong guess are tried
        again. If a guess is wrong with probability p, about sqrt(2 / p) candidates decide most edges for the cost.
        """
        wrong = len(self.right) - sum(self.right)
        p = (wrong + 0.5) / (len(self.right) + 1)
        return min(round(sqrt(2 / p)), LARGEST_BLOCK)

    def stays(self, sender: int) -> bool:
        """Guess whether an edge stays: as an uncounted try says or, without one, as most recent edges did."""
        return self.guesses.get(sender, 2 * sum(self.recent) > len(self.recent))

    def expect(self, sender: int, stays: bool) -> None:
        """Note what a try that did not count says of a sender."""
        self.guesses[sender] = stays

    def learn(self, decisions: list[bool], guesses: list[bool]) -> None:
        """Note decisions, True where an edge stayed, and whether they were guessed right."""
        self.recent.extend(decisions)
        self.right.extend(a == b for a, b in zip(decisions, guesses, strict=False))
