"""Start headless Chromium, for tests of pages and for the screenshots of the docs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TypeVar

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60
"""Seconds after which a page counts as broken: busy machines are slow."""
Found = TypeVar("Found")


def chromium(size: str) -> webdriver.Chrome:
    """Start the chromium and the chromedriver on PATH, with a log of the page's console.

    Args:
        size: the window's width and height in pixels, such as ``1300,900``.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={size}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def wait_until(browser: webdriver.Chrome, condition: Callable[[webdriver.Chrome], Found]) -> Found:
    """Wait until a condition of the browser is true; return what it returned."""
    return WebDriverWait(browser, PATIENCE).until(condition)
