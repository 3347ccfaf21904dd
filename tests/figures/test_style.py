"""Test the looks of figures: every method has one of its own, and files are the same bytes twice."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from acdc.catalogue import METHODS
from acdc.errors import InputError
from acdc.figures.style import UNKNOWN, look, save


def test_a_method_looks_as_the_catalogue_says():
    assert {name: look(name) for name in METHODS} == {m.name: (m.color, m.marker) for m in METHODS.values()}


def test_extensions_have_looks_of_their_own_whatever_else_is_drawn(extend):
    extend("a", 'METHOD = Method(name="first", label="1st", kind="score")')
    extend("b", 'METHOD = Method(name="painted", label="2nd", kind="score", color="#123456")')
    extend("c", 'METHOD = Method(name="third", label="3rd", kind="search", sized_by="patience")')
    assert look("painted")[0] == "#123456"
    colors, markers = zip(*map(look, METHODS), strict=True)
    assert len(set(colors)) == len(METHODS) and len(set(markers)) >= min(len(METHODS), 15)  # matplotlib fills no more


def test_a_taken_colour_is_not_given_again(extend):
    extend("a", 'METHOD = Method(name="first", label="1st", kind="score")')
    color, marker = look("first")
    extend("b", f'METHOD = Method(name="greedy", label="2nd", kind="score", color="{color}", marker="{marker}")')
    assert look("greedy") == (color, marker) and not set(look("first")) & {color, marker}


def test_there_is_a_look_for_more_extensions_than_spare_ones(extend):
    for i in range(15):
        extend(f"e{i:02}", f'METHOD = Method(name="m{i}", label="{i}", kind="score")')
    assert len({look(f"m{i}") for i in range(15)}) == 15


def test_what_is_not_in_the_catalogue_is_grey():
    assert look("of another tool") == UNKNOWN


@pytest.fixture
def figure() -> Figure:
    figure = Figure()
    figure.subplots().plot([1, 2], label="line")
    figure.legend(title="some text")
    return figure


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_saved_bytes_are_the_same_twice(suffix, tmp_path, figure, monkeypatch):
    for run in "12":
        monkeypatch.setenv("SOURCE_DATE_EPOCH", f"{run}000000000")  # a date in the file would differ
        save(figure, [tmp_path / f"{run}{suffix}"])
    assert (tmp_path / f"1{suffix}").read_bytes() == (tmp_path / f"2{suffix}").read_bytes()


def test_pdf_fonts_are_type_42(tmp_path, figure):
    save(figure, [tmp_path / "a.pdf"])
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in content and b"/Type3" not in content


def test_other_formats_are_refused_before_anything_is_written(tmp_path, figure):
    with pytest.raises(InputError, match=r"figure\.jpg"):
        save(figure, [tmp_path / "figure.png", tmp_path / "figure.jpg"])
    assert not list(tmp_path.iterdir())
