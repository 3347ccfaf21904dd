"""A sweep's circuits as one interactive page: no server, no network, nothing beside the file.

The graph is drawn by Cytoscape.js (MIT), which stands in the page whole; what the page does is in ``assets/page.js``.
Nodes keep their places while the threshold is moved: a row for every layer, a column for every head.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from acdc.figures.circuit import INPUT_NAMES, INPUTS, arrow_ends, input_of, line_width, strongest
from acdc.graph import Circuit, Edge, Node
from acdc.trace import Effects, key_of

ASSETS = Path(__file__).parent / "assets"
MOST_EDGES = 1000
"""More of a circuit make a browser slow; the strongest are drawn, and the page says so."""
COLUMN, ROW = 96, 56  # pixels from one node to the next
WIDTHS = {"head": 44, "mlp": 44}  # of nodes, in pixels; embeddings and logits are wider
BOWS = {"q": -1.0, "k": 0.4, "v": 1.0, "mlp": -0.5, "logits": 0.7}  # edges between the same nodes stand apart
HELP = (
    "Point at a node or an edge: its hook points, and what removing it does. Click: only the paths from there to the"
    " logits. Click beside the graph: everything. Drag nodes or the background; the wheel zooms."
)


class Found(NamedTuple):
    """A circuit of the sweep.

    Attributes:
        final_metric: of the circuit, where it was found; None where that is not known.
        effects: of its edges, when they were tried, see ``acdc.trace``.
        node_effects: by name, of removing all that a node sends; empty where it was not measured.
    """

    threshold: str
    final_metric: float | None
    circuit: Circuit
    effects: Effects
    node_effects: dict[str, float]


def page(sweep: Sequence[Found], title: str, metric: str, start: str) -> str:
    """The page as HTML.

    Args:
        sweep: circuits of one graph.
        metric: the name of what was minimised.
        start: the threshold that is shown first.

    Raises:
        ValueError: no circuit of the sweep has the threshold ``start``, or the circuits are of several graphs.
    """
    sweep = sorted(sweep, key=lambda found: -found.circuit.n_edges)
    thresholds = [found.threshold for found in sweep]
    if start not in thresholds:
        raise ValueError(f"there is no circuit of threshold {start}: there are {', '.join(thresholds)}")
    if any(found.circuit.graph != sweep[0].circuit.graph for found in sweep):
        raise ValueError("the circuits are of several models: a page is of one")
    where = places(node for found in sweep for node in found.circuit.nodes)
    data = {
        "start": thresholds.index(start),
        "help": HELP,
        "legend": [[INPUT_NAMES.get(name, name), color] for name, color in INPUTS.items()],
        **where,
        "circuits": [shown(found, metric, where["positions"]) for found in sweep],
    }
    # A "</script>" in a name would end the data.
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    assets = {name: (ASSETS / file).read_text(encoding="utf-8") for name, file in FILES.items()}
    environment = jinja2.Environment(autoescape=True, keep_trailing_newline=True)
    parts = {name: jinja2.utils.markupsafe.Markup(part) for name, part in {**assets, "data": text}.items()}
    return environment.from_string(parts.pop("page")).render(title=title, **parts)


FILES = {"page": "page.html", "css": "page.css", "script": "page.js", "library": "cytoscape.min.js"}


def places(nodes: Iterable[Node]) -> dict[str, Any]:
    """Where every node of the sweep stands, and the labels of the layers."""
    present = set(nodes)
    layers = sorted({node.layer for node in present})
    rows = {layer: -ROW * i for i, layer in enumerate(layers)}
    heads = 1 + max((node.head for node in present if node.head is not None), default=0)
    middle = COLUMN * heads / 2
    columns = {"mlp": COLUMN * heads, "tok_embed": middle - COLUMN, "pos_embed": middle + COLUMN}
    x = {node: COLUMN * node.head if node.head is not None else columns.get(node.component, middle) for node in present}
    inner = {node.layer for node in present if node.component in WIDTHS}
    return {
        "positions": {node.name: {"x": x[node], "y": rows[node.layer]} for node in present},
        "layers": [
            {"data": {"id": f"layer {i}", "label": f"layer {i}", "width": 60}, "position": {"x": -80, "y": rows[i]}}
            for i in sorted(inner)
        ],
    }


Positions = dict[str, dict[str, float]]


def shown(found: Found, metric: str, positions: Positions) -> dict[str, Any]:
    """What the page needs of one circuit."""
    circuit = found.circuit
    live = circuit.nodes
    strengths = {edge: abs(found.effects.get(key_of(edge), 0.0)) for edge in circuit.edges if edge.kind == "addition"}
    ends = {edge: readers for edge in strengths if (readers := arrow_ends(circuit.graph, edge, live))}
    drawn = strongest(ends, strengths, MOST_EDGES)
    width = line_width(strengths[edge] for edge in drawn)
    arrows = [(edge, end) for edge in drawn for end in ends[edge]]
    order = {node: i for i, node in enumerate((*circuit.graph.senders, circuit.graph.receivers[-1]))}
    nodes = sorted({node for edge, end in arrows for node in (edge.sender, end)}, key=order.__getitem__)
    return {
        "threshold": found.threshold,
        "summary": summary(found, metric, len(ends), len(drawn)),
        "nodes": [node_data(found, metric, node, arrows) for node in nodes],
        "edges": [edge_data(found, metric, edge, end, width(strengths[edge]), positions) for edge, end in arrows],
    }


def summary(found: Found, metric: str, n_live: int, n_drawn: int) -> str:
    circuit = found.circuit
    n_addition, n_direct = int(circuit.present.sum()), int(circuit.direct.sum())
    parts = [f"{circuit.n_edges:,} of {circuit.graph.n_edges:,} edges, {len(circuit.nodes)} nodes"]
    if found.final_metric is not None:
        parts.append(f"{metric} {found.final_metric:.4g} where it was found")
    if n_direct:
        parts.append(f"not drawn: {n_direct:,} direct edges (a head's q, k or v as a whole)")
    if n_live < n_addition:
        parts.append(f"not drawn: {n_addition - n_live:,} edges into components that send nothing on")
    if n_drawn < n_live:
        parts.append(f"{n_drawn:,} of {n_live:,} edges drawn, the strongest and their way to the logits")
    return "; ".join(parts)


def node_data(found: Found, metric: str, node: Node, arrows: list[tuple[Edge, Node]]) -> dict[str, Any]:
    effect = found.node_effects.get(node.name)
    facts = []
    if node.component != "logits":
        facts.append(["writes", hook(node.sender_hook, node.index)])
    into = Counter(edge.receiver for edge, end in arrows if end == node)
    for receiver, n in sorted(into.items(), key=lambda item: item[0].port or ""):
        facts.append(["reads", f"{hook(receiver.receiver_hook, receiver.index)}, {counted(n)}"])
    facts.append(["sends along", counted(sum(edge.sender == node for edge, _ in arrows))])
    if effect is not None:
        facts.append([f"effect of removing all it sends, on {metric}", f"{effect:+.4g}"])
    label = f"{node.layer}.{node.head}" if node.component == "head" else node.name.replace("_", " ")
    return {
        "id": node.name,
        "name": node.name,
        "label": label,
        "component": node.component,
        "width": WIDTHS.get(node.component, 120),
        "effect": effect,
        "facts": facts if node.component != "logits" else [fact for fact in facts if fact[0] != "sends along"],
    }


def edge_data(found: Found, metric: str, edge: Edge, end: Node, width: float, positions: Positions) -> dict[str, Any]:
    effect = found.effects.get(key_of(edge))
    facts = [["from", hook(*edge.sender_hook)], ["to", hook(*edge.receiver_hook)]]
    if effect is not None:
        facts.append([f"effect of removing it, on {metric}, when it was tried", f"{effect:+.4g}"])
    rows = (positions[edge.sender.name]["y"] - positions[end.name]["y"]) / ROW
    return {
        "id": f"{edge.name}: {end.name}",
        "name": edge.name,
        "source": edge.sender.name,
        "target": end.name,
        "color": INPUTS[input_of(edge.receiver)],
        "width": 1.6 * width,
        "bow": BOWS[input_of(edge.receiver)] * min(8 + 5 * rows, 70),
        "effect": effect,
        "facts": facts,
    }


def hook(name: str, index: tuple) -> str:
    """Such as blocks.9.attn.hook_result[:, :, 6]."""
    return name if index == (None,) else f"{name}[{', '.join(':' if i is None else str(i) for i in index)}]"


def counted(n: int) -> str:
    return "1 edge" if n == 1 else f"{n:,} edges"
