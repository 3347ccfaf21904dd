"""Define the part of RASP that the project needs, and run RASP programs without a model.

RASP (Weiss et al. 2021) describes a transformer's computation as operations on sequences. The module
``acdc.models.toy.rasp.compiler`` compiles a program to weights, as in tracr (Lindner et al. 2023). ``run`` computes the
same without weights.

    length = Width(Select(Tokens(), Tokens(), lambda key, query: True))
    opposite = Zip(lambda n, i: n - i - 1, length, Indices())
    reverse = Aggregate(Select(Indices(), opposite, operator.eq), Tokens())

Every expression is a *sequence*: one value at each position. A model sees the beginning-of-sequence token (BOS) at
position 0. A program does not: its tokens and indices leave BOS out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Value = Any
"""A sequence's value at one position: a token, an integer, a number; None where a program gives none."""


@dataclass(frozen=True)
class Tokens:
    """Read the token at every position."""


@dataclass(frozen=True)
class Indices:
    """Count positions from 0."""


@dataclass(frozen=True, eq=False)
class Map:
    """Apply ``function`` to every value of a sequence.

    If ``numerical``, the model holds the result as one number, along one direction, so that its mean can be taken.
    Otherwise the result is categorical: there is a direction for every value that can occur.
    """

    function: Callable[[Value], Value]
    of: Expression
    numerical: bool = False


@dataclass(frozen=True, eq=False)
class Zip:
    """Apply ``function`` to the values of two categorical sequences at every position (RASP's sequence map)."""

    function: Callable[[Value, Value], Value]
    first: Expression
    second: Expression


@dataclass(frozen=True, eq=False)
class Select:
    """Select for each query position the key positions where ``predicate(key, query)``; both are categorical."""

    keys: Expression
    queries: Expression
    predicate: Callable[[Value, Value], bool]


@dataclass(frozen=True, eq=False)
class Aggregate:
    """Average a sequence over the selected positions, or take a categorical sequence's value at the only one."""

    selector: Select
    of: Expression


@dataclass(frozen=True, eq=False)
class Width:
    """Count the selected positions (RASP's selector width)."""

    selector: Select


Expression = Tokens | Indices | Map | Zip | Aggregate | Width


def run(program: Expression, tokens: Sequence[Value]) -> list[Value]:
    """Return the value of a program at every position of ``tokens``, computed without a model.

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
    """Return, for every position, the positions that it attends to."""
    keys = run(selector.keys, tokens)
    return [
        [i for i, key in enumerate(keys) if selector.predicate(key, query)] for query in run(selector.queries, tokens)
    ]


def mean(of: Expression, values: list[Value]) -> Value:
    """Return the mean of numbers (0 of none), or the one categorical value (None of none)."""
    if is_numerical(of):
        return sum(values) / len(values) if values else 0.0
    if len(set(values)) > 1:
        raise ValueError(f"a mean of {values} has no meaning: select one position, or make the values numerical")
    return values[0] if values else None


def is_numerical(expression: Expression) -> bool:
    """Return whether the model holds the sequence as one number, not as one direction for each value."""
    match expression:
        case Map(_, _, numerical):
            return numerical
        case Aggregate(_, of):
            return is_numerical(of)
    return False
