"""Read what a task's file declares without importing it, so that a config is checked before torch is loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from acdc import fingerprint
from acdc.catalogue import OF_TEXT
from acdc.errors import InputError

N_GIVEN = 3
"""The number of arguments of ``make_dataset`` that are not options: tokenizer, n_prompts, seed."""
TYPES: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "None": NoneType}
"""The types of options that are checked."""


class UnreadableError(Exception):
    """Signal that a value cannot be read from the source because it is computed."""


@dataclass
class Source:
    """Look up names at the top level of a Python file, and of the files in the package that it imports from."""

    module: str | Path
    assigned: dict[str, ast.expr | ast.FunctionDef | ast.ClassDef] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = fingerprint.path_of(self.module)
        try:
            body = ast.parse(path.read_text(encoding="utf-8")).body
        except (SyntaxError, ValueError) as error:
            raise InputError(f"task file {path} is no Python: {error}") from error
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.assigned[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.assigned[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                self.assigned[node.target.id] = node.value
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.imported |= {alias.asname or alias.name: node.module for alias in node.names}

    def find(self, name: str) -> tuple[Source, Any]:
        """Return the syntax tree that a name stands for, and the source file that defines it."""
        if name in self.assigned:
            return self, self.assigned[name]
        module = self.imported.get(name, "")
        if module.partition(".")[0] != "acdc" or not fingerprint.path_of(module).exists():
            raise UnreadableError
        return Source(module).find(name)

    def value(self, node: ast.expr) -> Any:
        """Return the value of a literal, or of a name that is assigned one."""
        if isinstance(node, ast.Name):
            source, found = self.find(node.id)
            return source.value(found)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            raise UnreadableError from None

    def keys(self, node: ast.expr) -> list[Any]:
        """Return the keys of a dictionary literal, or of a name that is assigned one."""
        if isinstance(node, ast.Name):
            source, found = self.find(node.id)
            return source.keys(found)
        if not isinstance(node, ast.Dict) or None in node.keys:
            raise UnreadableError
        return [self.value(key) for key in node.keys if key]

    def arguments(self, node: ast.expr) -> dict[str, str]:
        """Return the arguments of a function or of a method, with their types, by name."""
        skip = 0
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
            method, node, skip = node.attr, node.value.func, 1
            if not isinstance(node, ast.Name):
                raise UnreadableError
            found = next((part for part in self.class_body(node.id) if getattr(part, "name", "") == method), None)
        else:
            found = self.find(node.id)[1] if isinstance(node, ast.Name) else None
        if not isinstance(found, ast.FunctionDef) or found.args.kwarg:
            raise UnreadableError
        given = found.args
        every = (*given.posonlyargs, *given.args, *given.kwonlyargs)[skip:]
        return {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in every}

    def class_body(self, name: str) -> Sequence[ast.stmt]:
        """Return the statements in the body of a class."""
        found = self.find(name)[1]
        return found.body if isinstance(found, ast.ClassDef) else []


class Declaration:
    """Read the arguments of ``TASK = Task(...)`` in a file. A property is None where the source does not tell.

    Args:
        module: the module, as ``acdc.tasks.ioi``, or the path of the file.

    Raises:
        InputError: the file is no Python.
    """

    def __init__(self, module: str | Path) -> None:
        self.source = Source(module)
        call = self.source.assigned.get("TASK")
        is_task = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Task"
        given = call.keywords if isinstance(call, ast.Call) and is_task and not call.args else None
        self.given = None if given is None else {keyword.arg: keyword.value for keyword in given if keyword.arg}

    def read(self, key: str, how: Any, default: Any) -> Any:
        """Return a keyword argument of ``Task``, read by ``how``; the default where it is not given."""
        if self.given is None:
            return None
        if key not in self.given:
            return default
        try:
            return how(self.given[key])
        except UnreadableError:
            return None

    @cached_property
    def options(self) -> dict[str, str] | None:
        """Return the options of ``make_dataset`` and their types; None where the source does not tell."""
        arguments: dict[str, str] | None = self.read("make_dataset", self.source.arguments, None)
        return None if arguments is None else dict(list(arguments.items())[N_GIVEN:])

    @cached_property
    def metrics(self) -> Sequence[str] | None:
        """Return the names of the task's own metrics; None where the source does not tell."""
        found: Sequence[str] | None = self.read("metrics", self.source.value, OF_TEXT)
        return found

    @cached_property
    def known(self) -> list[str] | None:
        """Return the models for which the task has a known circuit; None where the source does not tell."""
        found: list[str] | None = self.read("known_circuits", self.source.keys, [])
        return found

    @cached_property
    def made_for(self) -> Sequence[str] | None:
        """Return the models of ``acdc/models/toy`` that the task is made for; None where the source does not tell."""
        found: Sequence[str] | None = self.read("made_for", self.source.value, ())
        return found

    @cached_property
    def n_distinct(self) -> int | None:
        """Return the number of distinct prompts of the task; None where it has no limit or the source does not tell."""
        found: int | None = self.read("n_distinct", self.source.value, None)
        return found


# Checks of a task's options, metrics and known circuits.


def check_options(task: str, known: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Check that a task has the given options and that their values are of the right type; raise InputError if not.

    Args:
        known: the type of every option, by its name, as the signature writes it.
    """
    for option, value in given.items():
        if option not in known:
            raise InputError(f"task {task} has no option {option!r}: it has {', '.join(known) or 'none'}")
        types = known[option].split(" | ")
        if set(types) <= set(TYPES) and not any(isinstance(value, TYPES[name]) for name in types):
            raise InputError(f"task {task}: option {option} is {known[option]}, not {value!r}")


def check_metrics(task: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Check that a task has the given metrics; raise InputError if not."""
    names = list(known)
    unknown = [metric for metric in given if metric not in names]
    if unknown:
        raise InputError(f"task {task} has no metric {unknown[0]!r}: it has {', '.join(names)}")


def check_known(task: str, known: Iterable[str], model: str) -> None:
    """Check that a task has a known circuit for a model; raise InputError if not."""
    names = list(known)
    if model not in names:
        others = f"only of {', '.join(names)}" if names else "of no model"
        raise InputError(
            f"task {task}: no circuit is known of model {model!r}, {others}: leave known_circuit out of the config"
        )
