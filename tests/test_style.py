"""Test format and lint of Python, of Snakemake files and of the workflow as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKS = {
    "ruff check": ["ruff", "check", "--no-cache"],
    "ruff format": ["ruff", "format", "--check", "--no-cache"],
    "mypy": ["mypy"],
    "snakefmt": ["snakefmt", "--check", "Snakefile", "workflow"],
}
JUSTIFIED = {
    # Every rule needs the one environment that make or environment.yml has made before Snakemake itself can run.
    "Specify a conda environment or container for each rule.",
}


def run(*command: str) -> subprocess.CompletedProcess:
    settings = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run([sys.executable, "-P", "-m", *command], **settings)


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS)
def test_nothing_is_to_be_changed(command):
    result = run(*command)
    assert result.returncode == 0, result.stdout


def test_snakemake_has_only_complaints_that_are_justified():
    result = run("snakemake", "--lint")
    assert "Lints for rule" in result.stdout, result.stdout
    complaints = re.findall(r"^    \* (.*?):?$", result.stdout, re.MULTILINE)
    assert set(complaints) == JUSTIFIED, result.stdout
