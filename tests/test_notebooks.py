"""Test the notebooks: they run from the first cell to the last, and what is committed is what such a run gave."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.checkout import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLER = {
    "quickstart": {"prompts[:10], prompts[10:]": "prompts[:2], prompts[10:12]", "threshold=0.15": "threshold=0.6"},
    "your_prompts": {"threshold=0.3": "threshold=1"},
}
"""Replace these texts in the notebooks, so that their searches are shorter here. The cells are the same."""
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """Return the kinds of every cell's outputs, without what is said on the way."""
    kinds = []
    for cell in notebook.cells:
        given = cell.get("outputs", [])
        kinds.append({kind for output in given if output.output_type == "execute_result" for kind in output.data})
    return kinds


@each
def test_it_runs(path: Path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    text, committed = path.read_text(encoding="utf-8"), nbformat.read(path, 4)
    for committed_text, smaller in SMALLER[path.stem].items():
        assert text.count(committed_text) == 1
        text = text.replace(committed_text, smaller)
    notebook = nbformat.reads(text, 4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert outputs(notebook) == outputs(committed)


@each
def test_its_outputs_are_committed_and_have_no_error(path: Path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    kinds = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert any("<iframe srcdoc=" in str(output) for cell in cells for output in cell.outputs)
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
