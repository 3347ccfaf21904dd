"""Make an interactive page of a sweep's circuits: no server, no network, nothing beside the file.

The graph is drawn by Cytoscape.js (MIT), which stands in the page whole. What the page does is in
``acdc/assets/page/page.js``. Nodes keep their places while the slider is moved: a row for every layer or, where
these are many, a column, so that all of it can be read on a laptop at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acdc.catalogue import METRICS, label
from acdc.errors import InputError
from acdc.figures.edges import INPUT_NAMES, INPUTS, arrow_ends, counted, input_of, line_width, strongest
from acdc.figures.heads import NAME_COLORS, border_of, facts_of, failed_of, fill_of
from acdc.figures.html import LIBRARY, as_json, filled, sealed, text_of
from acdc.figures.style import INK
from acdc.found import Found
from acdc.graph import Edge, Node
from acdc.heads import NONE, Heads
from acdc.trace import key_of

MOST_EDGES = 1000
"""More of a circuit make a browser slow; the strongest are drawn, and the page says so."""
CANVAS = (1080, 650)
"""The pixels that a graph has on a laptop, to choose how it lies."""
WIDTH, FONT, LETTER = 37, 15, 9  # of nodes, at the least, and of their labels, in the graph's own pixels
SMALL = 12  # pixels of a label, below which layers become columns
ACROSS, UP = 45, 38  # from one node to the next, at the least
STRETCH = 3.0  # and at the most, to fill the canvas: times as far
BOWS = {"q": -1.0, "k": 0.4, "v": 1.0, "mlp": -0.5, "logits": 0.7}  # edges between the same nodes stand apart
HELP = (
    "Point at a node or an edge: its hook points, and what removing it does. Click: only the paths from there to the"
    " logits. Click beside the graph: everything. Drag nodes or the background; the wheel zooms."
)
EFFECTS = "An effect is how much the metric rises when something is removed. Searches minimise it."


def page(
    sweep: Sequence[Found],
    node_effects: Mapping[str, Mapping[str, float]],
    title: str,
    start: str,
    heads: Heads | None = None,
) -> str:
    """Make the page as HTML.

    Args:
        sweep: circuits of one search, with their traces where there are some.
        node_effects: by the circuit's value and the node's name: how much the metric rises when all that the node sends
            is removed. Empty where it was not measured.
        start: the value of the circuit that is shown first.
        heads: what heads do; None where it is not known.

    Raises:
        InputError: no circuit of the sweep has the value ``start``, or the circuits are of several graphs.
    """
    sweep = sorted(sweep, key=lambda found: -found.circuit.n_edges)
    size, values = label(sweep[0].settings["size_by"]), [found.value for found in sweep]
    if start not in values:
        raise InputError(f"there is no circuit of {size} {start}: there are {', '.join(values)}")
    if any(found.circuit.graph != sweep[0].circuit.graph for found in sweep):
        raise InputError("the circuits are of several models: a page is of one")
    where = places(node for found in sweep for node in found.circuit.nodes)
    rows = {layer: i for i, layer in enumerate(where.pop("rows"))}
    shown = [Shown(found, node_effects.get(found.value, {}), heads) for found in sweep]
    data = {
        "size": size,
        "start": values.index(start),
        "help": f"{HELP} {EFFECTS}",
        "legend": [[INPUT_NAMES.get(name, name), color] for name, color in INPUTS.items()],
        "names": names_of(shown),
        "attention": heads.attention if heads else None,
        "font": FONT,
        **where,
        "circuits": [one.data(rows) for one in shown],
    }
    assets = {"css": text_of("page.css"), "script": text_of("page.js"), "library": text_of(LIBRARY)}
    return sealed(filled("page.html", {**assets, "data": as_json(data)}, title=title, size=size))


def places(nodes: Iterable[Node]) -> dict[str, Any]:
    """Return the position of every node of the sweep, and the labels of the layers."""
    order = {"tok_embed": 0, "embed": 1, "pos_embed": 2, "head": 3, "mlp": 4}  # a set has another in every process
    present = sorted(set(nodes), key=lambda node: (node.layer, order.get(node.component, 5), node.head or 0))
    layers = {layer: [node for node in present if node.layer == layer] for layer in sorted({n.layer for n in present})}
    most = max((len(own) for own in layers.values()), default=1)
    upright = zoom(most, len(layers))
    lies = FONT * upright < SMALL and zoom(len(layers), most) > upright
    across, up = spacing(len(layers), most) if lies else spacing(most, len(layers))
    positions: dict[str, dict[str, float]] = {}
    for i, own in enumerate(layers.values()):
        for j, node in enumerate(own):
            beside = j - (len(own) - 1) / 2
            x, y = (i, beside) if lies else (beside, -i)
            positions[node.name] = {"x": across * x, "y": up * y}
    half = (most - 1) / 2
    at = {
        layer: {"x": across * i, "y": -up * half - UP} if lies else {"x": -across * half - 1.5 * ACROSS, "y": -up * i}
        for i, layer in enumerate(layers)
    }
    inner = [layer for layer, own in layers.items() if any(node.component in ("head", "mlp") for node in own)]
    return {
        "rows": [*layers],
        "positions": positions,
        "layers": [
            {"data": {"id": f"layer {i}", "label": layer_label(i, inner, lies), "width": WIDTH}, "position": at[i]}
            for i in inner
        ],
    }


def zoom(across: int, up: int) -> float:
    """Return the scale at which a number of nodes across and up fits a laptop's screen."""
    return min(CANVAS[0] / (ACROSS * (across + 1)), CANVAS[1] / (UP * (up + 1)))


def spacing(across: int, up: int) -> tuple[float, float]:
    """Return the distances between nodes: the smallest ones or, if there is room, larger ones."""
    size = min(zoom(across, up), 1.0)
    wide, high = CANVAS[0] / (size * (across + 1)), CANVAS[1] / (size * (up + 1))
    return min(max(wide, ACROSS), STRETCH * ACROSS), min(max(high, UP), STRETCH * UP)


def layer_label(layer: int, inner: Sequence[int], lies: bool) -> str:
    """Return the label of a layer; if layers are columns, only the first one has the word."""
    return f"layer {layer}" if not lies or layer == inner[0] else str(layer)


def names_of(shown: Sequence[Shown]) -> list[list[str]]:
    """Return the names of heads in circuits, with their colours, in the order of the legend."""
    present = {one.name(node) for one in shown for node in one.found.circuit.nodes}
    return [[name, fill_of(name), color] for name, color in NAME_COLORS.items() if name in present]


@dataclass
class Shown:
    """Hold the parts of the page for one circuit.

    Attributes:
        found: the circuit.
        node_effects: by the node's name, the effect of removing its outgoing edges.
        heads: the measured heads; None if they are unknown.
        strengths: the absolute effects of edges or, without effects, their absolute scores.
        ends: for each edge that leads on to the logits, the nodes that read it.
        drawn: the edges that are drawn, the strongest first.
        arrows: those edges, one for every node that reads them.
    """

    found: Found
    node_effects: Mapping[str, float]
    heads: Heads | None
    strengths: dict[Edge, float] = field(init=False)
    ends: dict[Edge, list[Node]] = field(init=False)
    drawn: list[Edge] = field(init=False)
    arrows: list[tuple[Edge, Node]] = field(init=False)

    def __post_init__(self) -> None:
        circuit, known = self.found.circuit, self.found.importance
        edges = [edge for edge in circuit.edges if edge.kind == "addition"]
        self.strengths = {edge: abs(known.get(key_of(edge), 0.0)) for edge in edges}
        self.ends = {edge: ends for edge in edges if (ends := arrow_ends(circuit.graph, edge, circuit.nodes))}
        self.drawn = strongest(self.ends, self.strengths, MOST_EDGES)
        self.arrows = [(edge, end) for edge in self.drawn for end in self.ends[edge]]

    def data(self, rows: Mapping[int, int]) -> dict[str, Any]:
        """Return the data of the circuit for the page's script.

        Args:
            rows: by layer, which of the rows of nodes it is.
        """
        graph = self.found.circuit.graph
        width = line_width(self.strengths[edge] for edge in self.drawn)
        order = {node: i for i, node in enumerate((*graph.senders, graph.receivers[-1]))}
        nodes = sorted({node for edge, end in self.arrows for node in (edge.sender, end)}, key=order.__getitem__)
        return {
            "value": self.found.value,
            "summary": self.summary(),
            "nodes": [self.node(node) for node in nodes],
            "edges": [self.edge(edge, end, width(self.strengths[edge]), rows) for edge, end in self.arrows],
        }

    def name(self, node: Node) -> str:
        """Return the proposed name of a node; ``NONE`` if there is none."""
        return self.heads.name(node.name) if self.heads and node.component == "head" else NONE

    @property
    def metric(self) -> str:
        """Return the label of the metric that was minimised."""
        return label(self.found.settings["metric"])

    def measured(self, value: float, form: str) -> str:
        """Return a value of the metric with its unit."""
        name = self.found.settings["metric"]
        return f"{value:{form}} {METRICS[name].unit if name in METRICS else ''}".strip()

    def summary(self) -> str:
        """Return the line above the graph: how large the circuit is, and what is not drawn."""
        circuit = self.found.circuit
        parts = [f"{circuit.n_edges:,} of {circuit.graph.n_edges:,} edges, {len(circuit.nodes)} nodes"]
        final = self.found.result.get("final_metric")
        if final is not None:
            parts.append(f"{self.metric} {self.measured(final, '.4g')} where it was found")
        if n := int(circuit.direct.sum()):
            parts.append(f"not drawn: {counted(n, 'direct ')} (a head's q, k or v as a whole)")
        if n := len(self.strengths) - len(self.ends):
            parts.append(f"not drawn: {counted(n)} into nodes that send nothing on")
        if len(self.drawn) < len(self.ends):
            n_drawn = f"{len(self.drawn):,} of {counted(len(self.ends))} drawn"
            parts.append(f"{n_drawn}, the strongest and their way to the logits")
        return "; ".join(parts)

    def node(self, node: Node) -> dict[str, Any]:
        """Return the data of a node for the page's script."""
        label = f"{node.layer}.{node.head}" if node.component == "head" else node.name.replace("_", " ")
        name = self.name(node)
        failed = self.heads is not None and failed_of(self.heads.rows.get(node.name, {}))
        return {
            "id": node.name,
            "name": node.name,
            "label": label,
            "component": node.component,
            "width": width_of(node, label),
            "fill": fill_of(name) if node.component == "head" else "#E3E3E3",
            "border": border_of(name, INK),
            "named": name,
            "failed": failed,
            "effect": self.node_effects.get(node.name),
            "facts": self.node_facts(node),
        }

    def node_facts(self, node: Node) -> list[list[str]]:
        """Return terms and texts about a node: its hook points, its edges, and the effect of removing it."""
        sends = node.component != "logits"
        facts = facts_of(self.heads, node.name) if self.heads else []
        facts += [["writes", hook(node.sender_hook, node.index)]] if sends else []
        into = Counter(edge.receiver for edge, end in self.arrows if end == node)
        for receiver, n in sorted(into.items(), key=lambda item: item[0].port or ""):
            facts.append(["reads", f"{hook(receiver.receiver_hook, receiver.index)}, {counted(n)}"])
        if sends:
            facts.append(["sends along", counted(sum(edge.sender == node for edge, _ in self.arrows))])
        if node.name in self.node_effects:
            effect = self.measured(self.node_effects[node.name], "+.4g")
            facts.append([f"effect of removing all it sends, on {self.metric}", effect])
        return facts

    def edge(self, edge: Edge, end: Node, width: float, rows: Mapping[int, int]) -> dict[str, Any]:
        """Return the data of an arrow for the page's script: an edge to one of the nodes that read it."""
        effect = self.found.effects.get(key_of(edge))
        facts = [["from", hook(*edge.sender_hook)], ["to", hook(*edge.receiver_hook)]]
        if effect is not None:
            term = f"effect of removing it, on {self.metric}, when it was tried"
            facts.append([term, self.measured(effect, "+.4g")])
        elif key_of(edge) in self.found.importance:
            facts.append(["score", f"{self.found.importance[key_of(edge)]:+.4g}"])
        n_rows = rows[end.layer] - rows[edge.sender.layer]
        return {
            "id": f"{edge.name}: {end.name}",
            "name": edge.name,
            "source": edge.sender.name,
            "target": end.name,
            "color": INPUTS[input_of(edge.receiver)],
            "width": 1.6 * width,
            "bow": BOWS[input_of(edge.receiver)] * min(8 + 5 * n_rows, 70),
            "effect": effect,
            "facts": facts,
        }


def width_of(node: Node, label: str) -> float:
    """Return the width of a node: at least ``WIDTH`` for heads and MLPs, that of the name for other nodes."""
    return max(WIDTH, LETTER * len(label)) if node.component in ("head", "mlp") else 1.2 * LETTER * len(label)


def hook(name: str, index: tuple) -> str:
    """Return a hook point with its index, such as blocks.9.attn.hook_result[:, :, 6]."""
    return name if index == (None,) else f"{name}[{', '.join(':' if i is None else str(i) for i in index)}]"
