"""Define the one error that users meet, and shorten those of libraries for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class InputError(Exception):
    """Something given to acdc is wrong. The message is one sentence: what is wrong, where, and the remedy."""


@contextmanager
def reading(path: Any, remedy: str) -> Iterator[None]:
    """Turn whatever libraries raise of a damaged file into one sentence that names it.

    A file that does not exist is left to whoever opened it.

    Args:
        remedy: what the user can do.
    """
    try:
        yield
    except (InputError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{path} is damaged or of another kind ({first_line(error)[:200]}): {remedy}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().split("\n")[0]
