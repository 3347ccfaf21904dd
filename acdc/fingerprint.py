"""Tell code and weights from others by their bytes, so that no result is taken for that of another code or model.

The fingerprint of some modules is the SHA-256 of their sources and of those of every module of the package that they
import, however deep. What computes nothing is left out: the catalogue (names and labels), figures, command line.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from acdc import catalogue

PACKAGE = Path(__file__).parent
COMPUTES_NOTHING = ("acdc", "acdc.catalogue", "acdc.errors", "acdc.fingerprint", "acdc.cli", "acdc.figures")
DIGESTS = "sha256.txt"
"""In a model's folder: the SHA-256 of its files, from when it was made."""


def of_search(method: str, metric: str, ablation: str) -> str:
    """Return the fingerprint of the code by which a method finds circuits.

    Args:
        method, metric, ablation: names in the catalogue.
    """
    entries = (catalogue.METHODS[method], catalogue.METRICS[metric], catalogue.ABLATIONS[ablation])
    return code("acdc.engine.load", "acdc.methods.driver", *(entry.source for entry in entries))


def code(*modules: str) -> str:
    """Return the SHA-256 of these modules and of all of the package that they import."""
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        digest.update(f"{name}\n".encode() + path_of(name).read_bytes())
    return digest.hexdigest()


def closure(modules: tuple[str, ...]) -> set[str]:
    """Return these modules and all of the package that they import."""
    found: set[str] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in found and not any(name == n or name.startswith(f"{n}.") for n in COMPUTES_NOTHING[1:]):
            found.add(name)
            todo += imported(name)
    return found - {"acdc"}


@cache
def imported(module: str) -> tuple[str, ...]:
    """Return the modules of the package that a module imports anywhere in its source."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What is imported from a package may be a module of it.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(name for name in names if name.startswith("acdc.") and path_of(name).exists()))


def path_of(module: str) -> Path:
    """Return the file of a module of the package or of an extension; it need not exist."""
    if module.startswith("acdc_extension_"):
        return extension_path(module.removeprefix("acdc_extension_"))
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def extension_path(name: str) -> Path:
    """Return where an extension of that name is; it need not exist."""
    return catalogue.EXTENSIONS / f"{name}.py"


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_model(folder: Path) -> str:
    """Return the SHA-256 of a model's folder: of all its files, by name.

    What ``write_digests`` wrote is taken where it is of these very files and none has changed since, for weights take
    long to read.
    """
    text = (folder / DIGESTS).read_text(encoding="utf-8") if is_current(folder) else digests(folder)
    return hashlib.sha256(text.encode()).hexdigest()


def is_current(folder: Path) -> bool:
    """Return whether the list of digests is of the folder's files as they are.

    A file's change time tells more than its modification time, which a move or a copy may bring along.
    """
    known = folder / DIGESTS
    if not known.exists():
        return False
    listed = [line.partition("  ")[2] for line in known.read_text(encoding="utf-8").splitlines()]
    files = list(files_of(folder))
    unchanged = all(path.stat().st_ctime_ns < known.stat().st_ctime_ns for path in files)
    return unchanged and listed == [str(path.relative_to(folder)) for path in files]


def write_digests(folder: Path) -> None:
    """Write the SHA-256 of every file of a model's folder beside them."""
    (folder / DIGESTS).write_text(digests(folder), encoding="utf-8")


def digests(folder: Path) -> str:
    return "".join(f"{of_file(path)}  {path.relative_to(folder)}\n" for path in files_of(folder))


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder by name, but for the list of their digests."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != DIGESTS)
