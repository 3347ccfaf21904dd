"""Share what tests of figures need: extensions of the catalogue, and the texts of a figure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure

IMPORTS = "from acdc.catalogue import AblationEntry, Method, Metric\n"


@pytest.fixture
def extend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Yield a function that declares an extension, in a file of the given name."""
    folder = tmp_path / "extensions"
    folder.mkdir()
    monkeypatch.setattr("acdc.catalogue.EXTENSIONS", folder)

    def declare(name: str, declaration: str) -> None:
        (folder / f"{name}.py").write_text(IMPORTS + declaration)

    yield declare
    for file in folder.glob("*.py"):
        sys.modules.pop(f"acdc_extension_{file.stem}", None)


@pytest.fixture
def texts() -> Callable[[Figure], list[str]]:
    """Return a function that lists all visible texts of a figure."""

    def of(figure: Figure) -> list[str]:
        written: list[Artist] = figure.findobj(lambda artist: hasattr(artist, "get_text"))
        return [artist.get_text() for artist in written if artist.get_visible()]

    return of
