"""Test damage to every file that a command reads: it ends in one sentence, or in the right result; nothing is lost."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.damage import Damage, flipped, of_bytes, of_text, places, with_entry
from tests.faults.small_study import FOUND
from tests.faults.table import NODES, REFUSED, RIGHT, STAGES, TRACE, Stage, cases, outcome, study

BY_NAME = {stage.name: stage for stage in STAGES}


EVERY = 1 if os.environ.get("ACDC_ALL_FAULTS") else 3
"""Every so many-th case is tried. All of them take two minutes: ``python -m tests.faults`` tries and counts them."""


@pytest.mark.parametrize("case", list(cases())[::EVERY], ids=lambda case: case.name)
def test_a_damaged_file_is_refused_in_one_sentence_or_harmless(case):
    damage = case.stage.reads[case.file][case.damage]
    assert outcome(case.stage.arguments, case.file, damage) in (REFUSED, RIGHT)


# Hypothesis draws the damage. Each of these files tells, by a digest or otherwise, whether it is as it was written.

READ_BY = {
    "evaluation.csv": "faithfulness",
    "recovery.csv": "auc",
    "auc.csv": "auc-tables",
    "behaviour.csv": "readable",
    TRACE: "log",
    NODES: "page",
    FOUND: "diff",
    "data/discovery.safetensors": "circuits",
    "planted/engine.safetensors": "circuits",
    "begun/acdc/0.01/checkpoint.pt": "circuits, begun",
    "eap.pt": "import eap_pt",
}
quick = settings(max_examples=4)


def check(stage: Stage, file: str, damage: Damage) -> None:
    assert outcome(stage.arguments, file, damage) in (REFUSED, RIGHT)


@pytest.mark.parametrize(("file", "stage"), READ_BY.items())
@given(where=st.floats(0, 1), bit=st.integers(0, 7))
@quick
def test_a_flipped_bit_is_told(file, stage, where, bit):
    check(BY_NAME[stage], file, of_bytes(lambda data: flipped(data, where, bit)))


@pytest.mark.parametrize(("file", "stage"), READ_BY.items())
@given(where=st.floats(0, 1))
@quick
def test_a_cut_anywhere_is_told(file, stage, where):
    check(BY_NAME[stage], file, of_bytes(lambda data: data[: int(where * len(data))]))


@pytest.mark.parametrize("file", [file for file in READ_BY if file.endswith(".csv")])
@given(data=st.data())
@quick
def test_rows_that_are_gone_are_told(file, data):
    lines = (study() / file).read_text().splitlines(keepends=True)
    kept = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    text = "".join(line for line, is_kept in zip(lines, kept, strict=True) if is_kept)
    check(BY_NAME[READ_BY[file]], file, of_text(lambda _: text))


ENTRIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.mark.parametrize(("file", "stage"), [(FOUND, "diff"), (FOUND, "nodes"), ("planted/native.json", "behaviour")])
@given(data=st.data(), entry=ENTRIES)
@quick
def test_another_entry_in_json_is_told(file, stage, data, entry):
    written = json.loads((study() / file).read_text())
    at = data.draw(st.sampled_from(list(places(written))))
    check(BY_NAME[stage], file, of_text(lambda _: json.dumps(with_entry(written, at, entry))))
