"""RASP, as much of it as the project's programs need, and what a program says on given tokens.

RASP (Weiss et al. 2021) writes what a transformer computes as operations on sequences. ``acdc.models.toy.rasp.compiler``
turns a program into weights, as tracr does (Lindner et al. 2023); ``run`` here computes the same without any.

    length = Width(Select(Tokens(), Tokens(), lambda key, query: True))
    opposite = Zip(lambda n, i: n - i - 1, length, Indices())
    reverse = Aggregate(Select(Indices(), opposite, operator.eq), Tokens())

Every expression is a *sequence*: one value at each position. Tokens and indices exclude the token that marks the
beginning (BOS), which a model sees at position 0 and a program does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Value = Any
"""Of a sequence at one position: a token, an integer, a number. None where a program gives none."""


@dataclass(frozen=True)
class Tokens:
    """The token at every position."""


@dataclass(frozen=True)
class Indices:
    """Every position's number, from 0."""


@dataclass(frozen=True, eq=False)
class Map:
    """``function`` of every value.

    ``numerical``: the model holds the result as one number, along one direction, so that its mean can be taken.
    All else is categorical: a direction for every value that can occur.
    """

    function: Callable[[Value], Value]
    of: Expression
    numerical: bool = False


@dataclass(frozen=True, eq=False)
class Zip:
    """``function`` of two categorical sequences' values at every position (RASP's sequence map)."""

    function: Callable[[Value, Value], Value]
    first: Expression
    second: Expression


@dataclass(frozen=True, eq=False)
class Select:
    """Which positions each one attends to: those where ``predicate(key, query)`` is true. Both are categorical."""

    keys: Expression
    queries: Expression
    predicate: Callable[[Value, Value], bool]


@dataclass(frozen=True, eq=False)
class Aggregate:
    """Mean over the selected positions. Of a categorical sequence: the value of the one selected position."""

    selector: Select
    of: Expression


@dataclass(frozen=True, eq=False)
class Width:
    """How many positions are selected (RASP's selector width)."""

    selector: Select


Expression = Tokens | Indices | Map | Zip | Aggregate | Width


def run(program: Expression, tokens: Sequence[Value]) -> list[Value]:
    """What a program says at every position of ``tokens``, computed as it is written.

    Raises:
        ValueError: a categorical sequence is aggregated over several positions.
    """
    match program:
        case Tokens():
            return list(tokens)
        case Indices():
            return list(range(len(tokens)))
        case Map(function, of):
            return [function(value) for value in run(of, tokens)]
        case Zip(function, first, second):
            return [function(a, b) for a, b in zip(run(first, tokens), run(second, tokens), strict=True)]
        case Width(selector):
            return [len(chosen) for chosen in selected(selector, tokens)]
        case Aggregate(selector, of):
            values = run(of, tokens)
            return [mean(of, [values[i] for i in chosen]) for chosen in selected(selector, tokens)]


def selected(selector: Select, tokens: Sequence[Value]) -> list[list[int]]:
    """For every position the positions that it attends to."""
    keys = run(selector.keys, tokens)
    return [
        [i for i, key in enumerate(keys) if selector.predicate(key, query)] for query in run(selector.queries, tokens)
    ]


def mean(of: Expression, values: list[Value]) -> Value:
    """Of numbers their mean, 0 of none; of one value itself; None of no categorical value."""
    if is_numerical(of):
        return sum(values) / len(values) if values else 0.0
    if len(set(values)) > 1:
        raise ValueError(f"a mean of {values} has no meaning: select one position, or make the values numerical")
    return values[0] if values else None


def is_numerical(expression: Expression) -> bool:
    """The model holds it as one number, not as one direction for each value."""
    match expression:
        case Map(_, _, numerical):
            return numerical
        case Aggregate(_, of):
            return is_numerical(of)
    return False
