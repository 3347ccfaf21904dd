"""Test shapes and types of annotations: run other tests once more, with every call of the core checked by beartype.

Checking makes a test several times slower, so these are the quick ones, and all of them: ACDC_SHAPES=1 pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.checkout import ROOT

FILES = (*("tests/test_data.py", "tests/test_metrics.py", "tests/test_graph.py", "tests/methods/test_sp.py"),)


def run(*arguments: str) -> subprocess.CompletedProcess:
    settings = {"cwd": ROOT, "env": {**os.environ, "ACDC_SHAPES": "1"}, "stdout": subprocess.PIPE, "text": True}
    return subprocess.run([sys.executable, *arguments], stderr=subprocess.STDOUT, **settings)


def test_the_quick_tests_pass_with_every_shape_checked():
    result = run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *FILES)
    assert result.returncode == 0, result.stdout[-3000:]


def test_a_wrong_type_is_noticed():
    floats = (
        "import tests.conftest, torch; from acdc.data import Dataset; x = torch.ones(2, 3); Dataset(x, x, x > 0, {})"
    )
    result = run("-c", floats)
    assert result.returncode == 1 and "TypeCheckError" in result.stdout, result.stdout[-3000:]
