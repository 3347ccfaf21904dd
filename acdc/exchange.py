"""Write circuits to files of other tools, and read them back.

* ``original`` (.pth): the dictionary of every edge that ArthurConmy/Automatic-Circuit-Discovery saves
  (TLACDCExperiment.save_subgraph). The list of kept edges that it pickled before (save_edges) can be read.
* ``eap_json`` (.json) and ``eap_pt`` (.pt): Graph.to_json and Graph.to_pt of hannamw/EAP-IG (src/eap/graph.py at
  795f5607), which MIB's circuit track reads (hannamw/MIB-circuit-track at b759df34, run_evaluation.py).
* ``graphml``: a networkx graph, for networkx, Gephi and Cytoscape.

No code in a file is run. Torch loads weights only. The pickle of edges may name only the original's class of indices,
which a class of ours replaces.
"""

from __future__ import annotations

import json
import math
import operator
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from acdc.errors import InputError, reading
from acdc.files import whole, write_text
from acdc.graph import PORTS, Circuit, Edge, Graph, Node, any_along
from acdc.tensor_files import load_torch, save_torch
from acdc.trace import Effects, key_of

Key = tuple[str, tuple, str, tuple]
"""The receiver's hook point and index, then the sender's, as the original has them."""
Read = tuple[Circuit, Effects]
AGAIN = "export it again"


class Format(NamedTuple):
    """Hold the functions that write and read circuits in one format.

    Attributes:
        write: the function that writes a circuit, its effects and, where the format has it, d_model to a file.
        read: the function that reads a file, given the model's graph where the format does not tell it.
    """

    write: Callable[[Circuit, Effects, Path, int | None], None]
    read: Callable[[Path, Graph | None], Read]


# The original.


def write_original(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write a circuit as the original's dictionary of all edges, present or not. Effects are left out.

    Raises:
        InputError: the graph has shared key/value heads or parallel blocks, which the original does not have.
    """
    save_torch(subgraph(circuit), path)


def subgraph(circuit: Circuit) -> OrderedDict[Key, bool]:
    """Return the original's dictionary of edges, which ``write_original`` saves."""
    graph = circuit.graph
    if graph.n_kv_heads != graph.n_heads or graph.parallel:
        what = "parallel blocks" if graph.parallel else "key/value heads shared by query heads"
        raise InputError(f"the original implementation has no {what}: export this circuit as graphml")
    present = {original_key(edge) for edge in circuit.edges}
    counted = ((original_key(edge), original_key(edge) in present) for edge in Circuit.full(graph).edges)
    return OrderedDict([*counted, *((key, True) for key in placeholders(graph))])


def original_key(edge: Edge) -> Key:
    """Return the key of an edge in the original's files: hook point and index of the receiver, then of the sender."""
    return *edge.receiver_hook, *edge.sender_hook


def placeholders(graph: Graph) -> Iterator[Key]:
    """Yield the original's placeholder edges, which are always present and never counted."""
    for node in graph.senders:
        if node.component == "head":
            ports = (Node(node.layer, "head", node.head, port) for port in PORTS)
            yield from ((node.sender_hook, node.index, port.projection_hook, node.index) for port in ports)
        elif node.component == "mlp":
            yield node.sender_hook, node.index, node.receiver_hook, node.index


def read_original(path: Path, graph: Graph | None = None) -> Read:
    """Read the original's dictionary of all edges or, where a graph is given, its pickled list of kept edges.

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
    """Read the original's dictionary, which says of each edge whether it is present.

    Raises:
        InputError: the file holds something else.
    """
    is_no = "dictionary of edges as the original implementation saves it"
    loaded = load_torch(path, AGAIN, is_no)
    with reading(path, AGAIN, is_no):
        for (receiver, i, sender, j), present in loaded.items():
            hash((receiver, i, sender, j))
            truth(present)
    return loaded


def graph_of(keys: Iterable[Key], path: Path) -> Graph:
    """Return the graph that has these edges.

    Raises:
        InputError: these are not all edges of a graph.
    """
    with reading(path, AGAIN, "dictionary of edges as the original implementation saves it"):
        hooks = {(hook, index) for receiver, i, sender, j in keys for hook, index in ((receiver, i), (sender, j))}
        names = {hook for hook, _ in hooks}
        layers = [int(found[1]) for name in names if (found := re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", name))]
        heads = [operator.index(index[-1]) for _, index in hooks if len(index) == 3]
    if len(layers) != 1 or not heads:
        raise InputError(f"{path} has no edges into the last residual stream, or no heads: it is no whole graph")
    has_mlp = any(name.endswith("hook_mlp_in") for name in names)
    n_heads = max(heads) + 1
    shape = {"n_layers": layers[0] + 1, "n_heads": n_heads, "n_kv_heads": n_heads, "has_mlp": has_mlp}
    try:
        return Graph.from_json(shape | {"split_embed": "hook_embed" in names})
    except ValueError as error:
        raise InputError(f"{path} is of no model: {error}") from error


def chosen(graph: Graph, keys: Iterable[Key], path: Path) -> Circuit:
    """Return the circuit of the edges with these keys, without placeholders.

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
    """Replace the original's class of that name in a pickle: its state has the index as ``hashable_tuple``."""

    hashable_tuple: tuple[int | None, ...]


class EdgeListUnpickler(pickle.Unpickler):
    """Load a pickle of tuples, strings, numbers and ``TorchIndex``; refuse any other class before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class that a pickle names; raise UnpicklingError if it is not allowed."""
        if name == "TorchIndex":
            return TorchIndex
        if (module, name) == ("builtins", "slice"):
            return slice
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def load_edge_list(path: Path) -> dict[Key, float | None]:
    """Read the original's pickled list of kept edges, with their effects.

    Raises:
        InputError: the file holds something else.
    """
    with reading(path, AGAIN, "list of edges as the original implementation pickled it"), path.open("rb") as file:
        listed = EdgeListUnpickler(file).load()
        known = {(r, plain(i), s, plain(j)): effect for (r, i, s, j), effect in listed}
        return {key: effect if effect is None else finite(effect) for key, effect in known.items()}


def plain(index: Any) -> tuple:
    """Return an index of the original as a tuple."""
    return tuple(index.hashable_tuple if isinstance(index, TorchIndex) else index)


# EAP-IG and MIB.


class Layout(NamedTuple):
    """Map a graph's edges to EAP-IG's matrices, which have an input per query head and an MLP per layer.

    Attributes:
        ours: our graph.
        whole: the graph of EAP-IG's matrices: its senders are their rows, its receivers their columns.
        rows: the row of each of our senders.
        columns: the columns that belong to one of our receivers.
        receivers: the index of that receiver, for each of ``columns``.
    """

    ours: Graph
    whole: Graph
    rows: Int[np.ndarray, "sender"]
    columns: Int[np.ndarray, "column"]
    receivers: Int[np.ndarray, "column"]

    @classmethod
    def of(cls, graph: Graph) -> Layout:
        """Return the layout of a graph; raise InputError if token and position embeddings are two senders."""
        if graph.split_embed:
            raise InputError("this format has one input node, and this circuit's token and position embeddings are two")
        whole = Graph(graph.n_layers, graph.n_heads, graph.n_heads, parallel=graph.parallel)
        group = graph.n_heads // graph.n_kv_heads
        pairs = []
        for column, node in enumerate(whole.receivers):
            read = replace(node, head=node.head_index // group) if node.port in ("k", "v") else node
            if read in graph.receiver_index:  # attention-only models have no MLP
                pairs.append((column, graph.receiver_index[read]))
        columns, receivers = np.array(pairs).T
        return cls(graph, whole, np.array([whole.sender_index[node] for node in graph.senders]), columns, receivers)

    def spread(self, ours: Shaped[np.ndarray, "sender receiver"]) -> Shaped[np.ndarray, "row column"]:
        """Return values of our edges in EAP-IG's matrix; those of a shared key or value repeat for each query head."""
        theirs = np.zeros(self.whole.exists.shape, ours.dtype)
        theirs[np.ix_(self.rows, self.columns)] = ours[:, self.receivers]
        return theirs

    def gathered(self, theirs: Shaped[np.ndarray, "row column"]) -> Shaped[np.ndarray, "sender receiver"]:
        """Return EAP-IG's values at our edges: the sum, or any, over query heads that share a key or value."""
        ours = np.zeros(self.ours.exists.shape, theirs.dtype)
        np.add.at(ours.T, self.receivers, theirs[np.ix_(self.rows, self.columns)].T)
        return np.where(self.ours.exists, ours, 0).astype(theirs.dtype)

    @property
    def heads(self) -> Int[np.ndarray, "receiver"]:
        """Return the number of columns that each receiver of our graph has."""
        return np.bincount(self.receivers)

    @property
    def sources(self) -> list[str]:
        """Return EAP-IG's names of the matrix's rows."""
        return ["input" if node.component == "embed" else node.name for node in self.whole.senders]

    @property
    def targets(self) -> list[str]:
        """Return EAP-IG's names of the matrix's columns."""
        return [f"{node.owner.name}<{node.port}>" if node.port else node.name for node in self.whole.receivers]

    def places(self) -> dict[str, tuple[int, int]]:
        """Return the row and column of every edge, by EAP-IG's name of the edge."""
        sources, targets = self.sources, self.targets
        return {f"{sources[s]}->{targets[r]}": (s, r) for s, r in np.argwhere(self.spread(self.ours.exists)).tolist()}


class EapCircuit(NamedTuple):
    """Hold a circuit as EAP-IG's Graph does.

    Attributes:
        layout: the layout of the matrices.
        in_graph: which edges are in the circuit.
        scores: the scores of all edges, 0 where none is known.
    """

    layout: Layout
    in_graph: Bool[np.ndarray, "row column"]
    scores: Float[np.ndarray, "row column"]

    @classmethod
    def of(cls, circuit: Circuit, effects: Effects) -> EapCircuit:
        """Convert a circuit of ours; see ``write_eap_json`` for what is lost and raised."""
        layout = Layout.of(circuit.graph)
        scores = layout.spread(matrix_of(circuit.graph, effects) / layout.heads)
        return cls(layout, layout.spread(circuit.reaching_logits().present), scores)

    @property
    def nodes(self) -> Bool[np.ndarray, "row"]:
        """Return which senders are in the circuit: Bool[row]."""
        return any_along(self.in_graph, 1)

    def cfg(self, d_model: int | None) -> dict[str, Any]:
        """Return the sizes of the model. EAP-IG ignores ``n_kv_heads`` and ``attn_only``, which we add.

        Raises:
            InputError: there is no ``d_model``.
        """
        if d_model is None:
            raise InputError("this format wants the width of the model's residual stream: give --d-model")
        graph = self.layout.ours
        sizes = {"n_layers": graph.n_layers, "n_heads": graph.n_heads, "n_kv_heads": graph.n_kv_heads}
        return sizes | {"parallel_attn_mlp": graph.parallel, "attn_only": not graph.has_mlp, "d_model": d_model}

    def read(self) -> Read:
        """Convert to a circuit of ours, with the scores of all edges unless all of them are 0."""
        graph = self.layout.ours
        present, scores = self.layout.gathered(self.in_graph), self.layout.gathered(self.scores)
        circuit = Circuit(graph, present, any_along(present, 0) & graph.has_direct)
        if not scores.any():
            return circuit, {}
        edges = (Edge(graph.senders[s], graph.receivers[r]) for s, r in np.argwhere(graph.exists))
        return circuit, {key_of(edge): float(score) for edge, score in zip(edges, scores[graph.exists], strict=True)}


def matrix_of(graph: Graph, effects: Effects) -> Float[np.ndarray, "sender receiver"]:
    """Return the effects of addition edges as a matrix, 0 where an edge has none."""
    matrix = np.zeros(graph.exists.shape)
    for (receiver, sender, kind), effect in effects.items():
        if kind == "addition":
            matrix[graph.sender_index[graph.node(sender)], graph.receiver_index[graph.node(receiver)]] = effect
    return matrix


def graph_of_cfg(cfg: Mapping[str, Any], names: Container[str], given: Graph | None, path: Path) -> Graph:
    """Return the graph of the model that an EAP-IG file describes.

    Args:
        names: the names of the file's senders.
        given: the model's graph, which tells which heads share keys and values, as the file may not.

    Raises:
        InputError: the given graph has other layers or heads.
        KeyError: a size is missing.
    """
    n_layers, n_heads = operator.index(cfg["n_layers"]), operator.index(cfg["n_heads"])
    has_mlp, parallel = not cfg.get("attn_only", "m0" not in names), bool(cfg.get("parallel_attn_mlp", False))
    if given is None:
        shape = {"n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": operator.index(cfg.get("n_kv_heads", n_heads))}
        return Graph.from_json(shape | {"has_mlp": has_mlp, "parallel": parallel})
    if (given.n_layers, given.n_heads, given.parallel) != (n_layers, n_heads, parallel):
        raise InputError(
            f"{path} is of {n_layers} layers and {n_heads} heads, and the circuit that was given of another model"
        )
    return given


def write_eap_json(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write a circuit as EAP-IG's JSON, with the effect of every edge as its ``score`` (0 where it has none).

    Every node and edge has ``in_graph``. The format has no direct edges. A port whose direct edge is removed carries
    the ablated run's value whatever its inputs, so edges into it are left out, as are edges that do not lead on to the
    logits. The format has an input for every query head, and EAP-IG scores each; these scores add up to the score of
    the shared key or value. So an edge into a shared key or value becomes an edge for each head of the group, with an
    equal share of its score. Attention-only models have no MLP nodes. A score is positive where removing the edge makes
    the metric worse, as in EAP-IG. On a
    small Llama with two keys for four heads, EAP's scores by that code and by ours are equal but for rounding.

    Raises:
        InputError: ``d_model`` is not given, or token and position embeddings are two senders.
    """
    write_text(json.dumps(eap_json(circuit, effects, d_model)) + "\n", path)


def eap_json(circuit: Circuit, effects: Effects, d_model: int | None) -> dict[str, Any]:
    """Return the JSON object that ``write_eap_json`` writes."""
    eap = EapCircuit.of(circuit, effects)
    sources, in_nodes = eap.layout.sources, eap.nodes
    nodes = {sources[row]: {"in_graph": bool(in_nodes[row])} for row in eap.layout.rows}
    edges = {
        name: {"score": float(eap.scores[place]), "in_graph": bool(eap.in_graph[place])}
        for name, place in eap.layout.places().items()
    }
    return {"cfg": eap.cfg(d_model), "nodes": nodes | {"logits": {"in_graph": True}}, "edges": edges}


def read_eap_json(path: Path, graph: Graph | None = None) -> Read:
    """Read a circuit and the scores of its edges from EAP-IG's JSON; scores of nodes are ignored.

    An edge into a shared key or value is present where it is for some head of the group, and has the sum of their
    scores. Every port that an edge enters has its direct edge.

    Args:
        graph: the model's, see ``graph_of_cfg``.

    Raises:
        InputError: the file has another form, is of neurons or of another model than the graph, or has an edge that its
            graph does not have.
    """
    with reading(path, AGAIN, "circuit as EAP-IG writes it (cfg, nodes, edges with in_graph)"):
        data = json.loads(path.read_text(encoding="utf-8"))
        cfg, nodes = data["cfg"], data["nodes"]
        edges = {name: (truth(edge["in_graph"]), finite(edge.get("score", 0))) for name, edge in data["edges"].items()}
        graph = graph_of_cfg(cfg, nodes, graph, path)
        of_neurons = any("neurons" in node for node in nodes.values())
    if of_neurons:
        raise InputError(f"{path} {OF_NEURONS}")
    return eap_of_edges(edges, graph, path).read()


def truth(value: Any) -> bool:
    """Return a boolean unchanged; raise TypeError for any other value, such as the text "false"."""
    if not isinstance(value, bool):
        raise TypeError(f"in_graph is true or false, not {value!r}")
    return value


def finite(value: Any) -> float:
    """Return a finite number as a float; raise TypeError or ValueError for anything else."""
    if isinstance(value, (str, bool)) or not math.isfinite(value):
        raise ValueError(f"a score or effect is {value!r}, which is no number")
    return float(value)


OF_NEURONS = "is a circuit of neurons: circuits here are of edges between components"


def eap_of_edges(edges: Mapping[str, tuple[bool, float]], graph: Graph, path: Path) -> EapCircuit:
    """Return the circuit of the named edges; raise InputError if the graph lacks one that is present."""
    layout = Layout.of(graph)
    places, shape = layout.places(), layout.whole.exists.shape
    in_graph, scores = np.zeros(shape, dtype=bool), np.zeros(shape)
    for name, (is_present, score) in edges.items():
        if name in places:
            in_graph[places[name]], scores[places[name]] = is_present, score
        elif is_present:
            raise InputError(f"{path} has an edge {name}, which a graph of its cfg has not")
    return EapCircuit(layout, in_graph, scores)


def write_eap_pt(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write a circuit as EAP-IG's matrices, in the layout of its Graph.to_pt.

    Rows are the input, then each layer's heads and its MLP; columns are each layer's queries, keys and values of all
    heads and its MLP, then the logits. Of an attention-only model, rows and columns of MLPs are empty.

    Raises:
        InputError: as ``write_eap_json``.
    """
    save_torch(eap_pt(circuit, effects, d_model), path)


def eap_pt(circuit: Circuit, effects: Effects, d_model: int | None) -> dict[str, Any]:
    """Return the dictionary that ``write_eap_pt`` saves."""
    eap = EapCircuit.of(circuit, effects)
    return {
        "cfg": eap.cfg(d_model),
        "src_nodes": eap.layout.sources,
        "dst_nodes": eap.layout.targets,
        "edges_scores": torch.tensor(eap.scores, dtype=torch.float32),
        "edges_in_graph": torch.tensor(eap.in_graph),
        "nodes_in_graph": torch.tensor(eap.nodes),
    }


def read_eap_pt(path: Path, graph: Graph | None = None) -> Read:
    """Read a circuit and the scores of its edges from EAP-IG's matrices, see ``read_eap_json``.

    Entries where the graph has no edge are ignored: EAP-IG's own selection of nodes fills whole rows.

    Args:
        graph: the model's, see ``graph_of_cfg``.

    Raises:
        InputError: the file has another form, is of neurons, or of another model than the graph.
    """
    is_no = "circuit as EAP-IG saves it (cfg, edges_scores)"
    data = load_torch(path, AGAIN, is_no)
    with reading(path, AGAIN, is_no):
        cfg, names = data["cfg"], data["src_nodes"]
        in_graph, scores = data["edges_in_graph"].bool().numpy(), data["edges_scores"].double().numpy()
        finite(scores.sum())
        graph = graph_of_cfg(cfg, names, graph, path)
    if "neurons_in_graph" in data:
        raise InputError(f"{path} {OF_NEURONS}")
    layout = Layout.of(graph)
    if not in_graph.shape == scores.shape == layout.whole.exists.shape:
        raise InputError(f"{path} has matrices of {in_graph.shape}, and its cfg says {layout.whole.exists.shape}")
    return EapCircuit(layout, in_graph, scores).read()


# networkx.


def to_networkx(circuit: Circuit, effects: Effects) -> nx.DiGraph:
    """Return a networkx graph whose nodes are the components and ports of a circuit.

    An addition edge leads from a component to a port, an MLP or the logits. A port's direct edge, while it is present,
    leads from the port to every head that reads it. So a path from an embedding to the logits in this graph is a path
    in the circuit. Edges have ``kind`` and, where it is known, ``effect`` (of a method that scores, the score). Nodes
    have ``layer``, ``component`` and TransformerLens's ``hook``. The attributes of the graph are the model's sizes.
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
    """Return the circuit and the effects in a graph that ``to_networkx`` made.

    Raises:
        KeyError, TypeError, ValueError: ``to_networkx`` did not make the graph.
    """
    graph = Graph.from_json(found.graph)
    edges: list[Edge] = []
    effects: Effects = {}
    for start, end, labels in found.edges(data=True):
        first = graph.node(start)
        is_direct = labels["kind"] == "direct"
        edge = Edge(first, first, "direct") if is_direct else Edge(first, graph.node(end))
        edges.append(edge)
        if "effect" in labels:
            effects[key_of(edge)] = finite(labels["effect"])
    return Circuit.from_edges(graph, edges), effects


def write_graphml(circuit: Circuit, effects: Effects, path: Path, d_model: int | None = None) -> None:
    """Write a circuit as the GraphML of ``to_networkx``."""
    found = to_networkx(circuit, effects)
    with whole(path) as partial:
        nx.write_graphml(found, partial)


def read_graphml(path: Path, graph: Graph | None = None) -> Read:
    """Read a circuit from the GraphML that ``write_graphml`` wrote.

    Raises:
        InputError: the file holds something else.
    """
    with reading(path, AGAIN, "circuit as acdc writes it in GraphML"):
        read = nx.read_graphml(path)
        read.graph = {key: value for key, value in read.graph.items() if key not in ("node_default", "edge_default")}
        return from_networkx(read)


ORIGINAL = Format(write_original, read_original)
EAP_JSON = Format(write_eap_json, read_eap_json)
EAP_PT = Format(write_eap_pt, read_eap_pt)
GRAPHML = Format(write_graphml, read_graphml)
