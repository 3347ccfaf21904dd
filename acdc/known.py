"""Known circuits as people state them: data/circuits/<name>.yaml, with its source, expanded to edges.

A file has ``connections``, each ``from`` nodes or groups ``to`` nodes or groups, and may name ``groups`` of nodes.
``to`` a head is to its q, k and v, or to those that ``ports`` lists; ``a1.h0.q`` is one port. Every port that an edge
enters has its direct edge too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from acdc.errors import InputError
from acdc.graph import PORTS, Circuit, Edge, Graph, Node

CIRCUITS = Path(__file__).parents[1] / "data" / "circuits"


def from_file(name: str) -> Callable[[Graph], Circuit]:
    """What ``Task.known_circuits`` wants, for data/circuits/<name>.yaml."""
    return partial(load_circuit, CIRCUITS / f"{name}.yaml")


def load_circuit(path: Path, graph: Graph) -> Circuit:
    """The circuit that a file states.

    Raises:
        InputError: a node or an edge is none of the graph's; the message names it and the file.
    """
    try:
        return expand(yaml.safe_load(path.read_text(encoding="utf-8")), graph)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path.name}: {error.args[0]}: is it the circuit of another model?") from error


def expand(stated: dict[str, Any], graph: Graph) -> Circuit:
    """Every edge of every connection. Raises KeyError or ValueError for what the graph does not have."""
    groups = stated.get("groups", {})
    edges = []
    for connection in stated["connections"]:
        senders = [joined(graph, name) for name in members(groups, connection["from"])]
        for name in members(groups, connection["to"]):
            receivers = receivers_of(graph, name, connection.get("ports", PORTS))
            edges += [Edge(sender, receiver) for sender in senders for receiver in receivers]
    ports = dict.fromkeys(edge.receiver for edge in edges if edge.receiver.port)
    return Circuit.from_edges(graph, [*edges, *(Edge(port, port, "direct") for port in ports)])


def members(groups: dict[str, list[str]], names: str | list[str]) -> Iterator[str]:
    """Names of nodes, groups replaced by theirs."""
    for name in [names] if isinstance(names, str) else names:
        yield from groups.get(name, [name])


def joined(graph: Graph, name: str) -> Node:
    """A node; the joint embedding for a part of it where the graph does not tell them apart."""
    is_part = name in ("tok_embed", "pos_embed")
    return graph.node("embed" if is_part and not graph.split_embed else name)


def receivers_of(graph: Graph, name: str, ports: tuple[str, ...]) -> list[Node]:
    """The ports of a head; a port, an MLP or the logits themselves."""
    node = graph.node(name)
    is_head = node.component == "head" and not node.port
    return [Node(node.layer, "head", node.head, port) for port in ports] if is_head else [node]
