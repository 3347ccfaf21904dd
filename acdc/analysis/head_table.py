"""Make the table of heads: each head's measurements on prompts, its proposed name, and the tests of that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from acdc.analysis.head_names import named
from acdc.analysis.head_patterns import head_patterns
from acdc.analysis.head_tests import Tester
from acdc.analysis.heads import answer_direction, head_frame, heads_of, in_circuits
from acdc.analysis.significance import Scorer, judged_by
from acdc.engine.model import Engine
from acdc.engine.runs import final_norm
from acdc.found import SEARCH, Found
from acdc.heads import NONE, Heads
from acdc.metrics import MetricKind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BACKUP = "backup name mover"
"""A published class of heads that act only if name movers are ablated: "name mover" or no name agrees with it."""


def logit_difference(engine: Engine) -> float:
    """Return the model's logit difference on the clean prompts; nan if they have no answers."""
    total = 0.0
    for chunk, part in zip(engine.chunks, engine.parts, strict=True):
        direction = answer_direction(engine.weights, part.to(engine.device))
        if direction is None:
            return float("nan")
        final = final_norm(engine.weights, chunk.clean["final", 0, 0])
        total += ((final * direction).sum(-1).double() @ chunk.rows.weight).item() * engine.dataset.share(part)
    return total


def heads_in(
    engine: Engine,
    metrics: Mapping[str, MetricKind],
    found: Sequence[Found],
    tokenizer: PreTrainedTokenizerBase | None,
) -> Heads:
    """Measure, name and test the model's heads, and store the attention patterns of those in circuits."""
    in_some = {node.name for one in found for node in one.circuit.nodes}
    return Heads(head_table(engine, metrics, found), head_patterns(engine, tokenizer, in_some))


def head_table(engine: Engine, metrics: Mapping[str, MetricKind], found: Sequence[Found]) -> pd.DataFrame:
    """Return a table with a row for every head of the model, those in the circuits first.

    Names of heads in the circuits are tested. The other heads are there for comparison.

    Args:
        metrics: the task's metrics.
        found: circuits of one search.

    Returns:
        The search's labels; ``head``; ``circuits``, the number of circuits that have the head; ``receivers``; ``name``,
        ``score`` and ``rank``, see ``head_names.named``; the columns of ``head_tests.Tester.test``; ``tested_by``, the
        metric by which cuts of edges are judged; and the columns of ``heads.head_frame``.
    """
    frame = head_frame(engine)
    frame = frame.join(named(frame, logit_difference(engine)))
    frame = frame.join(pd.DataFrame(list(in_circuits(found, frame)), index=frame.index))
    settings = found[0].settings
    tests = tests_of(engine, metrics, settings["metric"], frame)
    frame = frame.join(tests)
    for position, key in enumerate(SEARCH):
        frame.insert(position, key, settings[key])
    first = [*SEARCH, "head", "circuits", "receivers", "name", "score", "rank", *tests.columns]
    ordered = frame[[*first, *frame.columns.difference(first, sort=False)]]
    return ordered.sort_values("circuits", ascending=False, kind="stable").reset_index(drop=True)


TESTED = (
    *("passed", "tested_by", "cut", "cut_effect", "cut_error", "cut_passed"),
    *("swap_before", "swap_after", "swap_passed"),
)
"""The columns of tests of names."""


def tests_of(engine: Engine, metrics: Mapping[str, MetricKind], own: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Test the names of heads in circuits, and return a row per head; rows of other heads are empty.

    Args:
        own: the name of the search's metric.
    """
    judge = judged_by(engine, metrics, own)
    tester, rows = Tester(engine, Scorer(engine, metrics[judge])), list[dict[str, Any]]()
    nodes = heads_of(engine.graph)
    for node, name, n_circuits in zip(nodes, frame["name"], frame["circuits"], strict=True):
        is_tested = name != NONE and n_circuits
        rows.append(tester.test(node, name) | {"tested_by": judge} if is_tested else {})
    return pd.DataFrame(rows, columns=list(TESTED), index=frame.index).astype(
        {name: "boolean" for name in TESTED if name.endswith("passed")}
    )


def agreement(table: pd.DataFrame, published: Mapping[str, str]) -> pd.DataFrame:
    """Compare the proposed names of heads with the classes that a paper gives them.

    A backup name mover agrees if it is named a name mover or has no name.

    Args:
        table: the table of ``head_table``.
        published: the class of each head.

    Returns:
        A row per head that has a name or a class, for every kind of prompts: the search's labels, ``prompts``,
        ``head``, ``published``, ``name``, ``score``, ``rank``, ``passed``, ``agrees``. Without published classes there
        is no row.
    """
    shown = table.assign(published=[published.get(head, NONE) for head in table["head"]])
    shown = shown[bool(published) & ((shown["published"] != NONE) | (shown["name"] != NONE))]
    is_backup = (shown["published"] == BACKUP) & shown["name"].isin(["name mover", NONE])
    shown = shown.assign(agrees=(shown["published"] == shown["name"]) | is_backup)
    return shown[[*SEARCH, "prompts", "head", "published", "name", "score", "rank", "passed", "agrees"]]
