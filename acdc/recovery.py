"""How much of a known circuit a found one recovers (Conmy et al. 2023, section 4). Pure functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from acdc.graph import Circuit


@dataclass(frozen=True)
class Confusion:
    """Found against known: true and false positives, false and true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def tpr(self) -> float:
        """Share of the known that was found."""
        return self.tp / (self.tp + self.fn)

    @property
    def fpr(self) -> float:
        """Share of what is not in the known circuit that was found."""
        return self.fp / (self.fp + self.tn)

    @property
    def precision(self) -> float | None:
        """Share of the found that is known; None where nothing was found."""
        found = self.tp + self.fp
        return self.tp / found if found else None

    def row(self) -> dict[str, float | int | None]:
        """The counts and rates by name."""
        return {**asdict(self), "tpr": self.tpr, "fpr": self.fpr, "precision": self.precision}


def confusion(found: set, known: set, n: int) -> Confusion:
    """Counts over a universe of ``n`` things.

    Raises:
        ValueError: nothing or everything is known, so that a rate would divide by zero.
    """
    if not 0 < len(known) < n:
        raise ValueError(f"the known circuit has {len(known)} of {n}: recovery needs some that are in it and some not")
    tp = len(found & known)
    return Confusion(tp, len(found) - tp, len(known) - tp, n - len(found | known))


def edge_confusion(found: Circuit, known: Circuit) -> Confusion:
    """Over the edges that the original counts: addition and direct ones. Raises ValueError as ``confusion``."""
    return confusion(set(found.edges), set(known.edges), known.graph.n_edges)


def node_confusion(found: Circuit, known: Circuit) -> Confusion:
    """Over components, ports merged into their heads. Raises ValueError as ``confusion``."""
    return confusion(found.nodes, known.nodes, len(known.graph.senders) + 1)
