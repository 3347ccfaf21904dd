"""Format facts about heads for drawings and pages: colours of names, terms and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from acdc.catalogue import label
from acdc.figures.style import BLUE, GREEN, ORANGE, PINK, SKY, VERMILLION
from acdc.heads import NONE, Heads

NAME_COLORS = {
    "name mover": GREEN,
    "negative name mover": VERMILLION,
    "S-inhibition": ORANGE,
    "induction": PINK,
    "duplicate token": SKY,
    "previous token": BLUE,
}
"""The colour of a head's border and, fainter, of the head, by its name."""
PALER = 0.7
"""The share of white in the fill of a named head, so that its label can be read."""
SCORES = {
    "direct_effect": "direct effect on the logit difference",
    "copying": "copies answers",
    "anti_copying": "lowers answers that it reads",
    "random_previous_token": "previous token, on random tokens",
    "random_duplicate_token": "duplicate token, on random tokens",
    "random_induction": "induction, on random tokens",
    "first_token": "attends to the first token",
}
"""Columns of the table of heads that a page shows, and what it calls them."""
CUTS = {
    "q": "its query as in the ablated run",
    "k": "its key as in the ablated run",
    "queries": "its edges into later queries cut",
}
SWAPPED = {
    "name mover": "another word where the answer stands: it writes",
    "negative name mover": "another word where the answer stands: it writes",
    "induction": "the earlier token swapped: it attends",
    "duplicate token": "the earlier token swapped: it attends",
    "previous token": "every second token swapped: it attends",
}
VERDICTS = {True: "as the name predicts", False: "not as the name predicts"}


def fill_of(name: str) -> str:
    """Return the colour that fills a head of a name; white for a head without one."""
    if name not in NAME_COLORS:
        return "#FFFFFF"
    parts = (int(NAME_COLORS[name][i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + PALER * (255 - part)):02X}" for part in parts)


def border_of(name: str, otherwise: str) -> str:
    """Return the colour of a head's border."""
    return NAME_COLORS.get(name, otherwise)


def facts_of(heads: Heads, head: str) -> list[list[str]]:
    """Return terms and texts about a head: its name, its tests, its attention and its scores."""
    row = heads.rows.get(head)
    if row is None:
        return []
    return [["proposed name", name_of(row, len(heads.rows))], *tests_of(row), *attention_of(row), *scores_of(row)]


def name_of(row: Mapping[str, Any], n_heads: int) -> str:
    """Return a head's name with its score and rank, as a text."""
    if row["name"] == NONE:
        return "none: no rule holds"
    failed = ", fails its test" if failed_of(row) else ""
    return f"{row['name']} (score {row['score']:.2g}, rank {int(row['rank'])} of {n_heads}{failed})"


def failed_of(row: Mapping[str, Any]) -> bool:
    """Return whether a head's name fails its test."""
    return str(row.get("passed")) == "False"


def tests_of(row: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the results of the tests of a head's name, as terms and texts."""
    if "cut_effect" in row:
        better = "worse" if row["cut_effect"] > 0 else "better"
        change = f"{label(row['tested_by'])} gets {better} by {two(abs(row['cut_effect']))}"
        error = f" ± {two(row['cut_error'])}" if "cut_error" in row else ""
        yield [f"test: {CUTS[row['cut']]}", f"{change}{error}{verdict(row, 'cut_passed')}"]
    if "swap_before" in row:
        yield [
            f"test: {SWAPPED[row['name']]}",
            f"{two(row['swap_before'])} before, {two(row['swap_after'])} after{verdict(row, 'swap_passed')}",
        ]


def verdict(row: Mapping[str, Any], key: str) -> str:
    """Return whether a test came out as predicted, as a text; an empty text without a prediction."""
    return f": {VERDICTS[str(row[key]) == 'True']}" if key in row else ""


def attention_of(row: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a head's attention from the scored position to labelled words, on clean and corrupted prompts."""
    for key, value in row.items():
        if key.startswith("END->") and not key.endswith("_corrupted"):
            yield [f"attends {key.replace('->', ' to ')}", both(row, key, value)]


def scores_of(row: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a head's scores, as terms and texts."""
    for key, term in SCORES.items():
        if key in row:
            yield [term, both(row, key, row[key])]


def both(row: Mapping[str, Any], key: str, value: float) -> str:
    """Return a measure on the clean prompts and, if there is one, on the corrupted prompts, as a text."""
    other = row.get(f"{key}_corrupted")
    return two(value) if other is None else f"{two(value)}, corrupted {two(other)}"


def two(value: float) -> str:
    """Return a number with two digits after the point, without a sign before zero."""
    return f"{round(value, 2) + 0.0:.2f}"
