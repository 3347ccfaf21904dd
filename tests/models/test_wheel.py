"""A wheel is downloaded by whatever pip there is, from a notebook too."""

from __future__ import annotations

import importlib.metadata
import io
import sys

import pytest

from acdc.errors import InputError
from acdc.models import wheel
from acdc.models.wheel import resuming, succeeds


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
    said = f"import sys; print('some words'); print('others', file=sys.stderr); sys.exit({status})"
    assert succeeds([sys.executable, "-c", said]) == (status == 0)
    assert "some words" in heard.getvalue() and "others" in heard.getvalue()


def test_what_it_says_goes_to_standard_error(capfd):
    assert succeeds([sys.executable, "-c", "print('some words')"])
    assert "some words" in capfd.readouterr().err
