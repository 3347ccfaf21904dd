"""Show circuits to people: tables, drawings, pages, networkx graphs, measurements on other prompts.

Circuits and what was found offer these as methods. No search depends on them: what each needs is imported when it is
called, and the fingerprint of a search leaves this module out.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.figure import Figure

    from acdc.data import Dataset
    from acdc.engine.model import Engine
    from acdc.found import Found
    from acdc.graph import Circuit
    from acdc.heads import Heads
    from acdc.trace import Effects

FRAME_HEIGHT = 620
"""Pixels of a page in a notebook."""


def edges_frame(circuit: Circuit, effects: Effects | None = None) -> pd.DataFrame:
    """Return a table with a row per edge, see ``Circuit.to_frame``."""
    import pandas as pd

    from acdc.trace import key_of

    edges = list(circuit.edges)
    names = [(edge.sender.name, edge.receiver.name, edge.kind) for edge in edges]
    table = pd.DataFrame(names, columns=["sender", "receiver", "kind"])
    if effects is not None:
        table["effect"] = [effects.get(key_of(edge), float("nan")) for edge in edges]
    return table


def to_networkx(circuit: Circuit, effects: Effects | None = None) -> nx.DiGraph:
    """Return a networkx graph, see ``acdc.exchange.to_networkx``."""
    from acdc import exchange

    return exchange.to_networkx(circuit, effects or {})


def draw(
    circuit: Circuit,
    effects: pd.DataFrame | None,
    title: str,
    *,
    max_edges: int,
    widths: str = "effect of removing it",
    heads: Heads | None = None,
) -> Figure:
    """Draw a circuit, see ``acdc.figures.circuit.draw``."""
    from acdc.figures.circuit import draw as drawing

    show_figures()
    return drawing(circuit, effects, title, max_edges, widths=widths, heads=heads)


def show_figures() -> None:
    """Make a notebook show figures as pictures, which it does by itself only after ``%matplotlib inline``."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib.figure import Figure

    if Figure not in shell.display_formatter.formatters["image/png"].type_printers:
        select_figure_formats(shell, {"png"})


def title_of(settings: Mapping[str, Any], *, with_size: bool = True) -> str:
    """Return the title of a circuit: its task and model, and how it was found."""
    from acdc.catalogue import label

    how = f"{label(settings['method'])} by {label(settings['metric'])}, {label(settings['ablation'])} ablation"
    title, size_by, value = f"{settings['task']} on {settings['model']}: {how}", settings["size_by"], settings["value"]
    if not with_size:
        return title
    return f"{title}, best {value} {size_by[2:]}" if size_by.startswith("n_") else f"{title}, {label(size_by)} {value}"


def draw_found(found: Found, *, max_edges: int, heads: Heads | None = None) -> Figure:
    """Draw what was found: edges as wide as the effects in its trace or, where it has none, as their scores."""
    title, scores = title_of(found.settings), found.scores
    if found.trace is not None and "effect" in found.trace:
        return draw(found.circuit, found.trace, title, max_edges=max_edges, heads=heads)
    if scores is None or "sender" not in scores:
        return draw(found.circuit, None, title, max_edges=max_edges, heads=heads)
    as_effects = scores.rename(columns={"score": "effect"}).assign(kind="addition", removed=False)
    return draw(found.circuit, as_effects, title, max_edges=max_edges, widths="score", heads=heads)


def page(
    sweep: Sequence[Found],
    start: str,
    node_effects: Mapping[str, Mapping[str, float]] | None = None,
    heads: Heads | None = None,
) -> str:
    """Return an interactive page of a sweep as HTML, see ``acdc.figures.page``."""
    from acdc.figures.page import page as render

    return render(sweep, node_effects or {}, title_of(sweep[0].settings, with_size=False), start, heads)


def in_frame(text: str) -> str:
    """Return a page as HTML that a notebook shows in a frame of its own, so that neither changes the other."""
    style = f"width: 100%; height: {FRAME_HEIGHT}px; border: 1px solid #d5d5d5; box-sizing: border-box;"
    return f'<iframe srcdoc="{html.escape(text)}" style="{style}"></iframe>'


def evaluate(
    found: Sequence[Found], engine: Engine, metrics: Mapping[str, Callable[..., Any]], seeds: int
) -> pd.DataFrame:
    """Measure circuits, all edges, no edges, and random circuits of the same sizes; see ``Found.evaluate``.

    Args:
        seeds: random orders of the edges, each with a circuit of every size.
    """
    import pandas as pd

    from acdc.analysis.evaluation import circuit_rows, controls

    sizes = dict.fromkeys(int(one.circuit.present.sum()) for one in found)
    n_edges = int(engine.graph.exists.sum())
    circuits: list[tuple[dict[str, Any], Circuit]]
    circuits = [({"circuit": "found", "value": one.value}, one.circuit) for one in found]
    circuits += [
        ({"circuit": name, "seed": seed}, circuit)
        for name, seed, circuit in controls(engine.graph, seeds, [size / n_edges for size in sizes])
    ]
    return pd.DataFrame(circuit_rows(engine, metrics, circuits))


def heads(found: Sequence[Found], engine: Engine, prompts: Dataset, tokenizer: Any) -> Heads:
    """Tell what heads do, see ``Found.heads``."""
    from acdc.analysis.head_table import heads_in

    return heads_in(engine, metrics_for(prompts, found[0].settings["metric"]), found, tokenizer)


def metrics_for(prompts: Dataset, found_by: str) -> dict[str, Callable[..., Any]]:
    """Return what prompts can be measured by: the metric of the search, and those of text where they have answers."""
    from acdc.catalogue import METRICS, OF_TEXT

    have_answers = {"correct", "incorrect"} <= set(prompts.targets)
    names = dict.fromkeys([found_by, *(OF_TEXT if have_answers else OF_TEXT[:1])])
    return {name: METRICS[name].load() for name in names if name in METRICS}
