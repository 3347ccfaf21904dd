"""Make the images of the docs anew from a finished run: figures, a page to look around in, and the report.

    snakemake --cores all && snakemake --report report.html
    make docs-images

Needs chromium and chromedriver on PATH.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.chromium import chromium, wait_until

IMAGES = Path(__file__).parent / "images"
QUALITY, WIDTH = 85, 150  # of WebP; letters a line of a terminal
SIDES = (("x", "width"), ("y", "height"))
FIGURES = {
    "cost_seconds.png": "cost_seconds.png",
    "faithfulness.png": "faithfulness.png",
    "roc_edges.png": "roc_edges.png",
    "planted_circuit.png": "planted/planted/circuit_logit_difference_corrupted_acdc_1.png",
    "ioi_circuit.png": "smollm2-135m-q4/ioi/circuit_logit_difference_corrupted_acdc_0.1.png",
    "ioi_pareto.png": "smollm2-135m-q4/ioi/pareto_corrupted.png",
    "months_pareto.png": "smollm2-135m-q4/months/pareto_corrupted.png",
}
"""Images by the figures of the default study that they are."""
PAGE = "figures/default/smollm2-135m-q4/ioi/circuit_logit_difference_corrupted_acdc.html"


def page(browser: webdriver.Chrome, file: Path) -> None:
    """Shoot the whole circuit, where one head attends to, and another's way to the logits at a higher threshold."""
    browser.get(file.resolve().as_uri())
    shoot(browser, "page.webp")
    graph, at = browser.find_element(By.ID, "graph"), "cy.getElementById('a23.h0').renderedPosition()"
    x, y = (round(browser.execute_script(f"return {at}.{axis}") - graph.size[side] // 2) for axis, side in SIDES)
    ActionChains(browser).move_to_element_with_offset(graph, x, y).click().perform()
    shoot(browser, "heads.webp")
    browser.find_element(By.ID, "everything").click()
    browser.find_element(By.ID, "slider").send_keys(Keys.ARROW_RIGHT)
    browser.find_element(By.ID, "upstream").click()
    browser.find_element(By.ID, "search").send_keys("16.0")
    wait_until(browser, lambda b: not b.execute_script("return cy.animated()"))
    shoot(browser, "page_head.webp")


def shoot(browser: webdriver.Chrome, name: str) -> None:
    """Save what the browser shows, once it is drawn, as WebP: a third of a PNG."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB").save(IMAGES / name, quality=QUALITY)


def report(browser: webdriver.Chrome, file: Path) -> None:
    """Shoot the first view of the report."""
    browser.get(file.resolve().as_uri())
    wait_until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".prose img"))
    wait_until(browser, lambda b: not b.execute_script("return document.getAnimations().length"))  # links fade in
    shoot(browser, "report.webp")


def notebook(browser: webdriver.Chrome, file: Path) -> None:
    """Shoot the beginning of an executed notebook, down to the circuit."""
    browser.set_window_size(1100, 1580)
    browser.get(file.resolve().as_uri())
    frame = wait_until(browser, lambda b: b.find_element(By.TAG_NAME, "iframe"))
    browser.switch_to.frame(frame)
    wait_until(browser, lambda b: b.execute_script("return 'cy' in window"))
    browser.switch_to.default_content()
    browser.get_log("browser")  # the page asks for scripts of other hosts, which it does without
    shoot(browser, "notebook.webp")


def console(browser: webdriver.Chrome, file: Path, folder: Path) -> None:
    """Shoot the console of a workflow, from its first line of its own to the end."""
    lines = file.read_text(encoding="utf-8").replace("\r", "").split("\n")
    first, last = (next(i for i, line in enumerate(lines) if sign in line) for sign in (" jobs: ", " jobs done "))
    terminal = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    terminal.print(Text.from_ansi("\n".join(lines[first : last + 1])))
    page = folder / "console.html"
    page.write_text(terminal.export_html(theme=MONOKAI, inline_styles=True), encoding="utf-8")
    browser.set_window_size(1400, 210 + 19 * (last - first))
    browser.get(page.as_uri())
    shoot(browser, "console.webp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="(default: %(default)s)")
    parser.add_argument("--report", type=Path, default="report.html", help="(default: %(default)s)")
    parser.add_argument("--notebook", type=Path, help="quickstart.html, from `jupyter nbconvert --execute --to html`")
    parser.add_argument("--console", type=Path, help="what a terminal showed, from `script --command 'make demo'`")
    files = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    for image, figure in FIGURES.items():
        shutil.copyfile(Path("figures/default", figure), IMAGES / image)
    with chromium("1440,887") as browser:
        page(browser, files.page)
        report(browser, files.report)
        if files.notebook:
            notebook(browser, files.notebook)
        if files.console:
            with tempfile.TemporaryDirectory() as folder:
                console(browser, files.console, Path(folder))
        errors = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    if errors:
        raise SystemExit(f"errors in the console: {errors}")


if __name__ == "__main__":
    main()
