"""Show circuits to people: tables, drawings, pages, networkx graphs, measurements on other prompts.

``Circuit``, ``Found`` and ``Sweep`` offer these functions as methods. No search depends on them. So imports are inside
the functions, and the fingerprint of a search leaves this module out.
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
"""The height of a page in a notebook, in pixels."""


def edges_frame(circuit: Circuit, effects: Effects | None = None) -> pd.DataFrame:
    """Return a table with a row per edge of a circuit, see ``Circuit.to_frame``."""
    import pandas as pd

    from acdc.trace import key_of

    edges = list(circuit.edges)
    names = [(edge.sender.name, edge.receiver.name, edge.kind) for edge in edges]
    table = pd.DataFrame(names, columns=["sender", "receiver", "kind"])
    if effects is not None:
        table["effect"] = [effects.get(key_of(edge), float("nan")) for edge in edges]
    return table


def to_networkx(circuit: Circuit, effects: Effects | None = None) -> nx.DiGraph:
    """Return a networkx graph of a circuit, see ``acdc.exchange.to_networkx``."""
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
    """Draw a circuit as a matplotlib figure, see ``acdc.figures.circuit.draw``."""
    from acdc.figures.circuit import draw as drawing

    show_figures()
    return drawing(circuit, effects, title, max_edges, widths=widths, heads=heads)


def show_figures() -> None:
    """Make a notebook show figures as PNG, which it does by default only after ``%matplotlib inline``."""
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
    """Draw a found circuit, with edges as wide as their effects in the trace or, without these, as their scores."""
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
    """Return an iframe of a page, so that the page and the notebook around it do not change each other's style."""
    style = f"width: 100%; height: {FRAME_HEIGHT}px; border: 1px solid #d5d5d5; box-sizing: border-box;"
    return f'<iframe srcdoc="{html.escape(text)}" style="{style}"></iframe>'


def evaluate(
    found: Sequence[Found], engine: Engine, metrics: Mapping[str, Callable[..., Any]], seeds: int
) -> pd.DataFrame:
    """Measure circuits, all edges, no edges, and random circuits of the same sizes; see ``Found.evaluate``.

    Args:
        seeds: the number of random orders of the edges; each gives a random circuit of every size.
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
    """Measure, name and test the model's heads on prompts, see ``Found.heads``."""
    from acdc.analysis.head_table import heads_in

    return heads_in(engine, metrics_for(prompts, found[0].settings["metric"]), found, tokenizer)


def metrics_for(prompts: Dataset, found_by: str) -> dict[str, Callable[..., Any]]:
    """Return the metrics for prompts by name: the search's, KL divergence and, with answers, logit difference."""
    from acdc.catalogue import METRICS, OF_TEXT

    have_answers = {"correct", "incorrect"} <= set(prompts.targets)
    names = dict.fromkeys([found_by, *(OF_TEXT if have_answers else OF_TEXT[:1])])
    return {name: METRICS[name].load() for name in names if name in METRICS}
