"""Write files and folders whole or not at all, and check before any compute that they can be written."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from acdc.errors import InputError

IN_WORDS = re.compile(r"(?:os error |\[Errno )(\d+)(?:\][^:]*: '([^']*)')?")
"""The pattern by which messages of safetensors and shutil state the number of an operating system's error."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors that only writing can cause, whichever file they name."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` at the end, so that a kill or a full disk leaves no partial file.

    Raises:
        OSError: the file cannot be written. The error names ``path``, whichever library wrote.
    """
    with naming(path), beside(path) as partial:
        yield partial
        os.replace(partial, path)


def write_text(text: str, path: Path) -> None:
    """Write a text file in UTF-8, whole or not at all, see ``whole``."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


@contextmanager
def whole_folder(path: Path, made_by_us: str) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path``, and the folder that is there, at the end.

    Args:
        made_by_us: the name of a file that marks a folder as written by acdc, so that it may be replaced.

    Raises:
        InputError: the folder holds other files, which would be lost.
        OSError: the folder cannot be written.
    """
    check_folder_output(path)
    if path.exists() and any(path.iterdir()) and not (path / made_by_us).exists():
        raise InputError(f"{path} holds something other than {made_by_us} and its files: empty it, or give another one")
    with naming(path), beside(path) as partial:
        partial.mkdir()
        yield partial
        if path.exists():
            # A folder cannot be replaced in one step. What was there is moved into the one that is removed at the end.
            old = partial.with_suffix(".old")
            os.rename(path, old)
            os.rename(partial, path)
            shutil.rmtree(old)
        else:
            os.rename(partial, path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a path, and remove it at the end with those of processes that were killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
    finally:
        remove(partial)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of a path whose processes no longer run."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not is_running(int(process)):
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Return whether a process with this id runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the intended path, not a temporary one, in errors of the operating system."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number, file = system_error(error)
        if number is None:
            raise
        is_ours = file is None or number in FULL or f".{path.name}.{os.getpid()}." in file
        raise OSError(number, os.strerror(number), str(path) if is_ours else file) from error


def system_error(error: Exception) -> tuple[int | None, str | None]:
    """Return the number and the file of an operating system's error, also if only a library's message has them."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, None if error.filename is None else os.fsdecode(error.filename)
    said = IN_WORDS.search(str(error))
    return (int(said[1]), said[2]) if said else (None, None)


# Checks before any compute.


def check_outputs(files: Path | Sequence[Path] | None) -> None:
    """Check that files can be written; raise OSError if one cannot."""
    for path in [files] if isinstance(files, Path) else files or []:
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        check_folder_output(path.parent)


def check_folder_output(folder: Path | None) -> None:
    """Check that files can be written into a folder, which need not exist; raise OSError if not."""
    if folder is None:
        return
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(there))


REMEDIES = {
    errno.ENOENT: "does not exist",
    errno.EISDIR: "is a folder and a file should be there: move it, or give another path",
    errno.ENOTDIR: "is a file and a folder should be there: move it, or give another path",
    errno.EEXIST: "is a file and a folder should be there: move it, or give another path",
    errno.EACCES: "may not be read or written by you: change its permissions, or give another path",
    errno.EPERM: "may not be read or written by you: change its permissions, or give another path",
    errno.EROFS: "is on a disk that cannot be written to: give another path",
    errno.ENOSPC: "cannot be written, for the disk is full: free some space and run the same command again",
    errno.EDQUOT: "cannot be written, for your share of the disk is full: free some and run the same command again",
    errno.EFBIG: "cannot be written, for it is larger than a file may be here: give another path, or raise the limit",
    errno.ENAMETOOLONG: "has too long a name: give a shorter path",
}


def sentence_of(error: OSError) -> str:
    """Return one sentence for an error of the operating system: the path, what is wrong with it, and the remedy."""
    reason = error.strerror or str(error).partition("\n")[0]
    if error.filename is None:
        return f"the system refuses ({reason}): check the disk and the paths"
    known = REMEDIES.get(error.errno or 0)
    return f"{os.fsdecode(error.filename)} {known or f'cannot be read or written ({reason}): check the path and disk'}"
