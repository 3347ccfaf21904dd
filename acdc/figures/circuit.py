"""A circuit as a drawing: components in rows by layer, the embedding at the bottom, the logits on top.

Everything is placed in inches, so a node has the same size in every figure and the figure grows with the
circuit instead.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from acdc.figures.style import BLUE, COLUMN, GREEN, GREY, INK, ORANGE, PAGE, PALE, PINK, VERMILLION, style
from acdc.graph import Circuit, Edge, Graph, Node

INPUTS = {"q": BLUE, "k": ORANGE, "v": GREEN, "mlp": PINK, "logits": VERMILLION}
INPUT_NAMES = {"mlp": "MLP"}
SIDE = {"q": -0.3, "k": 0.0, "v": 0.3}  # where on a head's lower edge its inputs arrive, in node widths

NODE_WIDTH, NODE_HEIGHT = 0.34, 0.17
SLOT = 0.46  # from one node of a row to the next
ROW_MIN, ROW_MAX = 0.3, 0.5  # from one layer to the next: less where there are many
TALL = 5.0  # more layers than fit this height at the widest distance move closer
RAISE = 0.2  # from the heads of a layer to its MLP, which reads them
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM = 0.62, 0.2, 0.95
TITLE_LINE = 0.16
FEW = 16  # nodes that fit a drawing one column wide
DECADES = 3  # weaker effects than this many decades below the strongest look alike
BOWS = (0, 0.15, -0.15, 0.35, -0.35, 0.6, -0.6, 1.0, -1.0)  # inches, tried at both ends of an arrow


def draw(circuit: Circuit, effects: pd.DataFrame, title: str, max_edges: int = 120) -> Figure:
    """The circuit's addition edges, coloured by the input they enter, wider the more their removal costs.

    Only components that an edge is drawn to or from appear, and the logits. An edge into a key/value head
    shared by a group of query heads is drawn to each of the group that is in the circuit. Not drawn, but
    counted below, are edges into components that send nothing on, edges beyond the ``max_edges`` strongest
    (which include each one's way to the logits), and direct edges.

    Args:
        effects: the trace of the search that found the circuit, a row per tried edge. Columns sender and
            receiver (node names), kind ("addition" or "direct"), effect (rise of the minimised metric when
            the edge is removed, in the metric's unit), removed (bool); others are ignored.
        title: set above the drawing, wrapped to its width.

    Raises:
        ValueError: an addition edge of the circuit has no row that kept it, or its effect is NaN or infinite
            (the message names the edge), or ``max_edges`` is less than 1.
    """
    if max_edges < 1:
        raise ValueError(f"max_edges must be at least 1, not {max_edges}")
    strengths = strength_by_edge(circuit, effects)
    live = circuit.nodes
    ends = {edge: readers for edge in strengths if (readers := arrow_ends(circuit.graph, edge, live))}
    drawn = strongest(ends, strengths, max_edges)
    layout = arrange(circuit, [(edge.sender, end) for edge in drawn for end in ends[edge]])
    with style():
        figure, axes = canvas(layout, title)
        draw_rows(axes, layout)
        draw_edges(axes, layout, {edge: ends[edge] for edge in drawn}, strengths)
        draw_nodes(axes, layout)
        write_small_print(axes, small_print(circuit, len(strengths), len(ends), len(drawn)))
        if drawn:
            add_legends(axes, {edge: strengths[edge] for edge in drawn})
    return figure


# What is drawn.


def strength_by_edge(circuit: Circuit, effects: pd.DataFrame) -> dict[Edge, float]:
    """|effect| of every addition edge in the circuit, in the circuit's order."""
    kept = effects[(effects["kind"] == "addition") & ~effects["removed"].astype(bool)]
    effect = dict(zip(zip(kept["sender"], kept["receiver"], strict=True), kept["effect"].abs(), strict=True))
    strengths = {}
    for edge in (e for e in circuit.edges if e.kind == "addition"):
        strength = effect.get((edge.sender.name, edge.receiver.name))
        if strength is None:
            raise ValueError(f"{edge.name} is in the circuit, but no row of the effects kept it")
        if not np.isfinite(strength):
            raise ValueError(f"{edge.name}: an effect of {strength} cannot be drawn")
        strengths[edge] = float(strength)
    return strengths


def arrow_ends(graph: Graph, edge: Edge, live: set[Node]) -> list[Node]:
    """The live components that read what the edge carries."""
    if edge.receiver.component == "logits":
        return [edge.receiver]
    return [node for node in graph.consumers(edge.receiver) if node in live]


def strongest(ends: dict[Edge, list[Node]], strengths: dict[Edge, float], n: int) -> list[Edge]:
    """At most ``n`` edges, strongest first, each with the strongest way from it to the logits.

    The strongest alone would leave heads hanging in the air whose way on is one weak edge.
    """
    order = sorted(ends, key=lambda edge: -strengths[edge])
    onward = {edge.sender: edge for edge in reversed(order)}  # the strongest edge of a sender overwrites the others
    chosen: dict[Edge, None] = {}
    for edge in order:
        way = [edge]
        for step in way:  # grows until every branch is at the logits
            way += [onward[node] for node in ends[step] if node in onward and onward[node] not in way]
        new = [step for step in way if step not in chosen]
        if len(chosen) + len(new) <= n:
            chosen |= dict.fromkeys(new)
    return sorted(chosen, key=lambda edge: -strengths[edge])


def input_of(receiver: Node) -> str:
    return receiver.port or receiver.component


def small_print(circuit: Circuit, n_edges: int, n_live: int, n_drawn: int) -> str:
    parts = [f"{n_live} edges" if n_live != 1 else "1 edge"]
    if n_drawn < n_live:
        parts = [f"{n_drawn} of {n_live} edges: the strongest, and those that join them to the logits"]
    if n_live < n_edges:
        parts.append(f"not drawn: {n_edges - n_live} into components that send nothing on")
    if direct := int(circuit.direct.sum()):
        parts.append(f"not drawn: {direct} direct (a head's q, k or v as a whole)")
    return "; ".join(parts)


# Where it is drawn.


@dataclass(frozen=True)
class Box:
    """Centre, width and height of a node, in inches from the lower left corner of the drawing."""

    x: float
    y: float
    width: float = NODE_WIDTH
    height: float = NODE_HEIGHT

    @property
    def top(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y - self.height / 2

    def nearest_x(self, x: float) -> float:
        """A point of the box's long edges, away from its corners, as near to ``x`` as there is."""
        reach = self.width / 2 - 0.06
        return float(np.clip(x, self.x - reach, self.x + reach))


@dataclass(frozen=True)
class Layout:
    boxes: dict[Node, Box]
    rows: dict[int, float]  # y of every layer that has nodes
    step: float  # from one layer to the next
    width: float
    height: float


def arrange(circuit: Circuit, links: list[tuple[Node, Node]]) -> Layout:
    """Place the nodes at the ends of ``links``."""
    nodes = {node for link in links for node in link} | {circuit.graph.receivers[-1]}
    bars = [n for n in circuit.graph.senders if n in nodes and n.layer < 0]
    inner = [n for n in circuit.graph.senders if n in nodes and n.layer >= 0]
    layers = sorted({n.layer for n in inner})
    in_layer = {layer: [n for n in inner if n.layer == layer] for layer in layers}
    widest = max([len(row) for row in in_layer.values()] or [1])
    page = COLUMN if len(inner) <= FEW else PAGE
    width = max(widest * SLOT, page - MARGIN_LEFT - MARGIN_RIGHT)
    step = float(np.clip(TALL / (len(layers) + 1), ROW_MIN, ROW_MAX))
    rows, height = row_heights(in_layer, step, has_bottom=bool(bars))
    x = order_and_place(in_layer, links, width)
    boxes = {n: Box(x[n], rows[n.layer] + raised(n, in_layer)) for n in inner}
    boxes |= {n: Box(width * (i + 0.5) / len(bars), 0, width / len(bars) - 0.05) for i, n in enumerate(bars)}
    boxes |= {n: Box(width / 2, height, width - 0.05) for n in nodes if n.component == "logits"}
    return Layout(boxes, rows, step, width, height)


def raised(node: Node, in_layer: dict[int, list[Node]]) -> float:
    return RAISE if node.component == "mlp" and len(in_layer[node.layer]) > 1 else 0.0


def row_heights(in_layer: dict[int, list[Node]], step: float, has_bottom: bool) -> tuple[dict[int, float], float]:
    """y of every layer, and of the logits above them."""
    y = step if has_bottom else 0.0
    rows = {}
    for layer, row in in_layer.items():
        rows[layer] = y
        y += step + max(raised(node, in_layer) for node in row)
    return rows, y


def order_and_place(
    in_layer: dict[int, list[Node]], links: list[tuple[Node, Node]], width: float, sweeps: int = 24
) -> dict[Node, float]:
    """x of the nodes in layers, each near the mean of its neighbours (barycenter heuristic).

    The bars at the bottom and top are as wide as the drawing and pull at nothing.
    """
    x = {n: width * (i + 0.5) / len(row) for row in in_layer.values() for i, n in enumerate(row)}
    near: dict[Node, list[Node]] = {n: [] for n in x}
    for a, b in links:
        if a in x and b in x:
            near[a].append(b)
            near[b].append(a)
    for _ in range(sweeps):
        pull = {n: np.mean([x[n], *(x[m] for m in near[n])]) for n in x}
        rank = np.argsort(np.argsort(without_drift(pull), kind="stable"))
        # Means alone would draw everything to the middle: keep their order, over the whole width.
        spread = dict(zip(x, width * (rank + 0.5) / len(x), strict=True))
        for row in in_layer.values():
            x |= dict(zip(row, apart(np.array([spread[n] for n in row]), width), strict=True))
    return x


def without_drift(pull: dict[Node, float]) -> np.ndarray:
    """Without the trend over layers, which would make a deep circuit one thick diagonal."""
    layer, x = np.array([n.layer for n in pull]), np.array(list(pull.values()))
    degree = min(len(set(layer)) // 6, 3)
    return x - np.polynomial.Polynomial.fit(layer, x, degree)(layer) if degree else x


def apart(wanted: np.ndarray, width: float) -> np.ndarray:
    """Places in the order of the wanted ones, near them, at least a slot apart and inside the drawing."""
    order = np.argsort(wanted, kind="stable")
    steps = np.arange(len(wanted)) * SLOT
    low, high = SLOT / 2, width - SLOT / 2 - steps[-1]
    free = wanted[order] - steps
    pushed_right = np.maximum.accumulate(free)
    pushed_left = np.minimum.accumulate(free[::-1])[::-1]
    places = np.empty(len(wanted))
    places[order] = np.clip((pushed_right + pushed_left) / 2, low, max(high, low)) + steps
    return places


def arrow_path(sender: Box, receiver: Box, side: float, others: np.ndarray, width: float) -> Path:
    """A curve that leaves upwards, arrives from below and bows past other nodes where it can.

    Args:
        side: where along the receiver's lower edge it arrives, in widths from the centre.
        others: Float[node 2], centres of the nodes to avoid.
        width: of the drawing.
    """
    if receiver.bottom < sender.top + 0.1:
        return sideways(sender, receiver)
    end_x = receiver.nearest_x(sender.x) if receiver.width > NODE_WIDTH else receiver.x + side * receiver.width
    start = np.array([sender.nearest_x(end_x), sender.top])
    end = np.array([end_x, receiver.bottom])
    bows = sorted(product(BOWS, BOWS), key=lambda bow: np.abs(bow).sum())  # the straightest of equals wins
    return min((curve(start, end, *bow) for bow in bows), key=lambda path: n_faults(path, others, width))


def sideways(sender: Box, receiver: Box) -> Path:
    """From a head up and over into the side of its own layer's MLP."""
    edge = receiver.x - np.sign(receiver.x - sender.x) * receiver.width / 2
    points = [(sender.x, sender.top), (sender.x, receiver.y), (sender.x, receiver.y), (edge, receiver.y)]
    return Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def curve(start: np.ndarray, end: np.ndarray, bow: float, end_bow: float) -> Path:
    rise = (end[1] - start[1]) * 0.4
    points = [start, start + (bow, rise), end + (end_bow, -rise), end]
    return Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def n_faults(path: Path, others: np.ndarray, width: float) -> int:
    """Nodes that the curve passes behind; leaving the drawing counts as much as three."""
    t = np.linspace(0, 1, 40)[:, None, None]
    a, b, c, d = path.vertices
    points = a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3  # [step 1 2]
    gap = np.abs(points - others) / (NODE_WIDTH / 2 + 0.02, NODE_HEIGHT / 2 + 0.02)
    outside = points[..., 0].min() < 0 or points[..., 0].max() > width
    return int((gap.max(-1) < 1).any(0).sum()) + 3 * outside


# Drawing it.


def canvas(layout: Layout, title: str) -> tuple[Figure, Axes]:
    width = layout.width + MARGIN_LEFT + MARGIN_RIGHT
    title = textwrap.fill(title, int(width * 14))
    top = layout.height + NODE_HEIGHT / 2 + 0.18 + TITLE_LINE * (title.count("\n") + 1)
    bottom = -NODE_HEIGHT / 2 - MARGIN_BOTTOM
    figure = Figure(figsize=(width, top - bottom))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-MARGIN_LEFT, width - MARGIN_LEFT), ylim=(bottom, top))
    axes.set_axis_off()
    axes.text(-MARGIN_LEFT + 0.1, top - 0.08, title, va="top", fontsize=9)
    return figure, axes


def draw_rows(axes: Axes, layout: Layout) -> None:
    tops = [*layout.rows.values(), layout.height][1:]
    for i, ((layer, y), top) in enumerate(zip(layout.rows.items(), tops, strict=True)):
        pad = (layout.step - NODE_HEIGHT) / 2
        low, high = y - NODE_HEIGHT / 2 - pad, top - NODE_HEIGHT / 2 - pad
        if i % 2 == 0:
            axes.add_patch(Rectangle((0, low), layout.width, high - low, color=PALE, linewidth=0, zorder=0))
        axes.text(-0.08, (low + high) / 2, f"layer {layer}", ha="right", va="center", fontsize=7, color=GREY)


def draw_edges(axes: Axes, layout: Layout, ends: dict[Edge, list[Node]], strengths: dict[Edge, float]) -> None:
    width = line_width([strengths[edge] for edge in ends])
    small = [n for n in layout.boxes if n.component in ("head", "mlp")]
    for edge in reversed(ends):  # the strongest last, on top
        for end in ends[edge]:
            others = [(layout.boxes[n].x, layout.boxes[n].y) for n in small if n not in (edge.sender, end)]
            path = arrow_path(
                layout.boxes[edge.sender], layout.boxes[end], SIDE.get(edge.receiver.port, 0.0),
                np.array(others).reshape(-1, 2), layout.width,
            )  # fmt: skip
            axes.add_patch(arrow(path, width(strengths[edge]), edge, end))


def arrow(path: Path, width: float, edge: Edge, end: Node) -> FancyArrowPatch:
    return FancyArrowPatch(
        path=path, arrowstyle="-|>", mutation_scale=4 + 1.5 * width, linewidth=width, alpha=opacity(width),
        color=INPUTS[input_of(edge.receiver)], joinstyle="miter", capstyle="butt", zorder=2,
        gid=f"{edge.name}: {end.name}",
    )  # fmt: skip


def line_width(strengths: Iterable[float]) -> Callable[[float], float]:
    """Effect to points, on a log scale of at most ``DECADES`` decades."""
    low, high = strength_range(strengths)
    norm = LogNorm(low, high, clip=True) if low < high else lambda _: 1.0
    return lambda strength: 0.5 + 1.7 * float(norm(max(strength, low)))


def opacity(width: float) -> float:
    return 0.35 + 0.6 * (width - 0.5) / 1.7


def strength_range(strengths: Iterable[float]) -> tuple[float, float]:
    """Weakest and strongest effect that are told apart; an effect of zero has no place on a log scale."""
    positive = [s for s in strengths if s > 0] or [1.0]
    return max(min(positive), max(positive) * 10.0**-DECADES), max(positive)


def draw_nodes(axes: Axes, layout: Layout) -> None:
    for node, box in layout.boxes.items():
        head = node.component == "head"
        fill = "white" if head else "#E3E3E3"
        corner = box.height / 2 if head else 0.03
        axes.add_patch(FancyBboxPatch(
            (box.x - box.width / 2, box.bottom), box.width, box.height, facecolor=fill, edgecolor=INK,
            linewidth=0.7, boxstyle=f"round,pad=0,rounding_size={corner}", zorder=3,
        ))  # fmt: skip
        label = f"{node.layer}.{node.head}" if head else node.name.replace("_", " ")
        axes.text(box.x, box.y - 0.005, label, ha="center", va="center", fontsize=6.5, zorder=4)


def write_small_print(axes: Axes, text: str) -> None:
    (left, right), low = axes.get_xlim(), axes.get_ylim()[0]
    text = textwrap.fill(text, int((right - left) * 20))
    axes.text(left + 0.1, low + 0.28, text, va="top", fontsize=6, color=GREY)


def add_legends(axes: Axes, strengths: dict[Edge, float]) -> None:
    inputs = {input_of(edge.receiver) for edge in strengths}
    present = {name: color for name, color in INPUTS.items() if name in inputs}
    lines = [Line2D([], [], color=c, linewidth=2, label=INPUT_NAMES.get(i, i)) for i, c in present.items()]
    add_legend(axes, 0.62, "edge into", lines)
    low, high = strength_range(strengths.values())
    width = line_width(strengths.values())
    shown = [low, np.sqrt(low * high), high] if low < high else [high]
    lines = [Line2D([], [], color=INK, linewidth=width(s), alpha=opacity(width(s)), label=f"{s:.2g}") for s in shown]
    add_legend(axes, 0.42, "effect of removing it", lines)


def add_legend(axes: Axes, inches: float, text: str, lines: list[Line2D]) -> None:
    """One line of a legend, that far above the figure's lower edge."""
    left, y = axes.get_xlim()[0] + 0.1, axes.get_ylim()[0] + inches
    axes.text(left, y, text, va="center", fontsize=7)
    axes.add_artist(Legend(
        axes, lines, [line.get_label() for line in lines], ncols=len(lines), loc="center left", borderpad=0,
        bbox_to_anchor=(left + 1.12, y), bbox_transform=axes.transData, borderaxespad=0, handlelength=1.4,
        columnspacing=1,
    ))  # fmt: skip
