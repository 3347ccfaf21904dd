"""Define the commands that draw figures and pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from cyclopts.types import PositiveInt

from acdc.assets import asset
from acdc.catalogue import LEVELS
from acdc.cli.flags import OutFile, OutFiles, halves
from acdc.errors import InputError
from acdc.files import write_text
from acdc.found import Found, Sweep
from acdc.heads import Heads
from acdc.tables import read_table, read_tables, using
from acdc.trace import read_nodes

Thing = TypeVar("Thing")


def of_each(things: Sequence[Thing], out: Sequence[Path]) -> Iterator[tuple[Thing, Sequence[Path]]]:
    """Yield each thing that is drawn with its files, of which every thing has the same number.

    Raises:
        InputError: the files cannot be shared out evenly.
    """
    if not things or not out or len(out) % len(things):
        raise InputError(f"{len(out)} files for {len(things)} figures: give as many files for each figure")
    each = len(out) // len(things)
    for i, thing in enumerate(things):
        yield thing, out[i * each : (i + 1) * each]


def roc(
    *,
    recovery: Path,
    levels: list[str],
    out: OutFiles,
    published: Path | None = None,
) -> None:
    """Draw ROC curves (Figure 3 of the paper): a panel per task, a point per circuit, darker for smaller circuits.

    Args:
        recovery: the study's table
        levels: what is counted, a figure each
        out: .pdf, .svg or .png: as many for each level, one level after another
        published: the points of the paper's curves; those that ship, if left out
    """
    from acdc.figures.roc import roc as figure
    from acdc.figures.style import save

    table, points = read_table(recovery), read_table(published or asset("published", "roc_points.csv"))
    for level, files in of_each(levels, out):
        with using(recovery, *([published] if published else [])):
            drawn = figure(table, points, LEVELS[level].name)
        save(drawn, files)


def pareto(*, tables: list[Path], ablations: list[str], out: OutFiles) -> None:
    """Draw the metrics of circuits against their numbers of edges (Figure 4 of the paper), a figure per ablation.

    Args:
        tables: evaluations of a task's circuits, and its controls
        ablations: whose circuits are drawn
        out: .pdf, .svg or .png: as many for each ablation, one ablation after another
    """
    from acdc.figures.pareto import pareto as figure
    from acdc.figures.style import save

    table = read_tables(tables)
    for ablation, files in of_each(ablations, out):
        with using(*tables):
            drawn = figure(table[table["ablation"] == ablation])
        save(drawn, files)


def curves(*, evaluation: Path, out: OutFiles) -> None:
    """Draw the share of the metric that circuits keep against their size, all methods in one figure.

    Args:
        evaluation: the study's table
        out: .pdf, .svg or .png
    """
    from acdc.figures.faithfulness import curves as figure
    from acdc.figures.style import save

    with using(evaluation):
        drawn = figure(read_table(evaluation))
    save(drawn, out)


def cost(*, methods: Path, by: list[Literal["seconds", "evaluations"]], out: OutFiles) -> None:
    """Draw the cost of finding circuits against their quality, all methods.

    A point a method and search: 1 - the gap on held-out prompts and, where a circuit is known, the area under the ROC
    curve of edges, over seconds or evaluations of all its circuits.

    Args:
        methods: the study's table
        by: what is paid, a figure each
        out: .pdf, .svg or .png: as many for each, one after another
    """
    from acdc.figures.cost import cost as figure
    from acdc.figures.style import save

    table = read_table(methods)
    for paid, files in of_each(by, out):
        with using(methods):
            drawn = figure(table, paid)
        save(drawn, files)


def trained_and_reset(*, auc: Path, pairs: list[str], out: OutFiles) -> None:
    """Draw areas under ROC curves of trained models beside those of their reset networks, the paper's control.

    Args:
        auc: the study's table
        pairs: RESET=TRAINED, names of models
        out: .pdf, .svg or .png
    """
    from acdc.figures.reset import trained_and_reset as figure
    from acdc.figures.style import save

    names = dict(halves(pair, by="=") for pair in pairs)
    with using(auc):
        drawn = figure(read_table(auc), names)
    save(drawn, out)


def draw(
    *,
    circuits: list[Path],
    out: OutFiles,
    traces: list[Path] | None = None,
    values: list[str] | None = None,
    max_edges: PositiveInt = 120,
    page: OutFile | None = None,
    nodes: list[Path] | None = None,
    heads: Path | None = None,
    attention: Path | None = None,
) -> None:
    """Draw circuits as in Figure 1 of the paper, with edges as wide as their effect or score.

    Try:
      python -m acdc draw --circuits results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --traces results/test/planted/planted/logit_difference/corrupted/acdc/1/trace.csv \\
          --out planted.pdf planted.png
      python -m acdc draw --circuits results/test/tiny-llama/ioi/logit_difference/corrupted/eap/circuits.json \\
          --values 9 --out eap.pdf

    Args:
        circuits: of one search: circuit.json of each, or a circuits.json
        traces: trace.csv of each, in the same order; what is beside the circuits, if left out
        out: .pdf, .svg or .png: as many for each circuit that is drawn, one circuit after another
        values: of the circuits that are drawn; all, if left out
        max_edges: of a larger circuit the strongest are drawn
        page: an interactive page of all the circuits too, see the command page
        nodes: for the page: nodes.csv of the circuits
        heads: the table of the command heads: heads with a name have its colour, and the page says what they do
        attention: for the page: where heads attend to, as the command heads writes it
    """
    from acdc.figures.style import save

    sweep = loaded(circuits, traces)
    drawn = list(sweep) if values is None else [sweep.at(value) for value in values]
    known = known_heads(heads, attention)
    text = text_of_page(sweep, drawn[0].value, nodes or [], known) if page else ""
    for found, files in of_each(drawn, out):
        save(found.draw(max_edges=max_edges, heads=known), files)
    if page:
        write_text(text, page)


def loaded(circuits: list[Path], traces: list[Path] | None) -> Sweep:
    """Return the circuits of the files, with their traces or scores.

    Raises:
        InputError: there are other traces than one of each file, or a file of several circuits is given a trace.
    """
    if traces is None:
        return Sweep(found for path in circuits for found in Sweep.load(path))
    if len(circuits) != len(traces):
        raise InputError(f"each circuit needs its trace: there are {len(circuits)} circuits and {len(traces)} traces")
    return Sweep(Found.load(circuit, trace) for circuit, trace in zip(circuits, traces, strict=True))


def page(
    *,
    circuits: list[Path],
    start: str,
    out: OutFile,
    traces: list[Path] | None = None,
    nodes: list[Path] | None = None,
    heads: Path | None = None,
    attention: Path | None = None,
) -> None:
    """Make an interactive page of a sweep: one file, for any browser, without a network.

    Try:
      python -m acdc page --circuits results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --traces results/test/planted/planted/logit_difference/corrupted/acdc/1/trace.csv --start 1 --out planted.html

    Args:
        circuits: of one search: circuit.json of each, or a circuits.json
        traces: trace.csv of each, in the same order; what is beside the circuits, if left out
        start: the value that is shown first
        out: .html
        nodes: nodes.csv of the circuits
        heads: the table of the command heads, for what heads do
        attention: where heads attend to, as the command heads writes it
    """
    write_text(text_of_page(loaded(circuits, traces), start, nodes or [], known_heads(heads, attention)), out)


def collection(*, pages: list[Path], title: str, out: OutFile) -> None:
    """Put interactive pages into one, with a menu: a fraction of their size.

    Args:
        pages: .html, as draw and page write them; the first is shown first
        title: what they are of
        out: .html
    """
    from acdc.figures import html

    write_text(html.collection(pages, title), out)


def known_heads(table: Path | None, attention: Path | None) -> Heads | None:
    """Read the measurements of heads; None without a table. Raise InputError for attention without a table."""
    if attention and not table:
        raise InputError("--attention goes with the table of heads: give it with --heads")
    return Heads.load(table, attention) if table else None


def text_of_page(sweep: Sweep, start: str, nodes: list[Path], heads: Heads | None) -> str:
    """Return the interactive page of a sweep."""
    from acdc import views

    return views.page(sweep, start, read_nodes(nodes) if nodes else {}, heads)
