"""Test format and lint of Python, of Snakemake files and of the workflow as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKS = {
    "ruff check": ["ruff", "check", "--no-cache"],
    "ruff format": ["ruff", "format", "--check", "--no-cache"],
    "mypy": ["mypy"],
    "snakefmt": ["snakefmt", "--check", "Snakefile", "workflow"],
}
NO_VERBS = {
    *("A", "An", "The", "This", "That", "These", "Those", "It", "One", "Some", "Something", "All", "Every", "Each"),
    *("What", "Which", "Who", "Whose", "When", "Where", "Whether", "Why", "How", "If", "There", "No", "None", "See"),
    *("About", "After", "Among", "At", "Before", "Beside", "Between", "By", "For", "From", "In", "Into", "Like", "Of"),
    *("On", "Over", "To", "Under", "Until", "Up", "With", "Within", "Without"),
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


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every docstring in a file: of the module, of classes and of functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


def is_imperative(word: str) -> bool:
    """Return whether a docstring's first word can be a verb in the imperative; plurals and "Returns" end with an s."""
    return word.istitle() and word not in NO_VERBS and not re.search(r"[^s]s$|ing$", word)


def test_every_docstring_of_the_package_begins_with_an_imperative():
    found = [place_and_text for path in sorted((ROOT / "acdc").rglob("*.py")) for place_and_text in docstrings(path)]
    assert len(found) > 1000
    assert [place for place, text in found if not is_imperative(text.split()[0].rstrip(",:"))] == []


@pytest.mark.parametrize("word", ("Circuits", "Returns", "Raises", "The", "What", "Of", "Commands", "Building", "it"))
def test_a_noun_or_another_form_of_a_verb_is_no_imperative(word):
    assert not is_imperative(word)
