"""Draw a circuit: nodes in rows by layer, the embedding at the bottom, the logits on top."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Rectangle
from matplotlib.path import Path

from acdc.errors import InputError
from acdc.figures.edges import (
    INPUT_NAMES,
    INPUTS,
    arrow_ends,
    counted,
    input_of,
    line_width,
    strength_range,
    strongest,
)
from acdc.figures.heads import NAME_COLORS, failed_of, fill_of
from acdc.figures.places import (
    MARGIN_BOTTOM,
    MARGIN_LEFT,
    MARGIN_RIGHT,
    NODE_HEIGHT,
    Layout,
    arrange,
    arrow_path,
)
from acdc.figures.style import GREY, INK, PALE, style
from acdc.graph import Circuit, Edge, Node
from acdc.heads import NONE, Heads

SIDE = {"q": -0.3, "k": 0.0, "v": 0.3}  # where on a head's lower side its inputs arrive, in node widths
TITLE_LINE, NAMES_LINE = 0.16, 0.17  # inches
NAMES_A_LINE = 2
FAILED_DASH: Any = (0, (2.5, 1.5))
"""The border of a head whose name fails its test."""


def draw(
    circuit: Circuit,
    effects: pd.DataFrame | None,
    title: str,
    max_edges: int = 120,
    *,
    widths: str = "effect of removing it",
    heads: Heads | None = None,
) -> Figure:
    """Draw a circuit, with edges coloured by the input that they enter and as wide as their effects.

    Only nodes that an edge is drawn to or from appear, and the logits. An edge into a key/value head that query heads
    share is drawn to each of them that is in the circuit. Not drawn, but counted below, are edges into nodes that send
    nothing on, edges beyond the ``max_edges`` strongest (which include each one's way to the logits), and direct edges.

    Args:
        effects: the trace of the search that found the circuit, a row per tried edge. Columns sender and receiver
            (names of nodes), kind ("addition" or "direct"), effect (rise of the minimised metric when the edge is
            removed, in the metric's unit), removed (bool); others are ignored. None where nothing is known of the
            edges: all are of one width.
        title: set above the drawing, wrapped to its width.
        widths: what the widths are of, for their legend.
        heads: what heads do: those with a name have its colour, as in the paper's Figure 1, and a dashed border if it
            fails its test.

    Raises:
        InputError: an edge of the circuit has no row that kept it, or its effect is NaN or infinite (the message names
            the edge), or ``max_edges`` is less than 1.
    """
    if max_edges < 1:
        raise InputError(f"max_edges must be at least 1, not {max_edges}")
    known = effects is not None
    strengths = dict.fromkeys(additions(circuit), 1.0) if effects is None else strength_by_edge(circuit, effects)
    live = circuit.nodes
    ends = {edge: readers for edge in strengths if (readers := arrow_ends(circuit.graph, edge, live))}
    drawn = strongest(ends, strengths, max_edges)
    layout = arrange(circuit, [(edge.sender, end) for edge in drawn for end in ends[edge]])
    names = names_in(layout, heads)
    with style():
        figure, axes = canvas(layout, title, -(-len(names) // NAMES_A_LINE))
        draw_rows(axes, layout)
        draw_edges(axes, layout, {edge: ends[edge] for edge in drawn}, strengths)
        draw_nodes(axes, layout, heads)
        write_small_print(axes, small_print(circuit, len(strengths), len(ends), len(drawn), known))
        if drawn:
            add_legends(axes, {edge: strengths[edge] for edge in drawn}, widths if known else None)
        if names:
            add_names(axes, names)
    return figure


# What is drawn.


def additions(circuit: Circuit) -> list[Edge]:
    """Return the circuit's addition edges, in its order."""
    return [edge for edge in circuit.edges if edge.kind == "addition"]


def strength_by_edge(circuit: Circuit, effects: pd.DataFrame) -> dict[Edge, float]:
    """Return the absolute effect of every addition edge, in the circuit's order."""
    kept = effects[(effects["kind"] == "addition") & ~effects["removed"].astype(bool)]
    effect = dict(zip(zip(kept["sender"], kept["receiver"], strict=True), kept["effect"].abs(), strict=True))
    strengths = {}
    for edge in additions(circuit):
        strength = effect.get((edge.sender.name, edge.receiver.name))
        if strength is None:
            raise InputError(f"{edge.name} is in the circuit, but no row of the effects kept it")
        if not np.isfinite(strength):
            raise InputError(f"{edge.name}: an effect of {strength} cannot be drawn")
        strengths[edge] = float(strength)
    return strengths


def small_print(circuit: Circuit, n_edges: int, n_live: int, n_drawn: int, known: bool) -> str:
    """Return the line below a drawing: how many edges there are, and what is not drawn."""
    parts = [counted(n_live)]
    if n_drawn < n_live:
        which = "the strongest" if known else "some"
        parts = [f"{n_drawn:,} of {counted(n_live)}: {which}, and those that join them to the logits"]
    if n_live < n_edges:
        parts.append(f"not drawn: {counted(n_edges - n_live)} into nodes that send nothing on")
    if direct := int(circuit.direct.sum()):
        parts.append(f"not drawn: {counted(direct, 'direct ')} (a head's q, k or v as a whole)")
    return "; ".join(parts)


# Drawing it.


def canvas(layout: Layout, title: str, n_lines: int) -> tuple[Figure, Axes]:
    """Make a figure as large as the drawing and its margins, in inches, and write the title.

    Args:
        n_lines: of the legend of heads' names.
    """
    width = layout.width + MARGIN_LEFT + MARGIN_RIGHT
    title = textwrap.fill(title, int(width * 14))
    top = layout.height + NODE_HEIGHT / 2 + 0.18 + TITLE_LINE * (title.count("\n") + 1)
    bottom = -NODE_HEIGHT / 2 - MARGIN_BOTTOM - NAMES_LINE * n_lines
    figure = Figure(figsize=(width, top - bottom))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-MARGIN_LEFT, width - MARGIN_LEFT), ylim=(bottom, top))
    axes.set_axis_off()
    axes.text(-MARGIN_LEFT + 0.1, top - 0.08, title, va="top", fontsize=9)
    return figure, axes


def draw_rows(axes: Axes, layout: Layout) -> None:
    """Draw a band for every layer, every other one shaded."""
    tops = [*layout.rows.values(), layout.height][1:]
    for i, ((layer, y), top) in enumerate(zip(layout.rows.items(), tops, strict=True)):
        pad = (layout.step - NODE_HEIGHT) / 2
        low, high = y - NODE_HEIGHT / 2 - pad, top - NODE_HEIGHT / 2 - pad
        if i % 2 == 0:
            axes.add_patch(Rectangle((0, low), layout.width, high - low, color=PALE, linewidth=0, zorder=0))
        axes.text(-0.08, (low + high) / 2, f"layer {layer}", ha="right", va="center", fontsize=7, color=GREY)


def draw_edges(axes: Axes, layout: Layout, ends: dict[Edge, list[Node]], strengths: dict[Edge, float]) -> None:
    """Draw an arrow for every edge and node that reads it."""
    width = line_width([strengths[edge] for edge in ends])
    small = [n for n in layout.boxes if n.component in ("head", "mlp")]
    for edge in reversed(ends):  # the strongest last, on top
        for end in ends[edge]:
            others = [(layout.boxes[n].x, layout.boxes[n].y) for n in small if n not in (edge.sender, end)]
            path = arrow_path(
                layout.boxes[edge.sender], layout.boxes[end], SIDE.get(edge.receiver.port or "", 0.0),
                np.array(others).reshape(-1, 2), layout.width,
            )  # fmt: skip
            axes.add_patch(arrow(path, width(strengths[edge]), edge, end))


def arrow(path: Path, width: float, edge: Edge, end: Node) -> FancyArrowPatch:
    """Return the arrow of an edge, which carries the edge's name as its id."""
    return FancyArrowPatch(
        path=path, arrowstyle="-|>", mutation_scale=4 + 1.5 * width, linewidth=width, alpha=opacity(width),
        color=INPUTS[input_of(edge.receiver)], joinstyle="miter", capstyle="butt", zorder=2,
        gid=f"{edge.name}: {end.name}",
    )  # fmt: skip


def opacity(width: float) -> float:
    """Return the opacity of an arrow, lower for thinner arrows."""
    return 0.35 + 0.6 * (width - 0.5) / 1.7


def draw_nodes(axes: Axes, layout: Layout, heads: Heads | None) -> None:
    """Draw the nodes: heads as ellipses in the colour of their name, other components as boxes."""
    for node, box in layout.boxes.items():
        head = node.component == "head"
        fill = fill_of(heads.name(node.name) if heads else NONE) if head else "#E3E3E3"
        failed = heads is not None and failed_of(heads.rows.get(node.name, {}))
        corner = box.height / 2 if head else 0.03
        axes.add_patch(FancyBboxPatch(
            (box.x - box.width / 2, box.bottom), box.width, box.height, facecolor=fill, edgecolor=INK,
            linewidth=0.7, linestyle=FAILED_DASH if failed else "-",
            boxstyle=f"round,pad=0,rounding_size={corner}", zorder=3,
        ))  # fmt: skip
        label = f"{node.layer}.{node.head}" if head else node.name.replace("_", " ")
        axes.text(box.x, box.y - 0.005, label, ha="center", va="center", fontsize=6.5, zorder=4)


def write_small_print(axes: Axes, text: str) -> None:
    """Write the line below a drawing, wrapped to its width."""
    (left, right), low = axes.get_xlim(), axes.get_ylim()[0]
    text = textwrap.fill(text, int((right - left) * 20))
    axes.text(left + 0.1, low + 0.28, text, va="top", fontsize=6, color=GREY)


def add_legends(axes: Axes, strengths: dict[Edge, float], widths: str | None) -> None:
    """Add the legends of colours and, where they mean something, of widths."""
    inputs = {input_of(edge.receiver) for edge in strengths}
    present = {name: color for name, color in INPUTS.items() if name in inputs}
    lines = [Line2D([], [], color=c, linewidth=2, label=INPUT_NAMES.get(i, i)) for i, c in present.items()]
    add_legend(axes, 0.62, "edge into", lines)
    if widths is None:
        return
    low, high = strength_range(strengths.values())
    width = line_width(strengths.values())
    shown = [low, np.sqrt(low * high), high] if low < high else [high]
    lines = [Line2D([], [], color=INK, linewidth=width(s), alpha=opacity(width(s)), label=f"{s:.2g}") for s in shown]
    add_legend(axes, 0.42, widths, lines)


def names_in(layout: Layout, heads: Heads | None) -> list[str]:
    """Return the names of the heads that are drawn, in the order of their legend."""
    drawn = {heads.name(node.name) for node in layout.boxes if node.component == "head"} if heads else set()
    return [name for name in NAME_COLORS if name in drawn]


def add_names(axes: Axes, names: list[str]) -> None:
    """Add the legend of the names of heads, above the others."""
    patches = [Patch(facecolor=fill_of(name), edgecolor=INK, linewidth=0.7, label=name) for name in names]
    axes.add_artist(Legend(
        axes, patches, names, ncols=NAMES_A_LINE, loc="lower left", borderpad=0, handlelength=1.4, columnspacing=1,
        bbox_to_anchor=(axes.get_xlim()[0] + 0.1, axes.get_ylim()[0] + 0.76), bbox_transform=axes.transData,
        borderaxespad=0,
    ))  # fmt: skip


def add_legend(axes: Axes, inches: float, text: str, lines: list[Line2D]) -> None:
    """Add a legend of one line, at a height in inches above the figure's lower side."""
    left, y = axes.get_xlim()[0] + 0.1, axes.get_ylim()[0] + inches
    axes.text(left, y, text, va="center", fontsize=7)
    axes.add_artist(Legend(
        axes, lines, [str(line.get_label()) for line in lines], ncols=len(lines), loc="center left", borderpad=0,
        bbox_to_anchor=(left + 1.12, y), bbox_transform=axes.transData, borderaxespad=0, handlelength=1.4,
        columnspacing=1,
    ))  # fmt: skip
