"""Format circuits for a terminal: one by its nodes and edges, two by their differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acdc.analysis.stability import OVERLAPS
from acdc.catalogue import label
from acdc.found import FOUND, PRUNED, Found
from acdc.graph import Circuit, Edge, Node
from acdc.trace import Effects, key_of


def shown(found: Found, node_effects: dict[str, float], most: int) -> RenderableType:
    """Format a circuit: how it was found, its nodes layer by layer, and its nodes and edges of largest effect.

    For a method that scores edges, the edges of largest absolute score come first.

    Args:
        node_effects: the effect of each node by name; empty if they were not measured.
        most: the largest number of nodes, and of edges, that are shown.
    """
    circuit, known = found.circuit, found.importance
    column, size = ("effect", float) if found.effects else ("score", abs)
    edges = sorted(circuit.edges, key=lambda edge: -size(known.get(key_of(edge), 0.0)))
    title = f"Edges ({min(most, len(edges))} of {len(edges)})"
    by_effect = [nodes_by_effect(node_effects, most)] if node_effects else []
    parts = [layers(circuit.nodes), *by_effect, table(title, edges[:most], known, column)]
    return Group(Text(heading(found)), *parts)


def heading(found: Found) -> str:
    """Return two lines of text: how the circuit was found, and its size."""
    settings, result, circuit = found.settings, found.result, found.circuit
    where = f"{settings['task']} on {settings['model']}: {settings['method']} by {settings['metric']}"
    how = f"{where}, {label(settings['size_by'])} {found.value}, {settings['ablation']} ablation"
    reaching = found.sizes["n_edges_reaching"]
    notes = [f"edges that reach the logits: {reaching:,}"] if reaching < circuit.n_edges else []
    pruned = found.sizes[PRUNED]
    notes += [f"dead edges pruned: {pruned:,}"] if pruned else []
    notes += [result["origin"]] if result["origin"] != FOUND else []
    notes += ["not converged"] if result["converged"] is False else []
    if result["final_metric"] is not None:
        notes.append(f"{settings['metric']} {result['final_metric']:.4g} where it was found")
    return f"{how}\n{'; '.join([circuit.counts, *notes])}\n"


def layers(nodes: Iterable[Node]) -> Table:
    """Return a table of nodes with a row for every layer."""
    grid = Table("layer", "nodes", title="Nodes", title_justify="left")
    ordered = sorted(nodes, key=lambda node: (node.layer, node.component == "mlp", node.head or 0))
    for layer, group in groupby(ordered, key=lambda node: node.layer):
        members = list(group)
        is_layer = members[0].component in ("head", "mlp")
        grid.add_row(str(layer) if is_layer else "", " ".join(node.name for node in members))
    return grid


def nodes_by_effect(effects: dict[str, float], most: int) -> Table:
    """Return a table with a row per node: by how much the circuit's metric rises without the node's outgoing edges."""
    title = f"Nodes by effect ({min(most, len(effects))} of {len(effects)})"
    grid = Table("node", title=title, title_justify="left", min_width=len(title))
    grid.add_column("effect", justify="right")
    for name in sorted(effects, key=lambda name: -abs(effects[name]))[:most]:
        grid.add_row(name, f"{effects[name]:.4g}")
    return grid


def table(title: str, edges: Iterable[Edge], effects: Effects, column: str = "effect") -> Table:
    """Return a table with a row per edge, and its effect or its score.

    Args:
        column: the name of the column: whether ``effects`` are effects or scores.
    """
    grid = Table("sender", "receiver", "kind", title=title, title_justify="left")
    if effects:
        grid.add_column(column, justify="right")
    for edge in edges:
        effect = [f"{effects[key_of(edge)]:.4g}" if key_of(edge) in effects else ""] if effects else []
        grid.add_row(edge.sender.name, edge.receiver.name, edge.kind, *effect)
    return grid


def compared(first: Circuit, second: Circuit, most: int) -> RenderableType:
    """Format two circuits of one graph: their sizes and overlap, and the edges that only one of them has.

    Args:
        most: the largest number of edges that are shown of each circuit.
    """
    sizes = [f"{circuit.n_edges:,} edges and {len(circuit.nodes)} nodes" for circuit in (first, second)]
    overlaps = [f"{overlap(first, second):.3f} of the {level}s" for level, overlap in OVERLAPS.items()]
    text = f"first: {sizes[0]}; second: {sizes[1]}\nin both, of those in either (Jaccard): {', '.join(overlaps)}\n"
    return Group(Text(text), *only("first", first, second, most), *only("second", second, first, most))


def only(name: str, circuit: Circuit, other: Circuit, most: int) -> Iterator[Table]:
    """Yield a table of the edges that the other circuit lacks, if there are any."""
    others = set(other.edges)
    alone = [edge for edge in circuit.edges if edge not in others]
    if alone:
        yield table(f"Only in the {name} ({min(most, len(alone))} of {len(alone)})", alone[:most], {})
