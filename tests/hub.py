"""Stand in for the Hugging Face hub on loopback, and ask the stand-in as a user's program would.

The stand-in answers what acdc and Transformers ask: a repository's files and their digests, and the files themselves,
whole or from a byte on. A repository says what goes wrong with it: see ``Repository``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".pth", ".bin", ".whl")
"""The suffixes of files that the hub keeps apart from Git, by their SHA-256, and of a package index's wheels."""
HTML = b"<html><body>Welcome to our network. Please log in.</body></html>"
CHUNK = 1024
KINDS = ("revision", "resolve", "tree")
"""Parts of addresses that tell what is asked: a repository's listing, a file, what is in a folder (there are none)."""
TEXT = "When Mary and John went to the shop"

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def error(status: int, code: str = "", message: str = "") -> Answer:
    """Return what the hub answers where it refuses."""
    headers = {"X-Error-Code": code} if code else {}
    return status, headers | ({"X-Error-Message": message} if message else {}), b'{"error": "refused"}'


PAGE: Answer = (200, {"Content-Type": "text/html"}, HTML)
"""The page that a network with a login sends in the hub's place."""


@dataclass
class Repository:
    """Hold what a repository has, and what goes wrong with it.

    Attributes:
        files: by name.
        answer: to every request.
        of_files: answers to requests for files, by their names.
        sent: changes the bytes of large files on their way.
        cuts: how often the connection breaks in the middle of a large file.
        stalls: "listing" or "file": what the server begins to answer and never ends.
        etags: of files, in place of the right ones.
        is_redirected: large files come from another host, as on the hub.
        commit: by default, one that is made of the files.
        branches: names for the commit.
        moved_to: another name, by which the repository goes now.
        token: opens the repository; without it, the hub answers as if there were none.
    """

    files: dict[str, bytes]
    answer: Answer | None = None
    of_files: dict[str, Answer] = field(default_factory=dict)
    sent: Callable[[bytes], bytes] = bytes
    cuts: int = 0
    stalls: str = ""
    etags: dict[str, str] = field(default_factory=dict)
    is_redirected: bool = False
    commit: str = ""
    branches: tuple[str, ...] = ("main",)
    moved_to: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        self.commit = self.commit or hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    @classmethod
    def of(cls, folder: Path, **faults: Any) -> Repository:
        return cls({path.name: path.read_bytes() for path in folder.iterdir()}, **faults)

    def etag(self, name: str) -> str:
        return self.etags.get(name) or (self.sha256(name) if name.endswith(LARGE) else self.blob_id(name))

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def blob_id(self, name: str) -> str:
        content = self.files[name]
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def listed(self) -> list[dict[str, Any]]:
        """Return name, size and digests of every file, as the hub states them."""
        files = []
        for name, content in self.files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": self.blob_id(name)}
            if name.endswith(LARGE):
                entry["lfs"] = {"sha256": self.sha256(name), "size": len(content), "pointerSize": 130}
            files.append(entry)
        return files


class StandIn(ThreadingHTTPServer):
    """Serve repositories by name, and note what was asked, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path  # names of branches may have slashes, written as %2F
        self.server.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        kind = next((kind for kind in KINDS if f"/{kind}/" in path), "")
        name, _, rest = path.removeprefix("/api/models").strip("/").partition(f"/{kind}/")
        repository = self.server.repositories.get(name)
        if repository is None or (repository.token and self.headers["Authorization"] != f"Bearer {repository.token}"):
            self.say(error(401, "RepoNotFound", "Repository not found"))
        elif repository.moved_to:
            self.say((307, {"Location": self.path.replace(name, repository.moved_to)}, b""))
        elif repository.answer:
            self.say(repository.answer)
        else:
            revision, _, file = rest.partition("/")
            self.say_of(repository, kind, unquote(revision), unquote(file))

    def say_of(self, repository: Repository, kind: str, revision: str, file: str) -> None:
        if revision not in (*repository.branches, repository.commit):
            self.say(error(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
        elif kind == "revision":
            about = {"id": "x", "sha": repository.commit, "siblings": repository.listed()}
            self.say((200, {}, json.dumps(about).encode()), stalls=repository.stalls == "listing")
        elif file in repository.of_files:
            self.say(repository.of_files[file])
        elif kind == "tree" or file not in repository.files:
            self.say(error(404, "EntryNotFound", "Entry not found"))
        else:
            self.send_file(repository, file)

    def say(self, answer: Answer, stalls: bool = False) -> None:
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.write(body, stalls=stalls)

    def send_file(self, repository: Repository, name: str) -> None:
        content, is_large = repository.files[name], name.endswith(LARGE)
        headers = {"ETag": f'"{repository.etag(name)}"', "X-Repo-Commit": repository.commit}
        here = self.headers["Host"].startswith("127.0.0.1")
        if repository.is_redirected and is_large and here:
            linked = {"X-Linked-ETag": headers.pop("ETag"), "X-Linked-Size": str(len(content))}
            elsewhere = f"http://localhost:{self.server.server_port}{self.path}"
            self.say((302, headers | linked | {"Location": elsewhere}, b""))
            return
        size, start = len(content), 0
        if is_large and self.command == "GET":
            content = repository.sent(content)
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self.send_response(206 if start else 200)
        for header, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            is_cut = is_large and repository.cuts > 0
            repository.cuts -= is_cut
            self.write(content[start:], is_cut, is_large and repository.stalls == "file")

    def write(self, body: bytes, is_cut: bool = False, stalls: bool = False) -> None:
        """Send a body or, where it is cut or stalls, its first half."""
        self.wfile.write(body[: len(body) // 2] if is_cut or stalls else body)
        self.wfile.flush()
        if stalls:
            time.sleep(5)  # longer than any client of a test waits
        self.close_connection = is_cut or stalls


# The client.

ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_ETAG_TIMEOUT": "1",
    "HF_TOKEN": "",
}


@contextmanager
def client(url: str, home: Path, **environment: str) -> Iterator[ProcessPoolExecutor]:
    """Yield a process of its own, for the hub's library reads its settings on import. It runs one job at a time."""
    with patch.dict(os.environ, {**ENVIRONMENT, "HF_ENDPOINT": url, "HF_HOME": str(home), **environment}):
        pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=hurry)
        pool.submit(int).result()  # it has its environment now
    with pool:
        yield pool


def hurry() -> None:
    """Wait no time between tries, and take files in small parts, for those of tests are small."""
    from huggingface_hub import constants

    time.sleep = lambda _: None
    constants.DOWNLOAD_CHUNK_SIZE, constants.HF_HUB_DOWNLOAD_TIMEOUT = CHUNK, 0.2


def ask(name: str, revision: str = "main") -> tuple[str, list[str], int]:
    """Download a model; return the folder or the sentence on why not, the warnings, and how many files were hashed."""
    from acdc import fingerprint
    from acdc.errors import InputError
    from acdc.models import hub

    with (
        warnings.catch_warnings(record=True) as said,
        patch.object(fingerprint, "of_file", wraps=fingerprint.of_file) as of_file,
    ):
        warnings.simplefilter("always")
        try:
            folder = str(hub.downloaded(name, revision, "give a folder"))
        except InputError as refused:
            folder = f"refused: {refused}"
    return folder, [str(warning.message) for warning in said], of_file.call_count


def ask_file(name: str, revision: str, file: str) -> str:
    """Download a file of a dataset; return its text, or the sentence on why not."""
    from acdc.errors import InputError
    from acdc.models import hub

    try:
        return hub.file_of_dataset(name, revision, file).read_text()
    except InputError as refused:
        return f"refused: {refused}"


def load(name: str) -> tuple[str, list[str], list[int]]:
    """Load a model; return its weights' digest or the sentence on why not, the warnings, and the tokens of a text."""
    import acdc
    from acdc import fingerprint
    from acdc.errors import InputError

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model = acdc.load_model(name)
        except InputError as refused:
            return f"refused: {refused}", [], []
    tokens = model.tokenizer(TEXT).input_ids if model.tokenizer else []
    return fingerprint.of_tensors(model.bridge.state_dict()), [str(warning.message) for warning in said], tokens


def make(name: str, folder: Path) -> list[str]:
    """Make a model's folder as `acdc model --hub` does; return the names of its files."""
    from acdc.models import sources

    sources.from_hub(name, "main", folder, shortformer=False)
    return sorted(path.name for path in folder.iterdir())
