"""Define the error for bad input, and turn errors of libraries into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Report bad input in one sentence: what is wrong, where, and the remedy."""


@contextmanager
def reading(path: Any, remedy: str, is_no: str = "") -> Iterator[None]:
    """Turn any error of a library that reads a damaged file into an InputError that names the file.

    Errors of the operating system pass through, such as a missing file or a missing permission.

    Args:
        remedy: what the user can do.
        is_no: the kind of file that is expected, such as ``circuit as acdc writes it``, for the message.
    """
    try:
        if isinstance(path, Path) and not path.is_dir():
            path.open("rb").close()  # a missing file raises FileNotFoundError, not a library's error
        yield
    except (InputError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None and error.filename is not None and not isinstance(error, IsADirectoryError):
            raise
        raise damaged(path, error, remedy, is_no) from error
    except Exception as error:
        raise damaged(path, error, remedy, is_no) from error


def damaged(path: Any, error: Exception, remedy: str, is_no: str) -> InputError:
    """Return the InputError for a file that cannot be read, see ``reading``."""
    what = f"is no {is_no}" if is_no else "is damaged or of another kind"
    return InputError(f"{path} {what} ({reason_of(error)[:200]}): {remedy}")


def reason_of(error: Exception) -> str:
    """Return the reason for an error in words, also for a KeyError and for an error without a message."""
    if type(error) is KeyError and error.args:
        said = str(error.args[0])
        return said if " " in said else f"it lacks {said}"
    return first_line(error) or type(error).__name__


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().split("\n")[0]
