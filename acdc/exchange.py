"""Write circuits to the files of other tools, and read them.

* ``original`` (.pth): the dictionary of every edge that ArthurConmy/Automatic-Circuit-Discovery saves
  (TLACDCExperiment.save_subgraph). The list of kept edges that it pickled before (save_edges) can be read.
* ``eap_json`` (.json): hannamw/EAP-IG's Graph.to_json, which MIB's circuit track takes.
* ``graphml``: a networkx graph, for networkx, Gephi and Cytoscape.

No code in a file is run: torch loads weights only, and the pickle of edges may name no class but the original's index,
which a class of ours stands in for.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch

from acdc.errors import InputError, first_line
from acdc.graph import PORTS, Circuit, Edge, Graph, Node, any_along
from acdc.trace import Effects, key_of

Key = tuple[str, tuple, str, tuple]
"""The receiver's hook point and index, then the sender's, as the original has them."""
Read = tuple[Circuit, Effects]


class Format(NamedTuple):
    """Write and read circuits in one format.

    Attributes:
        write: takes a circuit, its effects, the file, and the width of the model (d_model), which few formats need.
        read: takes the file, and the model's graph where the format does not tell it.
    """

    write: Callable[[Circuit, Effects, Path, int | None], None]
    read: Callable[[Path, Graph | None], Read]


# The original.


def write_original(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write every edge of the graph, present or not, as the original's load_subgraph demands it. Effects are left out.

    Raises:
        InputError: the graph has shared key/value heads or parallel blocks, which the original does not have.
    """
    torch.save(subgraph(circuit), path)


def subgraph(circuit: Circuit) -> OrderedDict[Key, bool]:
    """Return the dictionary that ``write_original`` saves."""
    graph = circuit.graph
    if graph.n_kv_heads != graph.n_heads or graph.parallel:
        what = "parallel blocks" if graph.parallel else "key/value heads shared by query heads"
        raise InputError(f"the original implementation has no {what}: export this circuit as graphml")
    present = {original_key(edge) for edge in circuit.edges}
    counted = ((original_key(edge), original_key(edge) in present) for edge in Circuit.full(graph).edges)
    return OrderedDict([*counted, *((key, True) for key in placeholders(graph))])


def original_key(edge: Edge) -> Key:
    """Return the key of an edge in the original's files."""
    return *edge.receiver_hook, *edge.sender_hook


def placeholders(graph: Graph) -> Iterator[Key]:
    """Yield the edges that the original always keeps and never counts: from q, k and v to their head, into an MLP."""
    for node in graph.senders:
        if node.component == "head":
            ports = (Node(node.layer, "head", node.head, port) for port in PORTS)
            yield from ((node.sender_hook, node.index, port.projection_hook, node.index) for port in ports)
        elif node.component == "mlp":
            yield node.sender_hook, node.index, node.receiver_hook, node.index


def read_original(path: Path, graph: Graph | None = None) -> Read:
    """Read a dictionary of all edges or, where a graph is given, a pickled list of the edges that were kept.

    Raises:
        InputError: the file is neither, names an edge that the graph does not have, or asks for code to be run.
    """
    if zipfile.is_zipfile(path):
        present = load_subgraph(path)
        return chosen(graph_of(present, path), [key for key, is_present in present.items() if is_present], path), {}
    listed = load_edge_list(path)
    if graph is None:
        raise InputError(f"{path} lists kept edges only, which do not tell the model's size: give a circuit of it too")
    circuit = chosen(graph, listed, path)
    edges = {original_key(edge): edge for edge in circuit.edges}
    known = ((edges[key], effect) for key, effect in listed.items() if key in edges)
    return circuit, {key_of(edge): effect for edge, effect in known if effect is not None}


def load_subgraph(path: Path) -> dict[Key, bool]:
    """Read the original's dictionary: which edges are present.

    Raises:
        InputError: the file holds something else.
    """
    try:
        loaded = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise InputError(f"{path} does not load as plain data: {first_line(error)}") from error
    if not isinstance(loaded, dict) or not all(isinstance(key, tuple) and len(key) == 4 for key in loaded):
        raise InputError(f"{path} is no dictionary of edges as the original implementation saves it")
    return loaded


def graph_of(keys: Iterable[Key], path: Path) -> Graph:
    """Return the graph whose edges these are.

    Raises:
        InputError: these are not all edges of a graph.
    """
    hooks = {(hook, index) for receiver, i, sender, j in keys for hook, index in ((receiver, i), (sender, j))}
    names = {hook for hook, _ in hooks}
    layers = [int(found[1]) for name in names if (found := re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", name))]
    heads = [index[-1] for _, index in hooks if len(index) == 3]
    if len(layers) != 1 or not heads:
        raise InputError(f"{path} has no edges into the last residual stream, or no heads: it is no whole graph")
    has_mlp = any(name.endswith("hook_mlp_in") for name in names)
    return Graph(layers[0] + 1, max(heads) + 1, max(heads) + 1, has_mlp, split_embed="hook_embed" in names)


def chosen(graph: Graph, keys: Iterable[Key], path: Path) -> Circuit:
    """Return the circuit of these edges. Placeholders are passed over.

    Raises:
        InputError: the graph has no such edge.
    """
    edges = {original_key(edge): edge for edge in Circuit.full(graph).edges}
    kept, passed = [], set(placeholders(graph))
    for key in keys:
        if key in edges:
            kept.append(edges[key])
        elif key not in passed:
            raise InputError(
                f"{path} has an edge from {key[2]} {key[3]} to {key[0]} {key[1]}, which this graph has not"
            )
    return Circuit.from_edges(graph, kept)


class TorchIndex:
    """Stand in for the original's class of that name, whose state has the index as ``hashable_tuple``."""

    hashable_tuple: tuple[int | None, ...]


class EdgeListUnpickler(pickle.Unpickler):
    """Load tuples, strings, numbers and ``TorchIndex``. Any other name is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class for a name. Raises UnpicklingError where the name is not allowed."""
        if name == "TorchIndex":
            return TorchIndex
        if (module, name) == ("builtins", "slice"):
            return slice
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def load_edge_list(path: Path) -> dict[Key, float | None]:
    """Read the original's list: the effects of the kept edges.

    Raises:
        InputError: the file holds something else.
    """
    try:
        with path.open("rb") as file:
            listed = EdgeListUnpickler(file).load()
        return {(r, plain(i), s, plain(j)): effect for (r, i, s, j), effect in listed}
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no list of edges as the original implementation pickled it: {error}") from error


def plain(index: Any) -> tuple:
    """Return an index as a tuple."""
    return tuple(index.hashable_tuple if isinstance(index, TorchIndex) else index)


# EAP-IG and MIB.


def write_eap_json(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write every node and edge with ``in_graph``, and an edge's effect as ``score`` (0 where there is none).

    The format has no direct edges. A port whose direct edge is cut carries the ablated run's value whatever enters it,
    so edges into it are left out. The format has an input for every query head, so an edge into a shared key or value
    becomes one for each head of the group. Attention-only models have no MLP nodes.

    Raises:
        InputError: ``d_model`` is not given, or token and position embeddings are two senders.
    """
    if d_model is None:
        raise InputError("this format wants the width of the model's residual stream: give --d-model")
    if circuit.graph.split_embed:
        raise InputError("this format has one input node, and this circuit's token and position embeddings are two")
    path.write_text(json.dumps(eap_json(circuit.reaching_logits(), effects, d_model)) + "\n", encoding="utf-8")


def eap_json(circuit: Circuit, effects: Effects, d_model: int) -> dict[str, Any]:
    """Return what ``write_eap_json`` writes."""
    graph = circuit.graph
    sizes = {"n_layers": graph.n_layers, "n_heads": graph.n_heads, "n_kv_heads": graph.n_kv_heads}
    sends = any_along(circuit.present, 1)
    nodes = {eap_json_name(node): {"in_graph": bool(s)} for node, s in zip(graph.senders, sends, strict=True)}
    edges = {}
    for s, r in np.argwhere(graph.exists):
        edge = Edge(graph.senders[s], graph.receivers[r])
        for name in eap_json_edges(graph, edge):
            edges[name] = {"score": float(effects.get(key_of(edge), 0.0)), "in_graph": bool(circuit.present[s, r])}
    cfg = {**sizes, "parallel_attn_mlp": graph.parallel, "d_model": d_model}
    return {"cfg": cfg, "nodes": nodes | {"logits": {"in_graph": True}}, "edges": edges}


def eap_json_name(node: Node) -> str:
    """Return the format's name of a node."""
    return "input" if node.component == "embed" else node.name


def eap_json_edges(graph: Graph, edge: Edge) -> list[str]:
    """Return the format's names of an edge, one for each head that reads it."""
    sender, receiver = eap_json_name(edge.sender), edge.receiver
    if not receiver.port:
        return [f"{sender}->{receiver.name}"]
    return [f"{sender}->{head.name}<{receiver.port}>" for head in graph.heads_reading(receiver)]


def read_eap_json(path: Path, graph: Graph | None = None) -> Read:
    """Read a circuit. An edge into a shared key or value is present where it is for some head of the group.

    Every port that an edge enters has its direct edge. Scores become effects.

    Raises:
        InputError: the file has another form, is of neurons, or has an edge that its graph does not have.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cfg, nodes, edges = data["cfg"], data["nodes"], data["edges"]
        kept = {name: float(edge["score"]) for name, edge in edges.items() if edge["in_graph"]}
        sizes = cfg["n_layers"], cfg["n_heads"], cfg.get("n_kv_heads", cfg["n_heads"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no circuit as EAP-IG writes it (cfg, nodes, edges with in_graph): {error}"
        ) from error
    if any("neurons" in node for node in nodes.values()):
        raise InputError(f"{path} is a circuit of neurons: circuits here are of edges between components")
    graph = Graph(*sizes, has_mlp="m0" in nodes, parallel=bool(cfg.get("parallel_attn_mlp", False)))
    circuit = Circuit.empty(graph)
    effects: Effects = {}
    by_name = {name: edge for edge in Circuit.full(graph).edges if edge.kind == "addition"
               for name in eap_json_edges(graph, edge)}  # fmt: skip
    for name, score in kept.items():
        if name not in by_name:
            raise InputError(f"{path} has an edge {name}, which a graph of its cfg has not")
        edge = by_name[name]
        circuit.present[graph.sender_index[edge.sender], graph.receiver_index[edge.receiver]] = True
        effects[key_of(edge)] = max(score, effects.get(key_of(edge), score), key=abs)
    circuit.direct = any_along(circuit.present, 0) & graph.has_direct
    return circuit, effects


# networkx.


def to_networkx(circuit: Circuit, effects: Effects) -> nx.DiGraph:
    """Return a networkx graph whose nodes are components and ports.

    An addition edge leads from a component to a port, an MLP or the logits. A port's direct edge, while it is present,
    leads from the port to every head that reads it. So a path from an embedding to the logits is a way through the
    circuit. Edges have ``kind`` and, where it is known, ``effect``. Nodes have ``layer``, ``component`` and
    TransformerLens's ``hook``. The graph has the shape of the model.
    """
    found = nx.DiGraph(**circuit.graph.to_json())
    for edge in circuit.edges:
        labels = {"kind": edge.kind} | ({"effect": effects[key_of(edge)]} if key_of(edge) in effects else {})
        if edge.kind == "addition":
            pairs = [(edge.sender, edge.receiver)]
        else:
            pairs = [(edge.receiver, head) for head in circuit.graph.heads_reading(edge.receiver)]
        for pair in pairs:
            for node in pair:
                hook = node.receiver_hook if node.port or node.component == "logits" else node.sender_hook
                found.add_node(node.name, layer=node.layer, component=node.component, hook=hook)
            found.add_edge(*(node.name for node in pair), **labels)
    return found


def from_networkx(found: nx.DiGraph) -> Read:
    """Return the circuit and the effects that ``to_networkx`` made a graph of.

    Raises:
        KeyError, TypeError, ValueError: it is no such graph.
    """
    graph = Graph(**found.graph)
    edges: list[Edge] = []
    effects: Effects = {}
    for start, end, labels in found.edges(data=True):
        first = graph.node(start)
        is_direct = labels["kind"] == "direct"
        edge = Edge(first, first, "direct") if is_direct else Edge(first, graph.node(end))
        edges.append(edge)
        if "effect" in labels:
            effects[key_of(edge)] = labels["effect"]
    return Circuit.from_edges(graph, edges), effects


def write_graphml(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write the graph of ``to_networkx``."""
    nx.write_graphml(to_networkx(circuit, effects), path)


def read_graphml(path: Path, graph: Graph | None = None) -> Read:
    """Read the circuit that ``write_graphml`` wrote.

    Raises:
        InputError: the file holds something else.
    """
    try:
        read = nx.read_graphml(path)
        read.graph = {key: value for key, value in read.graph.items() if key not in ("node_default", "edge_default")}
        return from_networkx(read)
    except (nx.NetworkXError, SyntaxError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no circuit as acdc writes it in GraphML: {error}") from error


ORIGINAL = Format(write_original, read_original)
EAP_JSON = Format(write_eap_json, read_eap_json)
GRAPHML = Format(write_graphml, read_graphml)
