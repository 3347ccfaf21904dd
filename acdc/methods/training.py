"""Run methods that are trained by gradient descent on random draws."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from acdc.methods.driver import Search


class Training(Search):
    """Train for ``total`` steps: the base class of methods that are trained.

    Attributes:
        Row: the class of the trace's rows, which have a ``loss``.
        learnt: the trained tensors, by name.
        adam: the optimiser.
        draws: the generator of the next step's random numbers.
        trace: a row for every step that is done.
    """

    Row: ClassVar[Any]
    learnt: dict[str, Tensor]
    adam: torch.optim.Optimizer
    draws: torch.Generator
    trace: list[Any]

    @property
    def done(self) -> int:
        """Return the number of steps that are done."""
        return len(self.trace)

    def steps(self) -> Iterator[tuple[int, bool]]:
        """Train to the last step. Yield after each step, and allow to save the state at every fiftieth of the way."""
        every = max(1, self.total // 50)
        while self.done < self.total:
            self.step()
            yield 1, self.done % every == 0 or self.done == self.total

    @abstractmethod
    def step(self) -> None:
        """Train one step, and add its row to the trace."""

    def status(self) -> dict[str, Any]:
        """Return the loss of the last step, for the progress bar."""
        return {"loss": f"{self.trace[-1].loss:.3g}"}

    def state(self) -> dict[str, Any]:
        """Return the state of the training for a checkpoint."""
        learnt, trace = {name: value.detach() for name, value in self.learnt.items()}, [list(row) for row in self.trace]
        return {**learnt, "adam": self.adam.state_dict(), "draws": self.draws.get_state(), "trace": trace}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the training from a checkpoint's state."""
        for name, value in self.learnt.items():
            value.data.copy_(state[name])
        self.adam.load_state_dict(state["adam"])
        self.draws.set_state(state["draws"])
        self.trace = [self.Row(*row) for row in state["trace"]]
