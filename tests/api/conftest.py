"""Share a tiny GPT-2 of random weights, and prompts of its two words."""

from __future__ import annotations

from pathlib import Path

import pytest

import acdc
from acdc.catalogue import METRICS
from tests.small_models import build

CLEAN = ["one two one", "one one two", "two two one"]
CORRUPTED = ["two one two", "two one one", "one two one"]
ANSWERS = {"correct": [" one", " two", " one"], "incorrect": [" two", " one", " two"]}
COLUMNS = {"clean": CLEAN, "corrupted": CORRUPTED, **ANSWERS}


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    build("gpt2", path)
    return path


@pytest.fixture(scope="package")
def model(folder) -> acdc.Model:
    return acdc.load_model(folder)


@pytest.fixture(scope="package")
def data(model) -> acdc.Dataset:
    return acdc.prompts(model, **COLUMNS)


@pytest.fixture(scope="package")
def held_out(model) -> acdc.Dataset:
    rows = {"clean": ["two one one", "one two two"], "corrupted": ["one one two", "two two one"]}
    return acdc.prompts(model, **rows, correct=[" one", " two"], incorrect=[" two", " one"])


@pytest.fixture
def own_metrics():
    """Remove the metrics that a test declares after it."""
    yield METRICS.added
    METRICS.added.clear()
