"""Define the computational graph of a model, and circuits, which are subsets of its edges.

A *sender* writes to the residual stream (the embedding, an attention head, an MLP). A *receiver* reads
from it (the q, k or v input of a head, an MLP, the logits). An edge carries one sender's output to one
receiver (Conmy et al. 2023, section 2.2; node set of the original's ``TLACDCCorrespondence.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from acdc import views
from acdc.errors import InputError

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.figure import Figure

    from acdc.trace import Effects

Component = Literal["embed", "tok_embed", "pos_embed", "head", "mlp", "logits"]
Port = Literal["q", "k", "v"]
Kind = Literal["addition", "direct"]

PORTS: tuple[Port, ...] = ("q", "k", "v")
MOST_RECEIVERS = 10**5
"""The largest number of receivers in a graph from a file, which bounds its memory: twice that of the largest models."""


def any_along(which: Bool[np.ndarray, "..."], axis: int) -> Bool[np.ndarray, "..."]:
    """Return whether any entry along an axis is True."""
    return np.logical_or.reduce(which, axis=axis)


@dataclass(frozen=True)
class Node:
    """Name a component of the model or, with a ``port``, one input of an attention head.

    With grouped-query attention the k and v ports belong to key/value heads, so ``a5.h2.k`` is key head 2
    of layer 5, shared by a group of query heads. ``layer`` is -1 for embeddings and ``n_layers`` for logits.
    """

    layer: int
    component: Component
    head: int | None = None
    port: Port | None = None

    @property
    def name(self) -> str:
        """Return the node's name in files and messages, such as ``a5.h2.k``, ``m3`` or ``logits``."""
        if self.component == "head":
            port = f".{self.port}" if self.port else ""
            return f"a{self.layer}.h{self.head}{port}"
        return f"m{self.layer}" if self.component == "mlp" else self.component

    @property
    def owner(self) -> Node:
        """Return the component that this node is a port of; the node itself if it is no port."""
        return Node(self.layer, self.component, self.head)

    @property
    def head_index(self) -> int:
        """Return the index of the node's head; only heads and ports have one."""
        assert self.head is not None
        return self.head

    @property
    def sender_hook(self) -> str:
        """Return the TransformerLens hook point of this node's output."""
        names = {
            "embed": "blocks.0.hook_resid_pre",
            "tok_embed": "hook_embed",
            "pos_embed": "hook_pos_embed",
            "head": f"blocks.{self.layer}.attn.hook_result",
            "mlp": f"blocks.{self.layer}.hook_mlp_out",
        }
        return names[self.component]

    @property
    def receiver_hook(self) -> str:
        """Return the TransformerLens hook point of this node's input."""
        if self.component == "logits":
            return f"blocks.{self.layer - 1}.hook_resid_post"
        suffix = f"hook_{self.port}_input" if self.port else "hook_mlp_in"
        return f"blocks.{self.layer}.{suffix}"

    @property
    def projection_hook(self) -> str:
        """Return the TransformerLens hook point of a port's q, k or v, where its direct edge ends."""
        return f"blocks.{self.layer}.attn.hook_{self.port}"

    @property
    def index(self) -> tuple[None, None, int] | tuple[None]:
        """Return the index of this node in its hook point's tensor, as the original writes it."""
        return (None,) if self.head is None else (None, None, self.head)


@dataclass(frozen=True)
class Edge:
    """Name an edge: ``addition`` from a sender to a receiver, or ``direct`` from a port's input to its q, k or v."""

    sender: Node
    receiver: Node
    kind: Kind = "addition"

    @property
    def name(self) -> str:
        """Return the edge's name in messages."""
        if self.kind == "direct":
            return f"{self.receiver.name} (direct)"
        return f"{self.sender.name} -> {self.receiver.name}"

    @property
    def sender_hook(self) -> tuple[str, tuple]:
        """Return the TransformerLens hook point and index where this edge starts."""
        hook = self.sender.receiver_hook if self.kind == "direct" else self.sender.sender_hook
        return hook, self.sender.index

    @property
    def receiver_hook(self) -> tuple[str, tuple]:
        """Return the TransformerLens hook point and index where this edge ends."""
        hook = self.receiver.projection_hook if self.kind == "direct" else self.receiver.receiver_hook
        return hook, self.receiver.index


@dataclass(frozen=True)
class Graph:
    """Define the nodes and edges of a model by its sizes.

    Args:
        n_layers, n_heads: the number of layers, and of (query) heads per layer.
        n_kv_heads: key/value heads per layer; equal to ``n_heads`` without grouped-query attention.
        has_mlp: False for attention-only models.
        split_embed: whether token and position embeddings are two senders (the paper does so for tracr).
        parallel: whether a layer's MLP and heads read the same residual stream, so that no edge leads from the heads to
            the MLP.
        coupled: whether a layer's heads share a norm of their queries, keys or outputs, so that the input of one head
            changes the output of the others (Gemma 2, OLMo 2).
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    has_mlp: bool = True
    split_embed: bool = False
    parallel: bool = False
    coupled: bool = False

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Graph:
        """Return the graph that ``to_json`` described.

        Raises:
            TypeError, ValueError: an argument is missing or unknown, or no model has such sizes.
        """
        graph = cls(**record)
        sizes = graph.n_layers, graph.n_heads, graph.n_kv_heads
        if not all(type(size) is int and size > 0 for size in sizes) or graph.n_heads % graph.n_kv_heads:
            raise ValueError(f"there is no graph of {sizes[0]!r} layers, {sizes[1]!r} heads and {sizes[2]!r} key heads")
        if graph.n_layers * (graph.n_ports + 1) > MOST_RECEIVERS:
            raise ValueError(f"a graph of {graph.n_layers} layers and {graph.n_heads} heads is larger than any model's")
        return graph

    @cached_property
    def senders(self) -> tuple[Node, ...]:
        """Return the senders in topological order: embeddings, then per layer the heads and the MLP."""
        embeddings: tuple[Component, ...] = ("tok_embed", "pos_embed") if self.split_embed else ("embed",)
        nodes = [Node(-1, component) for component in embeddings]
        for layer in range(self.n_layers):
            nodes += [Node(layer, "head", h) for h in range(self.n_heads)]
            nodes += [Node(layer, "mlp")] * self.has_mlp
        return tuple(nodes)

    @cached_property
    def receivers(self) -> tuple[Node, ...]:
        """Return the receivers in topological order: per layer the q, k and v ports and the MLP, then the logits."""
        nodes: list[Node] = []
        for layer in range(self.n_layers):
            nodes += [Node(layer, "head", h, "q") for h in range(self.n_heads)]
            nodes += [Node(layer, "head", h, port) for port in PORTS[1:] for h in range(self.n_kv_heads)]
            nodes += [Node(layer, "mlp")] * self.has_mlp
        return (*nodes, Node(self.n_layers, "logits"))

    @cached_property
    def sender_index(self) -> dict[Node, int]:
        """Return the index of every sender in ``senders``."""
        return {node: i for i, node in enumerate(self.senders)}

    @cached_property
    def receiver_index(self) -> dict[Node, int]:
        """Return the index of every receiver in ``receivers``."""
        return {node: i for i, node in enumerate(self.receivers)}

    @cached_property
    def exists(self) -> Bool[np.ndarray, "sender receiver"]:
        """Return which sender comes before which receiver, so that there is an edge: Bool[sender receiver].

        A head comes before the MLP of its own layer, unless blocks are parallel.
        """
        sender = np.array([2 * n.layer + (n.component == "mlp") for n in self.senders])
        late = not self.parallel
        receiver = np.array([2 * n.layer + (late and n.component == "mlp") for n in self.receivers])
        return sender[:, None] < receiver[None, :]

    @cached_property
    def has_direct(self) -> Bool[np.ndarray, "receiver"]:
        """Return which receivers have a direct edge, which are the ports: Bool[receiver]."""
        return np.array([n.port is not None for n in self.receivers])

    @property
    def n_edges(self) -> int:
        """Return the number of edges as the original counts them: addition and direct edges."""
        return int(self.exists.sum() + self.has_direct.sum())

    def first_sender(self, layer: int) -> int:
        """Return the index of a layer's first sender; its heads come first, then its MLP."""
        return 1 + self.split_embed + layer * (self.n_heads + self.has_mlp)

    @cached_property
    def read_together(self) -> list[tuple[int, int]]:
        """Return the groups of receivers whose inputs a run computes together: the first index and the size of each."""
        found = []
        for layer in range(self.n_layers):
            first = self.first_receiver(layer)
            found += [(first, self.n_ports), *([(first + self.n_ports, 1)] if self.has_mlp else [])]
        return [*found, (len(self.receivers) - 1, 1)]

    def first_receiver(self, layer: int) -> int:
        """Return the index of a layer's first receiver; its q, k and v ports come first, then its MLP."""
        return layer * (self.n_ports + self.has_mlp)

    @property
    def n_ports(self) -> int:
        """Return the number of ports in one layer."""
        return self.n_heads + 2 * self.n_kv_heads

    @property
    def splits(self) -> list[int]:
        """Return the indices among a layer's ports where the k ports and the v ports begin."""
        return [self.n_heads, self.n_heads + self.n_kv_heads]

    @cached_property
    def ports_of_heads(self) -> Int[np.ndarray, "3 head"]:
        """Return the indices of every head's q, k and v among its layer's ports: Int[3 head]."""
        heads = np.arange(self.n_heads)
        group = heads // (self.n_heads // self.n_kv_heads)
        return np.stack([heads, self.n_heads + group, self.n_heads + self.n_kv_heads + group])

    def edges_into(self, layer: int) -> int:
        """Count the edges into receivers of this layer and of later ones."""
        later = slice(self.first_receiver(layer), None) if layer <= self.n_layers else slice(0, 0)
        return int(self.exists[:, later].sum() + self.has_direct[later].sum())

    def heads_reading(self, port: Node) -> list[Node]:
        """Return the heads that read a port: one for q, all heads of the group for the k or v of a key/value head."""
        if port.port == "q":
            return [port.owner]
        group = self.n_heads // self.n_kv_heads
        return [Node(port.layer, "head", port.head_index * group + i) for i in range(group)]

    def consumers(self, receiver: Node) -> list[Node]:
        """Return the senders whose output a receiver feeds directly: the heads or the MLP; none for the logits."""
        if receiver.port:
            return self.heads_reading(receiver)
        return [receiver] if receiver.component == "mlp" else []

    def influenced(self, receiver: Node) -> list[Node]:
        """Return the senders whose output changes with a receiver's input: its consumers and heads coupled to them."""
        if self.coupled and receiver.port:
            return [Node(receiver.layer, "head", head) for head in range(self.n_heads)]
        return self.consumers(receiver)

    def node(self, name: str) -> Node:
        """Return the sender or receiver of that name.

        Raises:
            KeyError: there is no such node; the message names it.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"no node {name!r} in a graph of {self.n_layers} layers and {self.n_heads} heads") from None

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in (*self.senders, *self.receivers)}

    def to_json(self) -> dict[str, Any]:
        """Return the arguments that make this graph, by name."""
        keys = ("n_layers", "n_heads", "n_kv_heads", "has_mlp", "split_embed", "parallel")
        return {key: getattr(self, key) for key in keys} | ({"coupled": True} if self.coupled else {})


@dataclass(eq=False, repr=False)
class Circuit:
    """Hold a subset of a graph's edges.

    Circuits of one graph are compared with ``==`` and joined with ``|``, ``&`` and ``-``. ``len`` counts edges, and
    iteration yields them.

    Attributes:
        graph: the graph.
        present: Bool[sender receiver], the addition edges in the circuit.
        direct: Bool[receiver], the direct edges in the circuit.
    """

    graph: Graph
    present: Bool[np.ndarray, "sender receiver"]
    direct: Bool[np.ndarray, "receiver"]

    def __repr__(self) -> str:
        return f"Circuit({self.counts})"

    def __len__(self) -> int:
        return self.n_edges

    def __iter__(self) -> Iterator[Edge]:
        return self.edges

    def __contains__(self, edge: object) -> bool:
        if not isinstance(edge, Edge) or edge.receiver not in self.graph.receiver_index:
            return False
        receiver = self.graph.receiver_index[edge.receiver]
        if edge.kind == "direct":
            return bool(self.direct[receiver])
        sender = self.graph.sender_index.get(edge.sender)
        return sender is not None and bool(self.present[sender, receiver])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Circuit):
            return NotImplemented
        same = self.graph == other.graph and np.array_equal(self.present, other.present)
        return same and np.array_equal(self.direct, other.direct)

    # Circuits can be changed: they cannot be keys.
    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Circuit) -> Circuit:
        """Return the circuit of the edges that are in either circuit."""
        return self._with(other, np.logical_or)

    def __and__(self, other: Circuit) -> Circuit:
        """Return the circuit of the edges that are in both circuits."""
        return self._with(other, np.logical_and)

    def __sub__(self, other: Circuit) -> Circuit:
        """Return the circuit of this circuit's edges that are not in the other."""
        return self._with(other, np.greater)

    def _with(self, other: Circuit, joined: np.ufunc) -> Circuit:
        if not isinstance(other, Circuit):
            return NotImplemented
        if self.graph != other.graph:
            raise InputError(
                f"these are circuits of two models, {self!r} and {other!r}: only circuits of one graph can be joined"
            )
        return Circuit(self.graph, joined(self.present, other.present), joined(self.direct, other.direct))

    @classmethod
    def full(cls, graph: Graph) -> Circuit:
        """Return the circuit of all edges."""
        return cls(graph, graph.exists.copy(), graph.has_direct.copy())

    @classmethod
    def empty(cls, graph: Graph) -> Circuit:
        """Return the circuit of no edges."""
        return cls(graph, np.zeros_like(graph.exists), np.zeros_like(graph.has_direct))

    @classmethod
    def from_edges(cls, graph: Graph, edges: Iterable[Edge]) -> Circuit:
        """Return the circuit of the given edges.

        Raises:
            KeyError: the graph lacks a node.
            ValueError: a sender does not come before its receiver; the message names the edge.
        """
        circuit = cls.empty(graph)
        for edge in edges:
            receiver = graph.receiver_index[edge.receiver]
            if edge.kind == "direct":
                circuit.direct[receiver] = True
                continue
            sender = graph.sender_index[edge.sender]
            if not graph.exists[sender, receiver]:
                raise ValueError(f"{edge.name} is no edge: the sender does not come before the receiver")
            circuit.present[sender, receiver] = True
        return circuit

    @classmethod
    def among(cls, graph: Graph, kept: Bool[np.ndarray, "receiver"]) -> Circuit:
        """Return the circuit of all edges among kept nodes, by the paper's rule for methods that keep nodes.

        A port that is not kept has no edge. A head sends if one of its ports is kept. Embeddings and logits are always
        kept. (``iterative_correspondence_from_mask`` of the original.)

        Args:
            kept: Bool[receiver], which ports and MLPs are kept.
        """
        receives = kept | np.array([node.component == "logits" for node in graph.receivers])
        sends = np.array([node.layer < 0 for node in graph.senders])
        for r in np.flatnonzero(kept):
            sends[[graph.sender_index[node] for node in graph.consumers(graph.receivers[r])]] = True
        return cls(graph, graph.exists & sends[:, None] & receives, graph.has_direct & kept)

    def copy(self) -> Circuit:
        """Return a copy that shares no array with this circuit."""
        return Circuit(self.graph, self.present.copy(), self.direct.copy())

    @property
    def n_edges(self) -> int:
        """Return the number of edges as the original counts them: addition and direct ones."""
        return int(self.present.sum() + self.direct.sum())

    @property
    def counts(self) -> str:
        """Return the numbers of edges and nodes as a text."""
        return f"{self.n_edges:,} of {self.graph.n_edges:,} edges, {len(self.nodes)} nodes"

    @property
    def edges(self) -> Iterator[Edge]:
        """Yield the edges by receiver, then sender, in topological order; a port's direct edge comes last."""
        for r, receiver in enumerate(self.graph.receivers):
            for s in np.flatnonzero(self.present[:, r]):
                yield Edge(self.graph.senders[s], receiver)
            if self.direct[r]:
                yield Edge(receiver, receiver, "direct")

    @property
    def nodes(self) -> Set[Node]:
        """Return the components that send along an edge of the circuit, and the logits; the empty set without edges."""
        senders = {self.graph.senders[s] for s in np.flatnonzero(any_along(self.present, 1))}
        return senders | {self.graph.receivers[-1]} if senders else senders

    def reaching_logits(self) -> Circuit:
        """Return the circuit without edges from which no path of its edges leads to the logits."""
        circuit = self.copy()
        for r in reversed(range(len(self.graph.receivers))):
            if not circuit.is_read(r) or (self.graph.has_direct[r] and not circuit.direct[r]):
                circuit.present[:, r] = False
                circuit.direct[r] = False
        return circuit

    def is_fed(self) -> Bool[np.ndarray, "receiver"]:
        """Return to which receivers a path through MLPs and v ports leads from an embedding: Bool[receiver]."""
        graph = self.graph
        sends = np.array([node.layer < 0 for node in graph.senders])
        fed = np.zeros(len(graph.receivers), dtype=bool)
        for r, receiver in enumerate(graph.receivers):
            fed[r] = (self.present[:, r] & sends).any()
            # A head writes its values. Queries and keys only say from which positions.
            if fed[r] and (receiver.component == "mlp" or (receiver.port == "v" and self.direct[r])):
                sends[[graph.sender_index[node] for node in graph.consumers(receiver)]] = True
        return fed

    @property
    def is_connected(self) -> bool:
        """Return whether a path of the circuit's edges, through any port, leads from an embedding to the logits."""
        return bool((self.present[:, -1] & self.reached_senders(self.graph.consumers)).any())

    def reached_senders(self, change: Callable[[Node], Iterable[Node]]) -> Bool[np.ndarray, "sender"]:
        """Return the senders to which a path of the circuit's edges, through any port, leads from an embedding.

        Args:
            change: a function that returns the senders whose output changes with a receiver's input.
        """
        graph = self.graph
        reached = np.array([node.layer < 0 for node in graph.senders])
        for r, receiver in enumerate(graph.receivers):
            if (self.present[:, r] & reached).any() and (self.direct[r] or not graph.has_direct[r]):
                reached[[graph.sender_index[node] for node in change(receiver)]] = True
        return reached

    def from_embeddings(self) -> Circuit:
        """Return the circuit without edges to which no path of its edges leads from an embedding.

        A port's direct edge stays if an edge enters the port or, where the heads of a layer share a norm, one of these
        heads.
        """
        graph, reached = self.graph, self.reached_senders(self.graph.influenced)
        present = self.present & reached[:, None]
        changes = any_along(present, 0)
        if graph.coupled:
            influenced = ([graph.sender_index[n] for n in graph.influenced(node)] for node in graph.receivers)
            changes = changes | np.array([bool(reached[senders].any()) for senders in influenced])
        return Circuit(graph, present, self.direct & changes)

    def is_read(self, receiver: int) -> bool:
        """Return whether a sender that changes with this receiver sends along an edge; True for the logits."""
        node = self.graph.receivers[receiver]
        if node.component == "logits":
            return True
        return any(self.present[self.graph.sender_index[n]].any() for n in self.graph.influenced(node))

    def needs(self, receiver: Node, kind: Kind) -> bool:
        """Return whether the circuit still uses the edges of one kind into a receiver.

        The addition edges into a port are used if its direct edge is present. Other edges are used if the receiver's
        component sends along some edge.
        """
        index = self.graph.receiver_index[receiver]
        return bool(self.direct[index]) if kind == "addition" and receiver.port else self.is_read(index)

    def remove_all(self, receiver: Node, kind: Kind) -> None:
        """Remove all edges of one kind into a receiver."""
        index = self.graph.receiver_index[receiver]
        if kind == "direct":
            self.direct[index] = False
        else:
            self.present[:, index] = False

    def without(self, edge: Edge) -> Circuit:
        """Return a copy of the circuit without one edge."""
        circuit = self.copy()
        circuit.set(edge, False)
        return circuit

    def set(self, edge: Edge, is_present: bool) -> None:
        """Add one edge to the circuit or remove it."""
        receiver = self.graph.receiver_index[edge.receiver]
        if edge.kind == "direct":
            self.direct[receiver] = is_present
        else:
            self.present[self.graph.sender_index[edge.sender], receiver] = is_present

    def to_frame(self, effects: Effects | None = None) -> pd.DataFrame:
        """Return a table with a row per edge: ``sender``, ``receiver``, ``kind`` and, if given, ``effect``.

        Args:
            effects: the effect of every edge: by how much the metric rises without it, see ``acdc.trace``.
        """
        return views.edges_frame(self, effects)

    def to_networkx(self, effects: Effects | None = None) -> nx.DiGraph:
        """Return a networkx graph of components and ports, see ``acdc.exchange.to_networkx``."""
        return views.to_networkx(self, effects)

    def draw(self, effects: pd.DataFrame | None = None, title: str = "", *, max_edges: int = 120) -> Figure:
        """Draw the circuit as a matplotlib figure, see ``acdc.figures.circuit``; without effects edges look alike."""
        return views.draw(self, effects, title, max_edges=max_edges)

    def to_json(self) -> dict[str, Any]:
        """Return the graph and the edges, by the names of their nodes, for a JSON file."""
        edges = list(self.edges)
        return {
            "graph": self.graph.to_json(),
            "n_edges": len(edges),
            "edges": [[e.sender.name, e.receiver.name] for e in edges if e.kind == "addition"],
            "direct": [e.receiver.name for e in edges if e.kind == "direct"],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Circuit:
        """Return the circuit that ``to_json`` described.

        Raises:
            KeyError, TypeError, ValueError: an entry is missing or of another type, the graph lacks a node, or the
                number of edges is not the stated one.
        """
        graph = Graph.from_json(data["graph"])
        edges = [Edge(graph.node(sender), graph.node(receiver)) for sender, receiver in data["edges"]]
        ports = [graph.node(port) for port in data["direct"]]
        if wrong := [port.name for port in ports if port.port is None]:
            raise ValueError(f"{wrong[0]} has no direct edge: only the q, k and v of heads have one")
        circuit = cls.from_edges(graph, [*edges, *(Edge(port, port, "direct") for port in ports)])
        listed = len(edges) + len(ports)
        said = data.get("n_edges", listed)
        if not said == listed == circuit.n_edges:
            raise ValueError(f"it says {said} edges, lists {listed}, and {circuit.n_edges} of these are distinct")
        return circuit


AnyScores = TypeVar("AnyScores", bound="Scores")


@dataclass(eq=False)
class Scores:
    """Hold a score for every edge or every node; those of largest score are kept first."""

    graph: Graph
    score: Float[np.ndarray, "..."]

    def absolute(self: AnyScores) -> AnyScores:
        """Return the absolute values of the scores, so that edges that help and edges that harm rank alike."""
        return replace(self, score=np.abs(self.score))

    @property
    def values(self) -> Float[np.ndarray, "thing"]:
        """Return the scores of all edges or nodes that have one: Float[thing]."""
        return self.score[~np.isnan(self.score)]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per edge or node that has a score."""
        raise NotImplementedError

    def top(self, n: int) -> Circuit:
        """Return the circuit of the ``n`` edges or nodes of largest score."""
        raise NotImplementedError


@dataclass(eq=False)
class EdgeScores(Scores):
    """Hold a score for every addition edge: Float[sender receiver], NaN where the graph has no edge."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per addition edge: sender, receiver, score."""
        pairs = np.argwhere(self.graph.exists)
        names = [(self.graph.senders[s].name, self.graph.receivers[r].name, self.score[s, r]) for s, r in pairs]
        return [{"sender": sender, "receiver": receiver, "score": score} for sender, receiver, score in names]

    def top(self, n: int) -> Circuit:
        """Return the circuit of the ``n`` addition edges of largest score, and the direct edges of ports they enter."""
        order = np.argsort(np.where(self.graph.exists, -self.score, np.inf), axis=None, kind="stable")
        present = np.zeros(self.graph.exists.size, dtype=bool)
        present[order[:n]] = True
        present = present.reshape(self.graph.exists.shape) & self.graph.exists
        return Circuit(self.graph, present, any_along(present, 0) & self.graph.has_direct)


@dataclass(eq=False)
class NodeScores(Scores):
    """Hold a score for every port and MLP: Float[receiver], NaN for the logits, which are always kept."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per port and MLP: node, score."""
        pairs = zip(self.graph.receivers, self.score, strict=True)
        return [{"node": node.name, "score": score} for node, score in pairs if node.component != "logits"]

    def top(self, n: int) -> Circuit:
        """Return the circuit of all edges among the ``n`` ports and MLPs of largest score."""
        kept = np.zeros(len(self.score), dtype=bool)
        kept[np.argsort(-self.score, kind="stable")[:n]] = True
        return Circuit.among(self.graph, kept)
