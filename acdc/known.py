"""Read known circuits from acdc/assets/circuits/<name>.yaml, which name their sources, and list their edges.

A file has ``connections``, each ``from`` nodes or groups ``to`` nodes or groups. It may name ``groups`` of nodes and of
other groups. A connection ``to`` a head leads to its q, k and v, or to those that ``ports`` lists; ``a1.h0.q`` is one
port. Pairs whose sender does not come before the receiver are skipped. Every port that an edge enters has its direct
edge too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from acdc.assets import asset
from acdc.errors import InputError
from acdc.graph import PORTS, Circuit, Graph, Node, Port, any_along

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def from_file(name: str) -> Callable[[Graph], Circuit]:
    """Return a function that makes the known circuit of a file for a graph, for ``Task.known_circuits``."""
    return partial(load_circuit, asset("circuits", f"{name}.yaml"))


def heads_of(name: str) -> dict[str, str]:
    """Return the class of every head that a known circuit puts into a group of heads, such as a name mover."""
    stated = yaml.safe_load(asset("circuits", f"{name}.yaml").read_text(encoding="utf-8"))
    groups: dict[str, list[str]] = stated["groups"]
    heads = {title: own for title, own in groups.items() if not any(one in groups or ".h" not in one for one in own)}
    return {head: title for title, own in heads.items() for head in own}


def load_circuit(path: Path | Traversable, graph: Graph) -> Circuit:
    """Read the known circuit in a file.

    Raises:
        InputError: the graph has no such node or edge; the message names it and the file.
    """
    try:
        return expand(yaml.safe_load(path.read_text(encoding="utf-8")), graph)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path.name}: {error.args[0]}: is it the circuit of another model?") from error


def expand(stated: dict[str, Any], graph: Graph) -> Circuit:
    """Return the circuit of all edges of all connections that a file states.

    Raises:
        KeyError: the graph has no such node.
        ValueError: a connection has no edge.
    """
    circuit, groups = Circuit.empty(graph), stated.get("groups", {})
    for connection in stated["connections"]:
        senders = [graph.sender_index[joined(graph, name)] for name in members(groups, connection["from"])]
        ports = connection.get("ports", PORTS)
        receivers = [
            graph.receiver_index[node]
            for name in members(groups, connection["to"])
            for node in receivers_of(graph, name, ports)
        ]
        pairs = np.ix_(senders, receivers)
        if not graph.exists[pairs].any():
            raise ValueError(f"from {connection['from']} to {connection['to']} there is no edge")
        circuit.present[pairs] |= graph.exists[pairs]
    circuit.direct = any_along(circuit.present, 0) & graph.has_direct
    return circuit


def members(groups: dict[str, list[str]], names: str | list[str]) -> Iterator[str]:
    """Yield the names of nodes, with groups replaced by their members."""
    for name in [names] if isinstance(names, str) else names:
        yield from members(groups, groups[name]) if name in groups else [name]


def joined(graph: Graph, name: str) -> Node:
    """Return the node of that name; ``embed`` for a token or position embedding that the graph does not split."""
    is_part = name in ("tok_embed", "pos_embed")
    return graph.node("embed" if is_part and not graph.split_embed else name)


def receivers_of(graph: Graph, name: str, ports: Sequence[Port]) -> list[Node]:
    """Return the given ports of a head; any other receiver by itself."""
    node = graph.node(name)
    is_head = node.component == "head" and not node.port
    return [Node(node.layer, "head", node.head, port) for port in ports] if is_head else [node]
