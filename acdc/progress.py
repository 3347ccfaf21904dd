"""The progress bars of ACDC and SP."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from acdc.graph import Graph
from acdc.methods.acdc import Progress
from acdc.methods.sp import Training


def intervals() -> dict[str, float]:
    """A log file is no terminal: a line there every ten seconds is enough."""
    interval = 0.2 if sys.stderr.isatty() else 10
    return {"mininterval": interval, "maxinterval": interval}


class EdgeBar:
    """Edges decided of all, with how many were tried and kept. A callback for ``acdc.methods.acdc.acdc``."""

    def __init__(self, graph: Graph, progress: Progress) -> None:
        done = graph.edges_into(progress.layer + 1)
        self.kept = self.seen = 0
        self.bar = tqdm(total=graph.n_edges, initial=done, unit="edge", **intervals())

    def __enter__(self) -> EdgeBar:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def __call__(self, progress: Progress, n_edges: int) -> None:
        self.kept += sum(not row.removed for row in progress.trace[self.seen :])
        self.seen = len(progress.trace)
        self.bar.set_postfix(tried=self.seen, kept=self.kept, refresh=False)
        self.bar.update(n_edges)


class StepBar:
    """Steps of SP done. Called with the training, it tells every 50th of the way, so that it can be saved then."""

    def __init__(self, steps: int, state: dict[str, Any] | None) -> None:
        self.every = max(1, steps // 50)
        self.bar = tqdm(total=steps, initial=len(state["trace"]) if state else 0, unit="step", **intervals())

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def __call__(self, training: Training) -> bool:
        self.bar.set_postfix(loss=f"{training.trace[-1].loss:.3g}", refresh=False)
        self.bar.update()
        return len(training.trace) % self.every == 0
