"""Test pages that hold much in little: a collection of interactive pages, and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from acdc.errors import InputError
from acdc.figures import html
from acdc.figures.page import page
from tests.chromium import wait_until
from tests.figures.test_page import SWEEP

TITLES = ["first & <second>", "the other"]
ROWS = pd.DataFrame(
    {
        "task": ["ioi", "months", "<b>ioi</b>"],
        "n_edges": [220, 1000, 34081],
        "kept": [1.04999, np.nan, 34081.25],
        "converged": [True, False, None],
    }
)


@pytest.fixture
def pages(tmp_path) -> list[Path]:
    """Write two interactive pages of one sweep, with other titles and starts."""
    files = [tmp_path / f"{i}.html" for i in range(2)]
    for file, title, found in zip(files, TITLES, SWEEP, strict=True):
        file.write_text(page(SWEEP, {}, title, found.value))
    return files


def test_a_collection_holds_the_library_once(pages):
    assert len(html.collection(pages, "all")) < 0.5 * sum(len(file.read_text()) for file in pages)


def test_a_collection_shows_the_page_that_is_chosen(pages, tmp_path, browser):
    (tmp_path / "all.html").write_text(html.collection(pages, "all of <them>"))
    browser.get((tmp_path / "all.html").as_uri())
    menu = Select(browser.find_element(By.ID, "menu"))
    assert [option.text for option in menu.options] == TITLES
    for title, found in zip(TITLES, SWEEP, strict=True):
        menu.select_by_visible_text(title)
        browser.switch_to.frame("shown")
        wait_for_page(browser, title)
        assert browser.find_element(By.ID, "value").text == found.value
        browser.switch_to.default_content()
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def wait_for_page(browser, title: str) -> None:
    """Wait until the frame shows the page of a title, with its graph."""
    is_there = "return document.title === arguments[0] && 'cy' in window"
    wait_until(browser, lambda b: b.execute_script(is_there, title))


def test_a_page_that_was_changed_or_is_none_is_refused_by_name(pages):
    pages[1].write_text(pages[1].read_text().replace("a0.h0", "a0.h1"))
    with pytest.raises(InputError, match=r"1\.html is no interactive page .*cut or changed.*make it again"):
        html.collection(pages, "all")
    pages[1].write_text(html.sealed("<title>a page</title>"))
    with pytest.raises(InputError, match=r"1\.html .*another version"):
        html.collection(pages, "all")


def shown(browser) -> list[list[str]]:
    """Return the texts of the cells that a table shows."""
    rows = browser.find_element(By.ID, "body").find_elements(By.TAG_NAME, "tr")
    return [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]


def test_a_table_is_sorted_and_searched(tmp_path, browser, monkeypatch):
    (tmp_path / "table.html").write_text(html.table(ROWS, "a table"))
    browser.get((tmp_path / "table.html").as_uri())
    wait_until(browser, shown)
    first = ["ioi", "220", "1.05", "True"], ["months", "1000", "", "False"], ["<b>ioi</b>", "34081", "34081", ""]
    assert shown(browser) == [*first]
    kept = browser.find_elements(By.TAG_NAME, "th")[2]
    kept.click()
    assert [row[2] for row in shown(browser)] == ["1.05", "34081", ""]
    kept.click()
    assert [row[2] for row in shown(browser)] == ["34081", "1.05", ""]  # what is empty stays last
    browser.find_element(By.ID, "search").send_keys("IOI true")
    assert [row[0] for row in shown(browser)] == ["ioi"]
    assert browser.find_element(By.ID, "count").text == "1 of 3 rows"
    assert browser.get_log("browser") == []


def test_of_a_long_table_the_first_rows_are_shown(tmp_path, browser, monkeypatch):
    monkeypatch.setattr(html, "MOST_ROWS", 2)
    (tmp_path / "table.html").write_text(html.table(ROWS, "a table"))
    browser.get((tmp_path / "table.html").as_uri())
    wait_until(browser, shown)
    assert len(shown(browser)) == 2
    assert browser.find_element(By.ID, "count").text == "3 of 3 rows, the first 2 shown"
