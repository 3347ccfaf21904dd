"""Compute fingerprints of code, data and weights, so that no result is reused for other ones.

The fingerprint of a module is the SHA-256 of its source and of the sources of all modules of the package that it
imports, directly or not. Modules that compute nothing are left out: the catalogue (names and labels), figures and the
command line.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from acdc import catalogue
from acdc.errors import InputError, reading
from acdc.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = Path(__file__).parent
COMPUTES_NOTHING = (
    *("acdc", "acdc.catalogue", "acdc.errors", "acdc.fingerprint"),
    *("acdc.cli", "acdc.figures", "acdc.views", "acdc.exchange"),
)
DIGESTS = "sha256.txt"
"""The file in a model's folder that lists the SHA-256 of its files at the time when it was made."""
MADE_AGAIN = "make the model again by `acdc model`"


def of_search(method: str, metric: str, ablation: str) -> str:
    """Return the fingerprint of the code by which a method finds circuits, and of its settings' defaults.

    Args:
        method, metric, ablation: names in the catalogue.
    """
    entries = (catalogue.METHODS[method], catalogue.METRICS[metric], catalogue.ABLATIONS[ablation])
    found_by = code("acdc.engine.load", "acdc.methods.driver", *(entry.source for entry in entries))
    defaults = json.dumps({setting.name: setting.default for setting in entries[0].settings})
    function = catalogue.METRICS[metric].function
    return of_text(found_by + defaults + (of_function(function) if function else ""))


def code(*modules: str | Path) -> str:
    """Return the SHA-256 of modules or files, and of every module of the package that they import."""
    digest = hashlib.sha256()
    for name in sorted(set().union(*map(closure, modules)), key=str):
        digest.update(f"{name}\n".encode() + path_of(name).read_bytes())
    return digest.hexdigest()


@cache
def closure(module: str | Path) -> frozenset[str | Path]:
    """Return a module or a file, and every module of the package that it imports, directly or not."""
    found: set[str | Path] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        left_out = any(name == n or str(name).startswith(f"{n}.") for n in COMPUTES_NOTHING[1:])
        if name not in found and not left_out:
            found.add(name)
            todo += imported(name)
    return frozenset(found - {"acdc"})


@cache
def imported(module: str | Path) -> tuple[str, ...]:
    """Return the modules of the package that a module imports anywhere in its source, except for types alone."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    names = set()
    for node in run_nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What is imported from a package may be a module of it.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(name for name in names if name.startswith("acdc.") and path_of(name).exists()))


def run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a node of a syntax tree, except those under ``if TYPE_CHECKING``, which never runs."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from run_nodes(child)


def path_of(module: str | Path) -> Path:
    """Return the file of a module of the package or of an extension; return a path unchanged. It need not exist."""
    if isinstance(module, Path):
        return module
    if module.startswith("acdc_extension_"):
        return extension_path(module.removeprefix("acdc_extension_"))
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def extension_path(name: str) -> Path:
    """Return the path of the extension of that name, which need not exist."""
    return catalogue.EXTENSIONS / f"{name}.py"


def of_text(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_tensors(tensors: Mapping[str, Tensor], beside: str = "") -> str:
    """Return the SHA-256 of tensors (names, types, shapes and values) and of a text."""
    digest = hashlib.sha256(beside.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def of_function(function: Callable[..., Any]) -> str:
    """Return the SHA-256 of a function: its code, and the values and functions of its module that it uses.

    If a value cannot be identified, the SHA-256 is another one each time, so that nothing is reused by mistake.
    """
    digest = hashlib.sha256()
    for part in parts_of(function, getattr(function, "__module__", "__main__"), set()):
        digest.update(part)
    return digest.hexdigest()


def parts_of(value: Any, module: str, seen: set[int]) -> Iterator[bytes]:
    """Yield bytes that identify a value; functions of the given module are identified by their code."""
    if id(value) in seen:
        return
    if isinstance(value, CodeType):
        yield value.co_code + repr(value.co_names).encode()
        for constant in value.co_consts:
            yield from parts_of(constant, module, seen)
    elif isinstance(value, FunctionType) and value.__module__ == module:
        seen.add(id(value))
        read = [value.__globals__[name] for name in names_in(value.__code__) if name in value.__globals__]
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        for part in (value.__code__, value.__defaults__, value.__kwdefaults__, *cells, *read):
            yield from parts_of(part, module, seen)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
    elif hasattr(value, "detach"):  # a tensor, whose pickle differs each time
        yield of_tensors({"": value}).encode()
    else:
        yield pickled(value)


def names_in(code: CodeType) -> list[str]:
    """Return the names that a function's code, and the functions inside it, look up."""
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return sorted({*code.co_names, *chain.from_iterable(inner)})


def pickled(value: Any) -> bytes:
    """Return the pickle of a value; random bytes if its pickle does not identify it."""
    kind = value if isinstance(value, type) else type(value)
    try:
        return pickle.dumps(value) if kind.__module__ != "__main__" else os.urandom(32)
    except (pickle.PicklingError, TypeError, AttributeError):
        return os.urandom(32)


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_model(folder: Path) -> str:
    """Return the SHA-256 of a model's folder: of the names and contents of all its files.

    Weights take long to read. So the list of ``write_digests`` is used where ``is_current`` says that it holds.
    """
    return of_text((folder / DIGESTS).read_text(encoding="utf-8") if is_current(folder) else digests(folder))


def is_current(folder: Path) -> bool:
    """Return whether the folder's list of digests is newer than all its files and names all of them.

    A file's change time tells more than its modification time, which a move or a copy may bring along.
    """
    known = folder / DIGESTS
    if not known.exists():
        return False
    listed = [line.partition("  ")[2] for line in known.read_bytes().decode(errors="replace").splitlines()]
    files = list(files_of(folder))
    unchanged = all(path.stat().st_ctime_ns < known.stat().st_ctime_ns for path in files)
    return unchanged and listed == [str(path.relative_to(folder)) for path in files]


def check_model(folder: Path) -> None:
    """Check that the files of a model's folder are as listed by ``write_digests``, if it has that list.

    Raises:
        InputError: a file was changed since, is gone or is new, or the list is damaged.
    """
    known = folder / DIGESTS
    if not known.exists() or is_current(folder):
        return
    with reading(known, MADE_AGAIN):
        lines = known.read_text(encoding="utf-8").splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = {str(path.relative_to(folder)): path for path in files_of(folder)}
    for name in sorted({*listed, *there}):
        if name not in there or name not in listed or listed[name] != of_file(there[name]):
            what = "is gone" if name not in there else "is not as acdc wrote it" if name in listed else "is new"
            raise InputError(f"{folder / name} {what}: {MADE_AGAIN} or, if you changed it yourself, remove {known}")


def write_digests(folder: Path) -> None:
    """Write the SHA-256 of every file in a model's folder to a list in that folder."""
    write_text(digests(folder), folder / DIGESTS)


def digests(folder: Path) -> str:
    return "".join(f"{of_file(path)}  {path.relative_to(folder)}\n" for path in files_of(folder))


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files of a model's folder by name, without hidden files and the list of digests.

    Snakemake puts a hidden file into every folder that a job makes.
    """
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path.name != DIGESTS and not is_hidden:
            yield path
