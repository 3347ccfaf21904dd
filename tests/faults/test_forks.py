"""Test that a forked command does what it does by itself, whatever the tests before it did in their process."""

from __future__ import annotations

import torch

from tests.faults import forks
from tests.faults.small_study import CIRCUITS
from tests.faults.table import a_copy
from tests.pretend_device import PretendDevice


def test_a_child_computes_gradients_after_this_process_did_beside_a_device():
    with PretendDevice():
        torch.ones(1, requires_grad=True).backward()
    with a_copy() as folder:
        ended = forks.run([*CIRCUITS, "--out", "again"], folder)
        assert ended.status == 0, ended.err
        scores = [(folder / place / "eap/scores.csv").read_bytes() for place in ("found", "again")]
        assert scores[0] == scores[1]
