"""Copy the repository, so that a test runs commands in it as a user does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from acdc.tables import read_table
from tests import forked

ROOT = Path(__file__).parent.parent
CONFIG = "workflow/config/test.yaml"
SMALL: dict[str, Any] = yaml.safe_load((ROOT / CONFIG).read_text())
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *(ROOT / folder / "README.md" for folder in ("acdc/assets/words", "data", "figures", "results")),
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("tests/vectors/**/README.md")),
]
"""The documentation."""
SNAKEMAKE = [sys.executable, "-P", "-m", "snakemake"]
BY_ANOTHER = "import sys; sys.executable = sys.argv.pop(1); from snakemake.cli import main; main()"
"""Snakemake, which takes its first argument for the interpreter that runs it."""


def pins() -> dict[str, str]:
    """Return the exact versions of requirements.txt by package."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@cache
def quick_python() -> str:
    """Return an interpreter that starts jobs quickly, see ``tests.forked``."""
    if sys.platform != "linux":
        return sys.executable
    folder = Path(tempfile.mkdtemp())
    forked.start(folder)
    return str(folder / "python")


class Checkout:
    """Hold a copy of the repository's files, without what is generated, and start commands in it as a user does."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a command. Its errors are part of the output, for Snakemake writes them to either."""
        settings = {"env": os.environ | environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, cwd=self.root, text=True, **settings)

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-P", "-c", BY_ANOTHER, quick_python(), *arguments, **environment)

    def acdc(self, *arguments: str | Path) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "acdc", *map(str, arguments))

    def start(self, *command: str) -> psutil.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return psutil.Popen(command, cwd=self.root, **quiet)

    def write(self, name: str, text: str) -> str:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)
        return name

    def overlay(self, name: str, config: dict[str, Any]) -> str:
        return self.write(name, yaml.safe_dump(config))

    def table(self, name: str) -> pd.DataFrame:
        return read_table(self.root / name)

    def circuit(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / name).read_text())
