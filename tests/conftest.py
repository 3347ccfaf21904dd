"""Set up every test: one thread, and the same random cases every time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

if TYPE_CHECKING:
    from selenium import webdriver

    from tests.checkout import Checkout

CHECKED = (
    *("engine", "methods", "metrics", "data", "graph", "ablation", "reference", "analysis"),
    *("models.bridge", "models.reset"),
)
"""Modules whose annotations of shapes and types are checked at every call where ACDC_SHAPES=1: tests/test_shapes.py."""
if os.environ.get("ACDC_SHAPES") == "1":
    # The hook must be there before any of them is imported: nothing above imports acdc.
    install_import_hook([f"acdc.{name}" for name in CHECKED], "beartype.beartype")

# The tests are the same on every machine: what a GPU does is for `make gpu-report`.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Tiny tensors are no faster on several threads.
torch.set_num_threads(1)
settings.register_profile("acdc", deadline=None, derandomize=True, max_examples=8)
settings.load_profile("acdc")


FIRST = (
    *("test_workflow.py", "test_notebooks.py", "test_package.py"),
    *("test_paper_config.py", "test_table.py", "test_kills.py", "test_extending.py", "test_style.py"),
)
"""Files whose tests take longest: started last, one worker would wait for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave shapes and types unchecked, as they are for users, so that a test sees what the code itself refuses."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout without any generated file, for dry runs and for what is refused."""
    from tests.checkout import Checkout

    return Checkout(tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    """Return a Chromium of the test's own: a page may write to the console's log after the test that opened it."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver on PATH")
    from tests.chromium import chromium

    with chromium("1300,900") as chrome:
        yield chrome
