"""Test docs/promises.md: the tests that it names exist."""

from __future__ import annotations

import re

import pytest

from tests.checkout import ROOT

NAMED = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs/promises.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_promise_is_held_by_a_test_that_exists(file, name):
    assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_promise_is_held():
    rows = [line for line in (ROOT / "docs/promises.md").read_text().splitlines() if line.startswith("| **")]
    assert rows and all("::" in row for row in rows)
