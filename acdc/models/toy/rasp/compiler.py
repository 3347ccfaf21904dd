"""Compile RASP programs to the weights of a transformer.

The idea is tracr's (Lindner et al. 2023, arXiv 2301.05062), and so are the layers, heads and widths of the paper's
programs. The residual stream has one direction for each value that a sequence can have (or one for a number), one
for each token, and ``one``, which every token writes. No bias is used. Expressions become:

    Map, Zip    hidden units of an MLP: one for each value, or for each pair of values.
    Aggregate   a head. Scores are high where the predicate holds and half as high at BOS: a query that selects
                nothing reads BOS, which has no value.
    Width       a head that attends to the selected positions and to BOS alike and reads whether it is BOS, which
                gives 1 / (1 + width); and an MLP that tells these numbers apart.

Positions are counted from 1, after BOS, whose own position writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.graph import Circuit, Graph
from acdc.models.toy.rasp import Aggregate, Expression, Indices, Map, Select, Tokens, Value, Width, Zip, is_numerical
from acdc.models.toy.rasp.wiring import wired_circuit

BOS, PAD = "BOS", "PAD"
SCORE = 100.0
"""The score of a selected position before the softmax. At half of it, BOS's, a weight is 0 beside it in float32."""
STEEPNESS = 100.0
"""The slope of the steps between values of 1 / (1 + width). Up to width 6 a step takes less than half a gap."""

Direction = tuple[Any, Value]
"""An expression, or the name of something else, and one of its values."""
ONE: Direction = ("one", None)
Weights = dict[Direction, float]


@dataclass(frozen=True)
class Unit:
    """Hold a hidden unit of an MLP, which writes the ReLU of what it reads."""

    reads: Weights
    writes: Weights


@dataclass(frozen=True)
class Head:
    """Hold an attention head: the positions it selects, the score of BOS, and the directions that it copies."""

    selector: Select
    bos_score: float
    copies: list[tuple[Direction, Direction]]


@dataclass
class Layer:
    """Hold a layer, whose heads read earlier layers' outputs and whose MLP reads its heads' outputs too."""

    heads: list[Head] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)


class Program:
    """Compile a RASP program for strings of up to ``max_length`` tokens of a vocabulary.

    Attributes:
        tokens: the model's tokens, with BOS and PAD, sorted by their text as in tracr; a token's id is its index.
        layers: the layers that compute the program.

    Raises:
        ValueError: there is nothing to compute, or steps between widths would overlap.
    """

    def __init__(self, expression: Expression, vocabulary: Iterable[Value], max_length: int) -> None:
        self.expression, self.vocabulary, self.max_length = expression, sorted(vocabulary, key=str), max_length
        self.tokens = sorted([*self.vocabulary, BOS, PAD], key=str)
        self.layers: list[Layer] = []
        self._domain: dict[Expression, list[Value]] = {}
        self._ready: dict[Expression, int] = {Tokens(): 0, Indices(): 0}
        self.ready(expression)
        if not self.layers:
            raise ValueError("the program computes nothing: it must do something with tokens or indices")

    def encode(self, strings: Iterable[Sequence[Value]], bos: bool = True) -> list[list[int]]:
        """Return the token ids of strings, each after BOS unless ``bos`` is False."""
        ids = {token: i for i, token in enumerate(self.tokens)}
        return [[ids[token] for token in ((BOS, *string) if bos else string)] for string in strings]

    def domain(self, expression: Expression) -> list[Value]:
        """Return all values that a categorical sequence can have, in order."""
        if expression not in self._domain:
            self._domain[expression] = sorted(set(self.possible(expression)), key=order)
        return self._domain[expression]

    def possible(self, expression: Expression) -> Iterable[Value]:
        """Return all values that a categorical sequence can have, in any order, with repetitions."""
        match expression:
            case Tokens():
                return self.vocabulary
            case Indices():
                return range(self.max_length)
            case Map(function, of):
                return [function(value) for value in self.domain(of)]
            case Zip(function, first, second):
                return [function(*values) for values in product(self.domain(first), self.domain(second))]
            case Width():
                return range(self.max_length + 1)
            case Aggregate(_, of):
                return self.domain(of)

    def directions(self, expression: Expression) -> list[Direction]:
        """Return the directions of a sequence in the residual stream: one for each value, or one for a number."""
        values = [None] if is_numerical(expression) else self.domain(expression)
        return [(expression, value) for value in values]

    def ready(self, expression: Expression) -> int:
        """Place an expression as early as it can be computed, and return the time from which the stream has its value.

        Time 2 l is before layer l; 2 l + 1 is between its heads and its MLP.
        """
        if expression not in self._ready:
            self._ready[expression] = self.place(expression)
        return self._ready[expression]

    def place(self, expression: Expression) -> int:
        """Add the heads and units for an expression, and return the time from which the stream has its value."""
        match expression:
            case Map(_, of):
                return self.place_units(self.ready(of), self.map_units(expression))
            case Zip(_, first, second):
                return self.place_units(max(self.ready(first), self.ready(second)), self.zip_units(expression))
            case Aggregate(selector, of):
                copies = list(zip(self.directions(of), self.directions(expression), strict=True))
                return self.place_head(self.ready(of), Head(selector, SCORE / 2, copies))
            case Width(selector):
                share: Direction = ("share of BOS", expression)
                head = Head(selector, SCORE, [((Tokens(), BOS), share)])
                return self.place_units(self.place_head(0, head), self.width_units(expression, share))
        raise TypeError(f"{expression!r} is no expression of RASP")

    def place_head(self, time: int, head: Head) -> int:
        """Add a head at or after a time, and return the time from which the stream has its output."""
        time = max(time, self.ready(head.selector.keys), self.ready(head.selector.queries))
        layer = -(-time // 2)
        self.layer(layer).heads.append(head)
        return 2 * layer + 1

    def place_units(self, time: int, units: Iterable[Unit]) -> int:
        """Add hidden units at or after a time, and return the time from which the stream has their output."""
        layer = time // 2
        self.layer(layer).units.extend(units)
        return 2 * layer + 2

    def layer(self, index: int) -> Layer:
        """Return a layer, after adding it if it is new."""
        self.layers += [Layer() for _ in range(index + 1 - len(self.layers))]
        return self.layers[index]

    def map_units(self, expression: Map) -> Iterator[Unit]:
        """Yield a unit for each value; the number 0 as a result needs no unit."""
        for value in self.domain(expression.of):
            result = expression.function(value)
            if not expression.numerical:
                yield Unit({(expression.of, value): 1.0}, {(expression, result): 1.0})
            elif result:
                yield Unit({(expression.of, value): 1.0}, {(expression, None): float(result)})

    def zip_units(self, expression: Zip) -> Iterator[Unit]:
        """Yield a unit for each pair of values, which is above 0 where both occur."""
        first, second = expression.first, expression.second
        for a, b in product(self.domain(first), self.domain(second)):
            reads = {(first, a): 1.0, (second, b): 1.0, ONE: -1.0}
            yield Unit(reads, {(expression, expression.function(a, b)): 1.0})

    def width_units(self, expression: Width, share: Direction) -> Iterator[Unit]:
        """Yield units that write the largest width, and one less for every step that the share of BOS takes.

        At BOS, which attends only to itself, width 0 would be written. The last unit cancels it.
        """
        if 1 / self.max_length - 1 / (self.max_length + 1) <= 2 / STEEPNESS:
            raise ValueError(f"widths up to {self.max_length} are too many to be told apart")
        yield Unit({ONE: 1.0}, {(expression, self.max_length): 1.0})
        for width in reversed(range(self.max_length)):
            middle = (1 / (width + 1) + 1 / (width + 2)) / 2
            for start, sign in ((-1.0, 1.0), (0.0, -1.0)):
                reads = {share: STEEPNESS, ONE: -STEEPNESS * middle - start}
                yield Unit(reads, {(expression, width): sign, (expression, width + 1): -sign})
        yield Unit({(Tokens(), BOS): 1.0}, {(expression, 0): -1.0})

    @cached_property
    def basis(self) -> dict[Direction, int]:
        """Return the index of every direction in the residual stream."""
        found = [ONE, *((Tokens(), token) for token in self.tokens), *self.directions(Indices())]
        for layer in self.layers:
            found += [write for head in layer.heads for _, write in head.copies]
            found += [write for unit in layer.units for write in unit.writes]
        return {direction: i for i, direction in enumerate(dict.fromkeys(found))}

    @cached_property
    def config(self) -> dict[str, Any]:
        """Return the config of the TransformerLens native model."""
        heads = [head for layer in self.layers for head in layer.heads]
        widest = [max(len(self.domain(head.selector.queries)) + 1, len(head.copies)) for head in heads]
        return {
            "n_layers": len(self.layers),
            "n_heads": max([1, *(len(layer.heads) for layer in self.layers)]),
            "d_model": len(self.basis),
            "d_head": max([1, *widest]),
            "d_mlp": max([1, *(len(layer.units) for layer in self.layers)]),
            "n_ctx": 1 + self.max_length,
            "d_vocab": len(self.tokens),
            "d_vocab_out": len(self.directions(self.expression)),
            "act_fn": "relu",
            "normalization_type": None,
            "attention_dir": "bidirectional",
            "attn_only": False,
            "gated_mlp": False,
            "positional_embedding_type": "standard",
            "seed": 0,
        }

    def weights(self) -> dict[str, Tensor]:
        """Return the state of the TransformerLens native model, without biases, all of which are 0."""
        tokens = [self.vector({(Tokens(), token): 1.0, ONE: 1.0}) for token in self.tokens]
        indices = [self.vector({direction: 1.0}) for direction in self.directions(Indices())]
        outputs = [self.vector({direction: 1.0}) for direction in self.directions(self.expression)]
        out = {"embed.weight": torch.stack(tokens), "unembed.weight": torch.stack(outputs)}
        out["pos_embed.weight"] = torch.stack([self.vector({}), *indices])
        for i, layer in enumerate(self.layers):
            out |= {f"blocks.{i}.attn.{name}": weight for name, weight in self.attention_weights(layer.heads).items()}
            out |= {f"blocks.{i}.mlp.{name}": weight for name, weight in self.mlp_weights(layer.units).items()}
        return out

    def attention_weights(self, heads: list[Head]) -> dict[str, Tensor]:
        """Return a layer's attention weights by name."""
        shape = (self.config["n_heads"], self.config["d_head"], len(self.basis))
        q, k, v, o = (torch.zeros(shape) for _ in range(4))
        for i, head in enumerate(heads):
            self.write_scores(head, q[i], k[i])
            for j, (read, write) in enumerate(head.copies):
                v[i, j], o[i, j] = self.vector({read: 1.0}), self.vector({write: 1.0})
        q, k, v, o = (weight.flatten(0, 1) for weight in (q, k, v, o))
        return {"q.weight": q, "k.weight": k, "v.weight": v, "o.weight": o.T}

    def write_scores(self, head: Head, q: Float[Tensor, "d_head d_model"], k: Float[Tensor, "d_head d_model"]) -> None:
        """Write a dimension of queries and keys for each value of the query, and the next one for BOS."""
        selector, scale = head.selector, len(q) ** 0.5
        queries = self.domain(selector.queries)
        for i, query in enumerate(queries):
            keys = [key for key in self.domain(selector.keys) if selector.predicate(key, query)]
            q[i] = self.vector({(selector.queries, query): 1.0})
            k[i] = self.vector({(selector.keys, key): SCORE * scale for key in keys})
        q[len(queries)] = self.vector({ONE: 1.0})
        k[len(queries)] = self.vector({(Tokens(), BOS): head.bos_score * scale})

    def mlp_weights(self, units: list[Unit]) -> dict[str, Tensor]:
        """Return a layer's MLP weights by name."""
        shape = (self.config["d_mlp"], len(self.basis))
        reads, writes = torch.zeros(shape), torch.zeros(shape)
        for i, unit in enumerate(units):
            reads[i], writes[i] = self.vector(unit.reads), self.vector(unit.writes)
        return {"in.weight": reads, "out.weight": writes.T}

    def vector(self, weights: Weights) -> Float[Tensor, "d_model"]:
        """Return a vector of the residual stream from its components along directions."""
        out = torch.zeros(len(self.basis))
        for direction, weight in weights.items():
            out[self.basis[direction]] = weight
        return out

    def circuit(self, graph: Graph) -> Circuit:
        """Return the known circuit, see ``acdc.models.toy.rasp.wiring``."""
        return wired_circuit(self.weights(), graph)

    def build(self, folder: Path) -> None:
        """Write the model to ``folder``."""
        from acdc.models.bridge import boot_native, save_native

        bridge = boot_native(self.config)
        weights = self.weights()
        bridge.load_state_dict(
            {name: weights.get(name, torch.zeros_like(t)) for name, t in bridge.state_dict().items()}
        )
        save_native(bridge, self.config, folder)


def order(value: Value) -> tuple:
    """Return a key that sorts numbers by size and texts by letters."""
    return (isinstance(value, str), value)
