"""Place the nodes and arrows of a drawing of a circuit.

Everything is placed in inches, so a node has the same size in every figure and the figure grows with the circuit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.path import Path

from acdc.figures.style import COLUMN, PAGE
from acdc.graph import Circuit, Node

NODE_WIDTH, NODE_HEIGHT = 0.34, 0.17
SLOT = 0.46  # from one node of a row to the next
ROW_MIN, ROW_MAX = 0.3, 0.5  # from one layer to the next: less where there are many
TALL = 5.0  # more layers than fit this height at the widest distance move closer
RAISE = 0.2  # from the heads of a layer to its MLP, which reads them
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM = 0.62, 0.2, 0.95
FEW = 16  # nodes that fit a drawing one column wide
BOWS = (0, 0.15, -0.15, 0.35, -0.35, 0.6, -0.6, 1.0, -1.0)  # inches, tried at both ends of an arrow


@dataclass(frozen=True)
class Box:
    """Hold centre, width and height of a node, in inches from the lower left corner of the drawing."""

    x: float
    y: float
    width: float = NODE_WIDTH
    height: float = NODE_HEIGHT

    @property
    def top(self) -> float:
        """Return the y of the upper side."""
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """Return the y of the lower side."""
        return self.y - self.height / 2

    def nearest_x(self, x: float) -> float:
        """Return the x of a point on the box's long sides, off its corners, as near to ``x`` as there is."""
        reach = self.width / 2 - 0.06
        return float(np.clip(x, self.x - reach, self.x + reach))


@dataclass(frozen=True)
class Layout:
    """Hold the positions of all parts of a drawing."""

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
    """Return how far a node is above its row, as an MLP that shares the row with heads is."""
    return RAISE if node.component == "mlp" and len(in_layer[node.layer]) > 1 else 0.0


def row_heights(in_layer: dict[int, list[Node]], step: float, has_bottom: bool) -> tuple[dict[int, float], float]:
    """Return the y of every layer, and of the logits above them."""
    y = step if has_bottom else 0.0
    rows = {}
    for layer, row in in_layer.items():
        rows[layer] = y
        y += step + max(raised(node, in_layer) for node in row)
    return rows, y


def order_and_place(
    in_layer: dict[int, list[Node]], links: list[tuple[Node, Node]], width: float, sweeps: int = 24
) -> dict[Node, float]:
    """Return the x of nodes in layers, each near the mean of its neighbours (barycenter heuristic).

    The bars at the bottom and top are as wide as the drawing and pull at nothing.
    """
    x = {n: width * (i + 0.5) / len(row) for row in in_layer.values() for i, n in enumerate(row)}
    near: dict[Node, list[Node]] = {n: [] for n in x}
    for a, b in links:
        if a in x and b in x:
            near[a].append(b)
            near[b].append(a)
    for _ in range(sweeps):
        pull = {n: float(np.mean([x[n], *(x[m] for m in near[n])])) for n in x}
        rank = np.argsort(np.argsort(without_drift(pull), kind="stable"))
        # Means alone would draw everything to the middle: keep their order, over the whole width.
        spread = dict(zip(x, width * (rank + 0.5) / len(x), strict=True))
        for row in in_layer.values():
            x |= dict(zip(row, apart(np.array([spread[n] for n in row]), width), strict=True))
    return x


def without_drift(pull: dict[Node, float]) -> np.ndarray:
    """Remove the trend over layers, which would make a deep circuit one thick diagonal."""
    layer, x = np.array([n.layer for n in pull]), np.array(list(pull.values()))
    degree = min(len(set(layer)) // 6, 3)
    return x - np.polynomial.Polynomial.fit(layer, x, degree)(layer) if degree else x


def apart(wanted: np.ndarray, width: float) -> np.ndarray:
    """Return positions in the order of the wanted ones and near them, at least a slot apart, inside the drawing."""
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
    """Return a curve that leaves upwards, arrives from below and avoids other nodes if it can.

    Args:
        side: where along the receiver's lower side it arrives, in widths from the centre.
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
    """Return a curve from a head up and over into the side of its own layer's MLP."""
    side = receiver.x - np.sign(receiver.x - sender.x) * receiver.width / 2
    points = [(sender.x, sender.top), (sender.x, receiver.y), (sender.x, receiver.y), (side, receiver.y)]
    return Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def curve(start: np.ndarray, end: np.ndarray, bow: float, end_bow: float) -> Path:
    """Return a Bezier curve whose inner points are pushed sideways."""
    rise = (end[1] - start[1]) * 0.4
    points = [start, start + (bow, rise), end + (end_bow, -rise), end]
    return Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def n_faults(path: Path, others: np.ndarray, width: float) -> int:
    """Count the nodes that a curve passes behind; leaving the drawing counts as much as three."""
    t = np.linspace(0, 1, 40)[:, None, None]
    a, b, c, d = np.asarray(path.vertices, dtype=float)
    points = a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3  # [step 1 2]
    gap = np.abs(points - others) / (NODE_WIDTH / 2 + 0.02, NODE_HEIGHT / 2 + 0.02)
    outside = points[..., 0].min() < 0 or points[..., 0].max() > width
    return int((gap.max(-1) < 1).any(0).sum()) + 3 * outside
