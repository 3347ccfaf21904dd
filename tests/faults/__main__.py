"""Print how many cases of the table end in which way: ``python -m tests.faults``."""

from __future__ import annotations

import sys
from collections import Counter

from tests.faults.table import REFUSED, RIGHT, cases, outcome


def main(wanted: str = "") -> None:
    """Run the cases whose names contain a text; print those that fail, then the counts."""
    counts: Counter[str] = Counter()
    for case in cases():
        if wanted in case.name:
            ended = outcome(case.stage.arguments, case.file, case.stage.reads[case.file][case.damage])
            counts[kind_of(ended)] += 1
            if ended not in (REFUSED, RIGHT):
                print(f"{case.name}: {ended}", flush=True)
    print(f"{counts.total()} cases: " + "; ".join(f"{n} {kind}" for kind, n in counts.most_common()))


def kind_of(ended: str) -> str:
    """Return the kind of an outcome, for the counts."""
    return ended.partition(" (")[0].partition(",")[0].partition(":")[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
