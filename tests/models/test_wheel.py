"""Test the download of a wheel: any pip does it, from a notebook too."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import random
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acdc.errors import InputError
from acdc.models import wheel
from acdc.models.wheel import download_wheel, failure, resuming
from tests.hub import HTML, PAGE, Answer, Repository, StandIn, error, stand_in
from tests.toy_wheel import TOY, toy_wheel


@pytest.mark.parametrize(
    ("version", "option"),
    [("23.2.1", []), ("25.0", []), ("25.1", ["--resume-retries=5"]), ("26.3", ["--resume-retries=5"])],
)
def test_a_pip_that_cannot_go_on_with_a_download_is_not_asked_to(monkeypatch, version, option):
    monkeypatch.setattr(wheel, "version", lambda name: version)
    assert resuming() == option


def test_where_there_is_no_pip_the_sentence_says_so(monkeypatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(wheel, "version", missing)
    with pytest.raises(InputError, match="this Python does not have: install it"):
        resuming()


@pytest.mark.parametrize("status", (0, 3))
def test_what_it_says_is_heard_where_standard_error_is_no_file(monkeypatch, status):
    """A notebook's standard error has no file number."""
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    said = f"import sys; print('some words'); print('ERROR: why', file=sys.stderr); sys.exit({status})"
    assert failure([sys.executable, "-c", said]) == ("why" if status else "")
    assert "some words" in heard.getvalue()


def test_what_it_says_goes_to_standard_error(capfd):
    assert not failure([sys.executable, "-c", "print('some words')"])
    assert "some words" in capfd.readouterr().err


# A package index on loopback.

WHEEL = toy_wheel(random.Random(0).randbytes(50_000))
"""Large enough that a part of it can be sent before the connection breaks."""


@pytest.fixture(scope="module")
def index() -> Iterator[StandIn]:
    """Yield a package index: the stand-in hub, which has a page of links, and serves and breaks files alike."""
    with stand_in() as server:
        yield server


@pytest.fixture
def fetch(index, tmp_path, monkeypatch) -> Callable[..., bytes]:
    page = f'<a href="{index.url}/files/resolve/main/{TOY}">{TOY}</a>'.encode()
    settings = {"INDEX_URL": f"{index.url}/index/resolve/main", "CONFIG_FILE": "/dev/null", "RETRIES": "0"}
    settings |= {"TIMEOUT": "1", "DEFAULT_TIMEOUT": "1", "NO_CACHE_DIR": "1", "FIND_LINKS": "", "EXTRA_INDEX_URL": ""}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(wheel, "RETRIES", 1)

    def fetch(digest: str = "", page: bytes = page, **faults) -> bytes:
        html: Answer = (200, {"Content-Type": "text/html"}, page)
        index.repositories["index"] = Repository({}, of_files={"toy": html})
        index.repositories["files"] = Repository({TOY: WHEEL}, **faults)
        download_wheel("toy==1.0", digest or hashlib.sha256(WHEEL).hexdigest(), tmp_path / "got/toy.whl")
        return (tmp_path / "got/toy.whl").read_bytes()

    return fetch


def test_a_wheel_whose_connection_breaks_is_taken_up_where_it_broke(fetch, index):
    assert fetch(cuts=1) == WHEEL
    assert index.asked[-1].endswith(f"{TOY} bytes={len(WHEEL) // 2}-")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "always cut": ({"cuts": 1000}, "Download failed after 2 attempts because not enough bytes were received"),
    "stalled": ({"stalls": "file"}, "Download failed after 2 attempts because not enough bytes were received"),
    "no such file": ({"of_files": {TOY: error(404)}}, "HTTP error 404"),
    "a failing server": ({"of_files": {TOY: error(500)}}, "too many 500 error responses"),
    "a login page for the wheel": ({"of_files": {TOY: PAGE}}, "Wheel 'toy' located at .* is invalid"),
    "a login page for the index": ({"page": HTML}, "No matching distribution found for toy==1.0"),
}


@pytest.mark.parametrize(("fault", "reason"), WRONG.values(), ids=WRONG)
def test_a_wheel_that_does_not_come_is_one_sentence(fetch, tmp_path, capfd, fault, reason):
    with pytest.raises(InputError) as refused:
        fetch(**fault)
    sentence = rf"toy==1.0 could not be downloaded from the package index \(.*{reason}.*\): check the network .* again"
    assert re.match(sentence, str(refused.value)) and "\n" not in str(refused.value)
    assert "Traceback" not in capfd.readouterr().err and not (tmp_path / "got").exists()


def test_a_wheel_that_was_changed_on_its_way_is_refused(fetch, tmp_path):
    with pytest.raises(InputError, match=f"{TOY} has SHA-256 .*, the config says 0000.*: it is not the file .* again"):
        fetch(digest="0" * 64)
    assert not (tmp_path / "got").exists()
