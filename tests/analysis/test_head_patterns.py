"""Test the attention patterns of a page: they are those of the model's heads, and they stay small."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from acdc.analysis import attention, head_patterns
from acdc.analysis.head_patterns import STEPS
from acdc.engine.model import Engine
from tests.planted_heads import planted_engine
from tests.small_models import engine


@pytest.fixture(scope="module")
def planted() -> Engine:
    return planted_engine()


def decoded(text: str, n: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(n, n) / STEPS


def test_patterns_are_those_of_the_kept_heads(planted):
    kept = head_patterns.head_patterns(planted, None, {"a2.h0", "m0"})
    assert set(kept["patterns"]) == {"a2.h0"} and len(kept["prompts"]) == len(kept["patterns"]["a2.h0"]) == 4
    prompt, (clean, corrupted) = kept["prompts"][1], kept["patterns"]["a2.h0"][1]
    io, end = (prompt["labels"][name][0] for name in ("IO", "END"))
    assert decoded(clean, 4)[end, io] == pytest.approx(1, abs=0.01)
    assert decoded(corrupted, 4)[end, io] == pytest.approx(0.5, abs=0.01)
    assert prompt["clean"] == [str(token) for token in planted.dataset.clean[1].tolist()]


def test_a_prompt_ends_at_its_last_scored_token():
    of = engine("gpt2")
    kept = head_patterns.head_patterns(of, None, {"a1.h3"})
    assert [len(prompt["clean"]) for prompt in kept["prompts"]] == [4, 7, 6, 7]
    run, rows = attention.runs_of(of.weights, of.dataset, of.dataset.corrupted)
    whole = torch.cat(list(attention.patterns(of.weights, run, rows)))[7, 0, :4, :4]
    assert np.abs(decoded(kept["patterns"]["a1.h3"][0][1], 4) - whole.numpy()).max() <= 0.5 / STEPS + 1e-6


def test_few_prompts_are_kept_where_heads_are_many(planted, monkeypatch):
    monkeypatch.setattr(head_patterns, "MOST_BYTES", 2 * 2 * 16 * 2)
    assert len(head_patterns.head_patterns(planted, None, {"a2.h0", "a1.h0"})["prompts"]) == 2
    monkeypatch.setattr(head_patterns, "MOST_BYTES", 1)
    assert head_patterns.head_patterns(planted, None, {"a2.h0"}) == {"prompts": [], "patterns": {}}
