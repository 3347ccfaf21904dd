"""Commands that draw figures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from acdc.assets import asset
from acdc.catalogue import LEVELS
from acdc.errors import InputError
from acdc.found import Found
from acdc.tables import read_table, read_tables


def roc(
    *,
    recovery: Path,
    level: Annotated[str, Parameter(choices=tuple(LEVELS))],
    out: list[Path],
    published: Path | None = None,
) -> None:
    """Draw ROC curves (Figure 3 of the paper), one panel a task, a point a circuit, the darker the smaller it is.

    Args:
        recovery: the study's table
        level: what is counted
        out: .pdf, .svg or .png
        published: the points of the paper's curves; those that ship, if left out
    """
    from acdc.figures import roc as figure
    from acdc.figures import save

    save(figure(read_table(recovery), read_table(published or asset("published", "roc_points.csv")), level), out)


def pareto(*, tables: list[Path], out: list[Path]) -> None:
    """Draw the metrics of circuits against their number of edges (Figure 4 of the paper).

    Args:
        tables: evaluations of a task's circuits, and its controls
        out: .pdf, .svg or .png
    """
    from acdc.figures import pareto as figure
    from acdc.figures import save

    save(figure(read_tables(tables)), out)


def curves(*, evaluation: Path, out: list[Path]) -> None:
    """Draw how much of the metric circuits keep over their sizes, all methods in one figure.

    Args:
        evaluation: the study's table
        out: .pdf, .svg or .png
    """
    from acdc.figures import curves as figure
    from acdc.figures import save

    save(figure(read_table(evaluation)), out)


def cost(*, methods: Path, by: Literal["seconds", "evaluations"], out: list[Path]) -> None:
    """Draw what finding circuits costs against how good they are, all methods.

    A point a method and search: 1 - CMD on held-out prompts and, where a circuit is known, the area under the ROC curve
    of edges, over seconds or evaluations of all its circuits.

    Args:
        methods: the study's table
        by: what is paid
        out: .pdf, .svg or .png
    """
    from acdc.figures import cost as figure
    from acdc.figures import save

    save(figure(read_table(methods), by), out)


def trained_and_reset(*, auc: Path, pairs: list[str], out: list[Path]) -> None:
    """Draw areas under ROC curves of trained models beside those of their reset networks, the paper's control.

    Args:
        auc: the study's table
        pairs: RESET=TRAINED, names of models
        out: .pdf, .svg or .png
    """
    from acdc.figures import save
    from acdc.figures import trained_and_reset as figure

    save(figure(read_table(auc), dict(pair.split("=", 1) for pair in pairs)), out)


def draw(*, circuit: Path, trace: Path, out: list[Path], max_edges: int = 120) -> None:
    """Draw a circuit (as Figure 1 of the paper does), its edges wider the more their removal costs.

    Try:
      python -m acdc draw --circuit results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --trace results/test/planted/planted/logit_difference/corrupted/acdc/1/trace.csv --out planted.pdf planted.png

    Args:
        circuit: circuit.json of a method that tries edges
        trace: its trace.csv
        out: .pdf, .svg or .png
        max_edges: of a larger circuit the strongest are drawn
    """
    from acdc.figures import draw as figure
    from acdc.figures import save
    from acdc.views import title_of

    found = Found.load(circuit, trace)
    save(figure(found.circuit, found.trace, title_of(found.settings), max_edges=max_edges), out)


def page(*, circuits: list[Path], traces: list[Path], start: str, out: Path, nodes: Path | None = None) -> None:
    """Make an interactive page of a sweep: one file, for any browser, without a network.

    Try:
      python -m acdc page --circuits results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --traces results/test/planted/planted/logit_difference/corrupted/acdc/1/trace.csv --start 1 --out planted.html

    Args:
        circuits: of one search
        traces: trace.csv of each, in the same order
        start: the value that is shown first
        out: .html
        nodes: the table of the command nodes
    """
    from acdc import views
    from acdc.trace import node_effects_of

    if len(circuits) != len(traces):
        raise InputError(f"a page needs a trace for each circuit: there are {len(circuits)} and {len(traces)}")
    sweep = [Found.load(circuit, trace) for circuit, trace in zip(circuits, traces, strict=True)]
    effects = node_effects_of(read_table(nodes)) if nodes else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(views.page(sweep, start, effects), encoding="utf-8")
