"""Download models and files of prompts from the Hugging Face hub, with one sentence for each way to fail.

Files are kept in the hub's own cache, which Transformers shares. So whole files are not downloaded again after a
failure, and without a network the cached files are used. Torch is not needed.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from socket import gaierror
from typing import TYPE_CHECKING

from huggingface_hub import constants, hf_hub_download, model_info
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from acdc import fingerprint
from acdc.errors import InputError, first_line
from acdc.models.files import CONFIG, LEGACY_WEIGHTS, WEIGHTS, check_config, check_weights, is_legacy

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

SMALL = ("*.json", "*.model", "*.txt")
"""The files to download first: config and tokenizer, by which a model may be refused before weights are downloaded."""
LARGE = (WEIGHTS, LEGACY_WEIGHTS)
"""The files to download next: weights in formats that can be loaded, outside of folders."""

LOG_IN = "log in by `hf auth login` or set HF_TOKEN"
NO_ACCESS = ("there is no such repository, or it is private", f"check the name and, for a private one, {LOG_IN}")
UNREACHABLE = ("it can not be reached", "check the network, HF_ENDPOINT and the proxy settings")
NO_HUB = ("what answers is no hub", "open a page in a browser, for networks with a login, and check HF_ENDPOINT")
REASONS: dict[type[BaseException], tuple[str, str]] = {
    GatedRepoError: ("it is gated", f"accept its terms on its page there, and {LOG_IN}"),
    RepositoryNotFoundError: NO_ACCESS,
    DisabledRepoError: ("it is disabled there", "take another model"),
    RevisionNotFoundError: ("there is no such revision", "check the revision"),
    RemoteEntryNotFoundError: ("there is no such file", "take a repository with the files that save_pretrained writes"),
    OfflineModeIsEnabled: ("it is not in the cache and HF_HUB_OFFLINE is set", "download it once without"),
    HFValidationError: ("that is no name of a repository", "give it as owner/name"),
    FileMetadataError: NO_HUB,
    json.JSONDecodeError: NO_HUB,
    TimeoutError: (
        "it does not answer",
        "try again later, or wait longer by HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT, in seconds",
    ),
    gaierror: UNREACHABLE,
    ConnectionError: UNREACHABLE,
    ssl.SSLError: UNREACHABLE,
}
"""The meaning of errors of the network, and the remedy, special kinds before general ones."""
STATUS: dict[int, tuple[str, str]] = {
    401: ("it refuses access", f"check the name and, where HF_TOKEN is set, the token, or {LOG_IN}"),
    403: ("it refuses access", LOG_IN),
    429: ("it takes no more requests for now", f"wait some minutes, or {LOG_IN}"),
}
"""The meaning of an HTTP status of the hub, and the remedy."""


def downloaded(name: str, revision: str, instead: str) -> Path:
    """Return the folder of a model in the hub's cache, after downloading the files that are missing there.

    Downloaded files are compared with the digests that the hub states. A folder that was compared once is used as it
    is: the hub is not asked again about a commit, and about a branch only for its commit. If the hub does not answer,
    the cached files are used.

    Args:
        name: the name of the repository, ``owner/name``.
        revision: the branch, tag or commit.
        instead: what the user can do if the hub cannot be reached, for the message.

    Raises:
        InputError: the hub cannot be reached or has no such model, or the model cannot be loaded.
    """
    repository = Repository(name, revision, instead)
    folder = repository.cached()
    if folder and folder.name == revision and fingerprint.is_current(folder):
        return folder
    try:
        commit, files = repository.stated()
    except InputError as error:
        return repository.as_cached(folder, error)
    if not folder or folder.name != commit:
        folder = repository.get(CONFIG, revision).parent
    if not fingerprint.is_current(folder):
        with named(folder, str(repository)):
            repository.fill(folder, files)
            check_digests(folder, files)
    return folder


def file_of_dataset(name: str, revision: str, file: str) -> Path:
    """Return the path of a dataset's file in the hub's cache, after downloading it if it is missing there.

    The hub is not asked again about a commit, and about a branch only for its commit.

    Raises:
        InputError: the hub can not be reached, or has no such dataset, revision or file.
    """
    what = f"{file} of dataset {name} (revision {revision})"
    with saying(what, "give a local file with the key 'prompts'"):
        try:
            return Path(hf_hub_download(name, file, revision=revision, repo_type="dataset"))
        except RemoteEntryNotFoundError:
            raise InputError(f"{what} is not there: see the dataset's page for its files") from None


@dataclass(frozen=True)
class Repository:
    """Name a repository of the hub at a revision.

    Attributes:
        name: the name of the repository, ``owner/name``.
        revision: the branch, tag or commit.
        instead: what the user can do if the hub cannot be reached, for the message.
    """

    name: str
    revision: str
    instead: str

    def __str__(self) -> str:
        return f"model {self.name} (revision {self.revision})"

    def cached(self) -> Path | None:
        """Return the repository's folder in the hub's cache; None if there is none."""
        with saying(str(self), self.instead), suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(self.name, CONFIG, revision=self.revision, local_files_only=True)).parent
        return None

    def as_cached(self, folder: Path | None, why: InputError) -> Path:
        """Return the cached folder when the hub does not answer; raise the given error if it holds no whole model."""
        if folder is None:
            raise why
        try:
            if not fingerprint.is_current(folder):
                with named(folder, str(self)):
                    check(folder, [path.name for path in folder.iterdir()])
        except InputError as lacking:
            raise InputError(f"{why}; what is cached is not enough: {lacking}") from why
        if not constants.is_offline_mode():
            warnings.warn(f"{why}. What is cached is used.", stacklevel=4)
        return folder

    def stated(self) -> tuple[str | None, dict[str, RepoSibling]]:
        """Return the commit, and the hub's facts about each file by name, for files outside of folders."""
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        with saying(str(self), self.instead):
            info = model_info(self.name, revision=self.revision, files_metadata=True, timeout=timeout)
        return info.sha, {file.rfilename: file for file in info.siblings or [] if "/" not in file.rfilename}

    def fill(self, folder: Path, files: Mapping[str, RepoSibling]) -> None:
        """Download the files that the folder lacks: config and tokenizer, then, if the model can be loaded, weights."""
        for name in matching(files, SMALL):
            self.get(name, folder.name)
            compare(folder, name, fingerprint.of_file(folder / name), files[name])
        check(folder, files)
        for name in matching(files, LARGE):
            self.get(name, folder.name)

    def get(self, file: str, revision: str) -> Path:
        """Download a file if the cache lacks it, and return its path there."""
        with saying(f"{file} of {self}", self.instead):
            return Path(hf_hub_download(self.name, file, revision=revision))


def others(_: str, names: list[str]) -> list[str]:
    """Return the files in a folder of the cache that are not the model's, to leave them out of a copy."""
    wanted = matching(names, (*SMALL, *LARGE))
    return [name for name in names if name not in wanted or name == fingerprint.DIGESTS]


def matching(names: Collection[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns."""
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def check(folder: Path, names: Collection[str]) -> None:
    """Check by its config and the names of its files that a model can be loaded; raise InputError if not."""
    if not is_legacy(folder):
        check_config(folder)
        check_weights(folder, names)
    elif not matching(names, [LEGACY_WEIGHTS]):
        raise InputError(f"model folder {folder} has a {CONFIG} of TransformerLens 1.x and no weights {LEGACY_WEIGHTS}")


def check_digests(folder: Path, files: Mapping[str, RepoSibling]) -> None:
    """Compare all files of a folder with the hub's digests, and write a list of them; raise as ``compare`` does."""
    known = fingerprint.digests(folder)
    for line in known.splitlines():
        sha256, _, name = line.partition("  ")
        if name in files:
            compare(folder, name, sha256, files[name])
    with suppress(OSError):  # a cache that others keep may be read-only
        (folder / fingerprint.DIGESTS).write_text(known, encoding="utf-8")


def compare(folder: Path, name: str, sha256: str, stated: RepoSibling) -> None:
    """Compare a file with the digest that the hub states; the hub's own library compares only the size.

    Raises:
        InputError: the file differs. It is removed, so that it is downloaded again.
    """
    if not is_as_stated(folder / name, sha256, stated):
        (folder / name).resolve().unlink()  # in the cache it is a link
        (folder / name).unlink(missing_ok=True)
        raise InputError(
            f"{name} of model folder {folder} was damaged on its way from the hub and is removed: get it again"
        )


def is_as_stated(path: Path, sha256: str, stated: RepoSibling) -> bool:
    """Return whether a file has the digest that the hub states: the SHA-256 of a large file, else Git's digest."""
    if stated.lfs is not None:
        return sha256 == stated.lfs.sha256
    if stated.blob_id is None:
        return True
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == stated.blob_id


@contextmanager
def named(folder: Path, name: str) -> Iterator[None]:
    """Name a model in error messages, in place of the folder that holds its files for the time being."""
    try:
        yield
    except InputError as error:
        said = str(error).replace(f"model folder {folder}", name)
        said = re.sub(rf"{re.escape(str(folder))}/(\S+)", lambda file: f"{file[1]} of {name}", said)
        raise InputError(said.replace(str(folder), name)) from error


@contextmanager
def saying(what: str, instead: str) -> Iterator[None]:
    """Turn any error of a library that uses the hub into one sentence.

    Args:
        what: what is downloaded, for the message.
        instead: what the user can do if the remedy does not help, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # several libraries are involved between the hub and the disk
        reason, remedy = explained(error)
        raise InputError(
            f"{what} could not be downloaded from the Hugging Face hub at {constants.ENDPOINT}: {reason}: {remedy}, "
            f"or {instead}"
        ) from error


def explained(error: Exception) -> tuple[str, str]:
    """Return the meaning of an error of the network, the hub or the disk, and the remedy."""
    chain = list(causes(error))
    for kind, said in REASONS.items():
        if any(isinstance(cause, kind) for cause in chain):
            return said
    for cause in chain:
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            later = "try again later" if status >= 500 else "check the name and HF_ENDPOINT"
            return STATUS.get(status, (f"it answers with status {status}", later))
        if isinstance(cause, OSError) and cause.errno is not None:
            return (
                f"{cause.strerror} in {constants.HF_HUB_CACHE}",
                "give HF_HOME a folder with room and rights to write",
            )
    return first_line(error), "try again, for what came whole is kept, and check the network and its proxies"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
