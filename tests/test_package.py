"""The package builds, has its data and its types, and runs from an empty environment with nothing of the clone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import acdc
from tests.checkout import ROOT, Checkout, pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared() -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    found = [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]
    return {requirement.name: requirement for requirement in found}


def test_every_pin_is_a_dependency_and_within_its_range():
    versions, requirements = pins(), declared()
    assert versions.keys() - {"pip"} == requirements.keys()
    assert all(requirement.specifier.contains(versions[name]) for name, requirement in requirements.items())


def test_the_package_needs_all_that_it_imports():
    """Without extras: neither Snakemake nor what only tests use."""
    imported: set[str] = set()
    for path in (ROOT / "acdc").rglob("*.py"):
        if path.name != "study.py":  # the workflow's: extra `workflow`
            imported |= imported_by(path)
    names = {"yaml": "PyYAML", "jinja2": "Jinja2"}
    core = {Requirement(text).name for text in PROJECT["dependencies"]}
    # markupsafe is Jinja2's; IPython is imported where a notebook has imported it before.
    standard = sys.stdlib_module_names | {"acdc", "markupsafe", "IPython"}
    assert {names.get(name, name) for name in imported - standard} <= core


def imported_by(path: Path) -> set[str]:
    """The top-level names of what a file imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """The wheel and the sdist of a checkout."""
    checkout, folder = Checkout(tmp_path_factory.mktemp("package")), tmp_path_factory.mktemp("dist")
    result = checkout.run(sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", str(folder), ".")
    assert result.returncode == 0, result.stdout[-3000:]
    return folder


def test_wheel_and_sdist_have_every_file_of_the_package(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "acdc").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {"acdc/py.typed", "acdc/assets/words/names.txt", "acdc/assets/page/page.js"} <= files
    assert {name for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name} == files
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in names if name.startswith("acdc/")} == files
    assert wheel.name == f"acdc-{acdc.__version__}-py3-none-any.whl"


README = (ROOT / "README.md").read_text()
(PROGRAM,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "acdc.find(" in block)
"""The program that the README shows for notebooks."""
CHECKS = """
import sys

assert found._repr_html_().startswith("<iframe") and len(found.trace) > 100
assert found.evaluate(prompts[2:], seeds=1).circuit.tolist() == ["found", "full", "empty", "random"]
assert acdc.load("circuit.json").circuit == found.circuit
found.draw().savefig("circuit.png")
assert "site-packages" in acdc.__file__ and "snakemake" not in sys.modules
print(found)
"""


def test_the_notebook_users_program_runs_from_the_wheel_in_an_empty_environment(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")

    def run(*command: str | Path) -> str:
        settings = {"cwd": tmp_path, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run([*map(str, command)], **settings)
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin = tmp_path / "venv/bin"
    # Without the pins the newest torch would come, gigabytes of CUDA with it.
    options = ["--quiet", "--no-compile", "--constraint", ROOT / "requirements.txt"]
    run(bin / "python", "-m", "pip", "install", *options, wheel)
    installed = run(bin / "python", "-m", "pip", "list").lower()
    assert "snakemake" not in installed and "pytest" not in installed
    (tmp_path / "program.py").write_text(PROGRAM + CHECKS)
    said = run(bin / "python", "program.py")
    assert "Found(prompts on smollm2-135m-q4: ACDC by logit difference" in said
    assert f"{acdc.__version__}" in run(bin / "acdc", "--version")
    shown = run(bin / "acdc", "show", "circuit.json", "--most", "3")
    assert "of 71,101 edges" in shown
