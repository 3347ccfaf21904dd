"""The reference of the package is whole, linked and offline; names in docs and docstrings name something."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import acdc
from tests.checkout import PAGES, ROOT, Checkout
from tests.chromium import wait_until
from tests.named import is_name, names_something, thing

LOADED = "return performance.getEntriesByType('resource').map(entry => entry.name)"


class Page(HTMLParser):
    """Read a page's anchors, links, loaded files, scripts and styles, and text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.code: list[str] = []
        self.words: list[str] = []
        self.tag = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag, given = tag, {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "meta" and "url=" in given.get("content", ""):
            self.links.append(given["content"].partition("url=")[2])
        elif tag != "a":
            self.loads += [given[name] for name in ("href", "src", "data") if name in given]

    def handle_data(self, data: str) -> None:
        (self.code if self.tag in ("script", "style") else self.words).append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Page]:
    """Return every page by its path in docs/api."""
    checkout = Checkout(tmp_path_factory.mktemp("reference"))
    result = checkout.run(sys.executable, "-m", "docs.reference")
    assert (result.returncode, result.stdout) == (0, "Open docs/api/acdc.html in a browser.\n")
    folder = checkout.root / "docs/api"
    return {str(file.relative_to(folder)): Page(file) for file in folder.rglob("*.html")}


def test_every_link_leads_somewhere(pages):
    by_file = {page.file: page for page in pages.values()}
    for page in pages.values():
        for link in page.links:
            path, _, anchor = link.partition("#")
            if path != "https://pdoc.dev":
                target = by_file[(page.file.parent / path).resolve() if path else page.file]
                assert not anchor or anchor in target.anchors, f"{page.file}: {link}"


def test_nothing_is_loaded_from_elsewhere(pages):
    for page in pages.values():
        code = "".join(page.code)
        styles = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']?([^\"';]+)", code)
        scripts = re.findall(r"\.src\s*=\s*[\"'`]([^\"'`]+)|(?:fetch|import|importScripts)\(\s*[\"'`]([^\"'`]+)", code)
        for named in [*page.loads, *filter(None, sum([*styles, *scripts], ()))]:
            assert named.startswith("data:") or (page.file.parent / named).is_file(), f"{page.file}: {named}"


def test_no_page_has_a_path_of_this_machine(pages):
    folder = pages["index.html"].file.parent
    for file in [*folder.rglob("*.html"), folder / "search.js"]:
        assert not any(str(place) in file.read_text() for place in (folder.parents[1], sys.prefix)), file


def test_the_search_finds_without_a_network(pages, browser):
    browser.get(pages["acdc.html"].file.as_uri())
    browser.find_element("css selector", "input[type=search]").send_keys("evaluate")
    found = wait_until(browser, lambda b: b.find_elements("css selector", "section.search-result"))
    assert any("Found.evaluate" in result.text for result in found)
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    assert {name.partition(":")[0] for name in browser.execute_script(LOADED)} <= {"file", "data"}


def test_the_first_page_is_what_a_notebook_imports(pages):
    (first,) = pages["index.html"].links
    named = re.findall(r"^#(\w+)$", "\n".join(pages[first.removeprefix("./")].links), re.MULTILINE)
    assert list(dict.fromkeys(name for name in named if name in acdc.__all__))[:4] == acdc.__all__[:4]
    assert set(acdc.__all__) <= pages["acdc.html"].anchors


@pytest.mark.parametrize("name", [name for name in acdc.__all__ if name[0].islower()])
def test_a_function_has_its_arguments_and_sections(pages, name):
    text = " ".join("".join(pages["acdc.html"].words).split())
    function = getattr(acdc, name)
    shown = text[text.index(f"def {name}(") :]
    shown = shown[: shown.find(" def ", 5)]
    assert all(f"{parameter}:" in shown for parameter in inspect.signature(function).parameters)
    headings = re.findall(r"^ *(Args|Returns|Raises):$", inspect.getdoc(function) or "", re.MULTILINE)
    assert "Args" in headings and "Raises" in headings
    assert all(f"{heading.replace('Args', 'Arguments')}:" in shown for heading in headings)


# What is named in docs and docstrings.

GUIDES = ("README.md", "docs/python.md", "docs/extending.md", "docs/guide.md")
"""Pages whose dotted names have to be in the reference."""
IMPORT = re.compile(r"^ *from (acdc[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_a_dotted_name_in_a_docstring_names_something():
    told = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "acdc").rglob("*.py")
        for text in docstrings(path)
        for name in re.findall(r"``([^`(]+)(?:\([^`]*\))?``", text)
        if is_name(name) and not names_something(name)
    ]
    assert not told


def named_in(page: Path) -> set[str]:
    """Return the dotted names of the package in a page of the docs, with what its examples import."""
    text = page.read_text()
    names = set(re.findall(r"(?<![\w/])acdc(?:\.[A-Za-z_]\w*)+(?![\w/*])", text))
    imported = {f"{module}.{name.strip()}" for module, names in IMPORT.findall(text) for name in names.split(",")}
    return {name for name in names | imported if is_name(name)}


@pytest.mark.parametrize("page", PAGES)
def test_a_name_in_the_docs_names_something(page):
    assert not [name for name in named_in(page) if not names_something(name)]


@pytest.mark.parametrize("page", GUIDES)
def test_what_a_guide_names_is_in_the_reference(pages, page):
    for name in named_in(ROOT / page):
        assert is_in_reference(pages, name), name


def is_in_reference(pages: dict[str, Page], name: str) -> bool:
    """Return whether a name has a page or an anchor, where it is written or where it is from."""
    found = thing(name)
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    for known in (name, home):
        parts = known.split(".")
        for i in range(1, len(parts) + 1):
            page = pages.get("/".join(parts[:i]) + ".html")
            if page and ".".join(parts[i:]) in page.anchors:
                return True
    return False
