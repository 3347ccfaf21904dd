"""Propose a name for a head, such as name mover, where stated criteria on its measurements hold.

The names are those of Wang et al. 2022 (arXiv 2211.00593). Rules use a head's attention and its direct effect on the
logits. ``acdc.analysis.head_tests`` tests the predictions of a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from acdc.heads import NONE

LOOKS = 0.3
"""The mean share of its attention that a head must give to the positions that its name refers to."""
COPIES = 0.75
"""The share of tokens that a name mover must copy, or a negative name mover anti-copy."""
WRITES = 0.02
"""The share of the model's logit difference that the direct effect of a mover must have."""


@dataclass(frozen=True)
class Rule:
    """Define the criteria by which a name is proposed for a head.

    Attributes:
        name: the name of such heads.
        score: the column of ``heads.head_frame`` by which heads are ranked.
        least: by column, the smallest value that a head must have.
        sign: whether the largest (1) or the smallest (-1) score ranks first.
        below: by column, a bound that a head must stay below: it excludes another reason for the attention.
        writes: whether a head must have a direct effect on the logit difference, with the sign ``sign``.
        of_task: whether the rule is about the task's words; such a name goes before others.
    """

    name: str
    score: str
    least: Mapping[str, float]
    sign: int = 1
    below: Mapping[str, float] = field(default_factory=dict)
    writes: bool = False
    of_task: bool = False


RULES = (
    Rule("name mover", "direct_effect", {"to_answer": LOOKS, "copying": COPIES}, writes=True, of_task=True),
    Rule(
        "negative name mover",
        "direct_effect",
        {"to_answer": LOOKS, "anti_copying": COPIES},
        sign=-1,
        writes=True,
        of_task=True,
    ),
    Rule("S-inhibition", "to_repeat", {"to_repeat": LOOKS}, below={"random_previous_token": LOOKS}, of_task=True),
    Rule("induction", "random_induction", {"random_induction": LOOKS}),
    Rule("duplicate token", "random_duplicate_token", {"random_duplicate_token": LOOKS}),
    Rule("previous token", "random_previous_token", {"random_previous_token": LOOKS}),
)
"""The rules of names. Of the rules that hold for a head, the first about the task's words names it; if there is none,
the one with the largest score does.

Name movers attend from the scored position to the answer, copy it (or lower its logit), and have a direct effect on the
logit difference. S-inhibition heads attend from the scored position to the last mention of a repeated incorrect answer,
and are no previous token heads. Other heads attend on repeated random tokens as ``acdc.analysis.attention`` defines it.
"""
NAMES = tuple(rule.name for rule in RULES)


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of a table; nan in every row if the table lacks it."""
    return frame[name] if name in frame else pd.Series(np.nan, frame.index)


def holds(rule: Rule, frame: pd.DataFrame, logit_difference: float) -> pd.Series:
    """Return for each head whether a rule holds."""
    found = pd.Series(True, frame.index)
    for name, least in rule.least.items():
        found &= column(frame, name) >= least
    for name, most in rule.below.items():
        found &= column(frame, name) < most
    if rule.writes:
        found &= rule.sign * column(frame, "direct_effect") >= WRITES * abs(logit_difference)
    return found


def named(frame: pd.DataFrame, logit_difference: float) -> pd.DataFrame:
    """Return for every head the proposed name, its score, and the score's rank among all heads.

    Args:
        frame: the measurements of ``heads.head_frame``.
        logit_difference: the model's logit difference on the clean prompts; nan where prompts have no answers, and
            then no head is a mover.
    """
    held = pd.DataFrame({rule.name: holds(rule, frame, logit_difference) for rule in RULES})
    scores = pd.DataFrame({rule.name: column(frame, rule.score) for rule in RULES})
    signed = pd.DataFrame({rule.name: rule.sign * scores[rule.name] for rule in RULES})
    ranks = signed.rank(ascending=False, method="min")
    rows = []
    for i in frame.index:
        name = best([rule for rule in RULES if held.loc[i, rule.name]], signed.loc[i])
        rows.append((NONE, None, None) if name == NONE else (name, scores.loc[i, name], int(ranks.loc[i, name])))
    return pd.DataFrame(rows, columns=["name", "score", "rank"], index=frame.index).astype({"rank": "Int64"})


def best(held: list[Rule], scores: pd.Series) -> str:
    """Return the name to propose of the rules that hold for a head, see ``RULES``."""
    for rule in held:
        if rule.of_task:
            return rule.name
    return max(held, key=lambda rule: scores[rule.name]).name if held else NONE
