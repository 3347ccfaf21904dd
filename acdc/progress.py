"""The progress bar of an ACDC run."""

from __future__ import annotations

import sys

from tqdm import tqdm

from acdc.graph import Graph
from acdc.methods.acdc import Progress


class EdgeBar:
    """Edges decided of all, with how many were tried and kept. A callback for ``acdc.methods.acdc.acdc``."""

    def __init__(self, graph: Graph, progress: Progress) -> None:
        # A log file is no terminal: a line there every ten seconds is enough.
        interval = 0.2 if sys.stderr.isatty() else 10
        done = graph.edges_into(progress.layer + 1)
        self.kept = self.seen = 0
        self.bar = tqdm(total=graph.n_edges, initial=done, unit="edge", mininterval=interval, maxinterval=interval)

    def __enter__(self) -> EdgeBar:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def __call__(self, progress: Progress, n_edges: int) -> None:
        self.kept += sum(not row.removed for row in progress.trace[self.seen :])
        self.seen = len(progress.trace)
        self.bar.set_postfix(tried=self.seen, kept=self.kept, refresh=False)
        self.bar.update(n_edges)
