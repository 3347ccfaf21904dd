"""Guess ACDC's decisions, so that many edges can be tried at once though each decision depends on those before it.

The decisions do not depend on the guesses: what follows a wrong guess is tried again.
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
        """Forget the guesses from uncounted tries, at the beginning of another receiver."""
        self.guesses = {}

    @property
    def size(self) -> int:
        """Return the number of edges to try at once.

        A block costs about as much as its edges and one more, and the edges after a wrong guess are tried again. If a
        guess is wrong with probability p, blocks of about sqrt(2 / p) edges decide most edges for the cost.
        """
        wrong = len(self.right) - sum(self.right)
        p = (wrong + 0.5) / (len(self.right) + 1)
        return min(round(sqrt(2 / p)), LARGEST_BLOCK)

    def stays(self, sender: int) -> bool:
        """Guess whether a sender's edge stays: by an uncounted try of it or, without one, as most recent edges did."""
        return self.guesses.get(sender, 2 * sum(self.recent) > len(self.recent))

    def expect(self, sender: int, stays: bool) -> None:
        """Record whether a sender's edge would stay, by a try that did not count."""
        self.guesses[sender] = stays

    def learn(self, decisions: list[bool], guesses: list[bool]) -> None:
        """Record decisions, True for edges that stay, and whether the guesses of them were right."""
        self.recent.extend(decisions)
        self.right.extend(a == b for a, b in zip(decisions, guesses, strict=False))
