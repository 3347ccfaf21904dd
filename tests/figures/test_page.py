"""Test the interactive page: its data, and what it does in a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from acdc.errors import InputError
from acdc.figures import page as module
from acdc.figures.page import page
from acdc.found import Found
from acdc.graph import Circuit, Edge, Graph
from acdc.heads import Heads
from acdc.trace import key_of
from tests.checkout import ROOT
from tests.chromium import wait_until

GRAPH = Graph(2, 4, 2)  # each key and value head is shared by two heads
LARGE = ["embed a0.h0.q", "embed a0.h3.q", "a0.h0 a1.h1.k", "a0.h0 m0", "m0 logits", "a1.h2 logits", "embed a1.h2.q"]
LARGE += ["a0.h3 a1.h2.q", "a1.h3 m1", "m1 logits", "a1.h3 logits", "embed a1.h1.v", "embed m1"]
SMALL = ["a0.h0 m0", "m0 logits", "embed a0.h0.q"]


def circuit(names: list[str]) -> Circuit:
    found = Circuit.from_edges(GRAPH, [Edge(*map(GRAPH.node, name.split())) for name in names])
    found.direct = found.present.any(0) & GRAPH.has_direct
    return found


def found(
    value: str, it: Circuit, metric: str = "l2", size_by: str = "threshold", final: float | None = -1.25
) -> Found:
    rows = [(*key_of(edge), 0.5 / (i + 1)) for i, edge in enumerate(it.edges)]
    trace = pd.DataFrame(rows, columns=["receiver", "sender", "kind", "effect"])
    settings = {"metric": metric, "size_by": size_by, "value": value}
    return Found(settings, it, {"final_metric": final}, trace)


SWEEP = [found("0.3", circuit(SMALL)), found("0.01", circuit(LARGE))]
NODES = {value: {"a0.h0": 0.375, "m0": -0.0625} for value in ("0.3", "0.01")}


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)[1])


def test_the_sweep_goes_from_large_circuits_to_small_ones_and_starts_where_it_is_told():
    data = data_of(page(SWEEP, {}, "a title", start="0.3"))
    assert [c["value"] for c in data["circuits"]] == ["0.01", "0.3"] and data["start"] == 1


def test_nodes_stand_in_one_order_from_the_embedding_up():
    """In the order of a set, the page would be other bytes in every run."""
    names = ["embed", "a0.h0", "a0.h3", "m0", "a1.h2", "a1.h3", "m1", "logits"]
    assert [*data_of(page(SWEEP, {}, "", "0.3"))["positions"]] == names


def test_edges_of_a_method_that_scores_are_as_wide_as_their_scores_and_have_no_effect():
    one = found("3", circuit(SMALL), size_by="n_edges")
    one.trace = None
    one.scores = pd.DataFrame([("a0.h0", "m0", -2.0), ("m0", "logits", 1.0)], columns=["sender", "receiver", "score"])
    edges = {edge["name"]: edge for edge in data_of(page([one], {}, "", "3"))["circuits"][0]["edges"]}
    assert edges["a0.h0 -> m0"]["width"] > edges["m0 -> logits"]["width"]
    assert ["score", "-2"] in edges["a0.h0 -> m0"]["facts"]
    assert all(edge["effect"] is None for edge in edges.values())


def test_a_node_has_its_hook_points_and_its_effect():
    nodes = {node["id"]: node for node in data_of(page(SWEEP, NODES, "t", start="0.3"))["circuits"][0]["nodes"]}
    facts = nodes["a0.h0"]["facts"]
    assert ["writes", "blocks.0.attn.hook_result[:, :, 0]"] in facts
    assert ["reads", "blocks.0.hook_q_input[:, :, 0], 1 edge"] in facts
    assert ["sends along", "3 edges"] in facts  # into m0, and into the key that a1.h2 and a1.h3 share, drawn to both
    assert facts[-1][1] == "+0.375" and nodes["a0.h0"]["effect"] == 0.375
    assert nodes["m1"]["effect"] is None and not any("effect" in term for term, _ in nodes["m1"]["facts"])


def test_the_page_is_the_same_bytes_in_every_run():
    """The order of a set changes with the seed of Python's hashes, which a run draws."""
    program = "from tests.figures.test_page import *; print(page(SWEEP, NODES, 'a title', start='0.3'))"
    pages = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in "12"
    }
    (html,) = pages
    assert html.startswith(b"<!doctype html>")


def test_effects_of_nodes_are_those_of_the_circuit():
    effects = {"0.3": {"m0": 1.0}, "0.01": {"m0": 2.0}}
    circuits = data_of(page(SWEEP, effects, "t", start="0.3"))["circuits"]
    assert [[n["effect"] for n in c["nodes"] if n["id"] == "m0"] for c in circuits] == [[2.0], [1.0]]


def test_an_edge_into_a_shared_key_is_drawn_to_each_head_of_the_circuit_that_reads_it():
    edges = [e for e in data_of(page(SWEEP, {}, "t", start="0.3"))["circuits"][0]["edges"] if "h1.k" in e["name"]]
    assert {edge["target"] for edge in edges} == {"a1.h2", "a1.h3"}
    assert {edge["name"] for edge in edges} == {"a0.h0 -> a1.h1.k"}
    assert edges[0]["facts"][:2] == [
        ["from", "blocks.0.attn.hook_result[:, :, 0]"],
        ["to", "blocks.1.hook_k_input[:, :, 1]"],
    ]


def test_the_metric_has_its_label_and_unit():
    (circuit_data,) = data_of(page([found("1", circuit(SMALL), "kl_divergence")], {}, "t", start="1"))["circuits"]
    assert "KL divergence -1.25 nats" in circuit_data["summary"]
    assert all("KL divergence" in edge["facts"][-1][0] for edge in circuit_data["edges"])
    assert all(edge["facts"][-1][1].endswith(" nats") for edge in circuit_data["edges"])


def test_extensions_have_their_labels(extend):
    extend("a", 'METRIC = Metric(name="walk", label="a walk", unit="miles", is_distance=True)')
    html = page([found("7", circuit(SMALL), "walk", size_by="patience")], {}, "t", start="7")
    assert "a walk -1.25 miles" in data_of(html)["circuits"][0]["summary"]
    assert re.search(r"<label>patience <input", html) and data_of(html)["size"] == "patience"


def test_an_imported_circuit_has_neither_metric_nor_effects():
    imported = found("3", circuit(SMALL), size_by="n_edges", final=None)
    imported.trace = None
    (data,) = data_of(page([imported], {}, "t", start="3"))["circuits"]
    assert data["summary"].startswith(f"4 of {GRAPH.n_edges} edges, 4 nodes; not drawn: 1 direct")
    assert {edge["effect"] for edge in data["edges"]} == {None}


def test_what_is_not_drawn_is_counted(monkeypatch):
    monkeypatch.setattr(module, "MOST_EDGES", 2)
    dead = found("1", circuit([*SMALL, "embed a1.h0.q"]))
    (text,) = (c["summary"] for c in data_of(page([dead], {}, "t", start="1"))["circuits"])
    assert text.startswith(f"6 of {GRAPH.n_edges} edges, 4 nodes; L2 -1.25")
    assert "2 direct edges" in text and "not drawn: 1 edge into" in text and "2 of 3 edges drawn" in text


def test_no_name_ends_the_data():
    html = page([found("1", circuit(SMALL), "</script>")], {}, "</title><script>alert(1)</script>", start="1")
    assert "<script>alert" not in html and "</script>" in data_of(html)["circuits"][0]["summary"]


def test_refused():
    with pytest.raises(InputError, match=r"threshold 2: there are 0\.01, 0\.3"):
        page(SWEEP, {}, "t", start="2")
    other = found("1", Circuit.full(Graph(1, 1, 1)))
    with pytest.raises(InputError, match="several models"):
        page([*SWEEP, other], {}, "t", start="1")


def test_the_page_loads_nothing():
    html = page(SWEEP, {}, "t", start="0.3")
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", html)


# In a browser.


@pytest.fixture
def opened(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Open the page from a file, as from a USB stick; after the test, its console must be without errors."""
    file = tmp_path / "circuit.html"
    file.write_text(page(SWEEP, NODES, "a title", start="0.01"), encoding="utf-8")
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def text_of(browser: webdriver.Chrome, id: str) -> str:
    return browser.find_element(By.ID, id).text


def in_graph(browser: webdriver.Chrome, script: str):
    return browser.execute_script(f"return {script}")


def point_at(browser: webdriver.Chrome, x: float, y: float) -> ActionChains:
    """Return actions that move the pointer in the graph, to pixels from its upper left corner."""
    graph = browser.find_element(By.ID, "graph")
    size = graph.size
    return ActionChains(browser, 0).move_to_element_with_offset(graph, x - size["width"] // 2, y - size["height"] // 2)


def place(browser: webdriver.Chrome, node: str) -> tuple[float, float]:
    return tuple(in_graph(browser, f"Object.values(cy.getElementById('{node}').renderedPosition())"))


def visible(browser: webdriver.Chrome) -> set[str]:
    return set(in_graph(browser, "cy.elements().not('.off').not('.layer').map((e) => e.id())"))


def test_hovering_a_node_shows_its_hook_and_effect(opened):
    point_at(opened, *place(opened, "a0.h0")).perform()
    assert "blocks.0.attn.hook_result[:, :, 0]" in text_of(opened, "details") and "+0.375" in text_of(opened, "details")
    point_at(opened, *place(opened, "m0")).perform()
    assert "blocks.0.hook_mlp_out" in text_of(opened, "details") and "-0.0625" in text_of(opened, "details")


def test_hovering_an_edge_shows_its_hooks_and_effect(opened):
    x, y = in_graph(opened, "Object.values(cy.getElementById('a1.h2 -> logits: logits').renderedMidpoint())")
    point_at(opened, x, y).perform()
    effect = SWEEP[1].effects["logits", "a1.h2", "addition"]
    assert text_of(opened, "details").startswith("a1.h2 -> logits\n") and f"{effect:+.4g}" in text_of(opened, "details")
    assert "blocks.1.hook_resid_post" in text_of(opened, "details")


def test_the_slider_goes_through_the_sweep_and_nodes_keep_their_places(opened):
    before = place(opened, "m0")
    assert text_of(opened, "value") == "0.01" and in_graph(opened, "cy.getElementById('m1').length") == 1
    opened.find_element(By.ID, "slider").send_keys(Keys.ARROW_RIGHT)
    assert text_of(opened, "value") == "0.3" and text_of(opened, "summary").startswith("4 of ")
    assert in_graph(opened, "cy.getElementById('m1').length") == 0
    assert place(opened, "m0") == before


def test_a_circuit_without_an_edge_is_an_empty_page(browser, tmp_path):
    file = tmp_path / "empty.html"
    file.write_text(page([found("1", Circuit.empty(GRAPH), final=0.5)], {}, "t", "1"), encoding="utf-8")
    browser.get(file.as_uri())
    assert text_of(browser, "summary") == f"0 of {GRAPH.n_edges} edges, 0 nodes; L2 0.5 where it was found"
    browser.find_element(By.ID, "search").send_keys("a0.h0")
    assert text_of(browser, "details") == "a0.h0 is not in this circuit. It is in none of the sweep."
    assert browser.get_log("browser") == []


def test_a_node_can_be_dragged(opened):
    x, y = place(opened, "m0")
    point_at(opened, x, y).click_and_hold().move_by_offset(40, -30).release().perform()
    assert place(opened, "m0") == pytest.approx((x + 40, y - 30), abs=2)


def test_the_background_can_be_dragged_and_the_wheel_zooms(opened):
    x, y = place(opened, "m0")
    point_at(opened, 5, 5).click_and_hold().move_by_offset(10, 0).move_by_offset(50, 20).release().perform()
    assert place(opened, "m0") == pytest.approx((x + 60, y + 20), abs=2)
    zoom = in_graph(opened, "cy.zoom()")
    over = ScrollOrigin.from_element(opened.find_element(By.ID, "graph"))
    ActionChains(opened).scroll_from_origin(over, 0, 100).perform()
    wait_until(opened, lambda _: in_graph(opened, "cy.zoom()") < zoom)


def test_a_click_isolates_the_paths_to_the_logits(opened):
    point_at(opened, *place(opened, "a0.h3")).click().perform()
    path = {"a0.h3", "a0.h3 -> a1.h2.q: a1.h2", "a1.h2", "a1.h2 -> logits: logits", "logits"}
    assert visible(opened) == path
    opened.find_element(By.ID, "upstream").click()
    point_at(opened, *place(opened, "a0.h3")).click().perform()
    assert visible(opened) == path | {"embed", "embed -> a0.h3.q: a0.h3"}
    point_at(opened, 5, 5).click().perform()
    assert visible(opened) == set(in_graph(opened, "cy.elements().not('.layer').map((e) => e.id())"))


def test_a_head_is_found_by_its_numbers(opened):
    box = opened.find_element(By.ID, "search")
    box.send_keys("0.3")
    assert in_graph(opened, "cy.$('.found').map((e) => e.id())") == ["a0.h3"]
    assert text_of(opened, "details").startswith("a0.h3\n")
    box.clear()
    box.send_keys("A1.H2")
    assert in_graph(opened, "cy.$('.found').map((e) => e.id())") == ["a1.h2"]


def test_a_head_that_the_circuit_lacks_is_said_to_be_at_other_thresholds(opened):
    opened.find_element(By.ID, "slider").send_keys(Keys.ARROW_RIGHT)
    opened.find_element(By.ID, "search").send_keys("a1.h2")
    assert text_of(opened, "details") == "a1.h2 is not in this circuit. It is at threshold 0.01."
    opened.find_element(By.ID, "search").send_keys("9")
    assert text_of(opened, "details") == "a1.h29 is not in this circuit. It is in none of the sweep."


def test_the_lists_lead_to_the_graph(opened):
    first = opened.find_element(By.CSS_SELECTOR, "#nodes button")
    assert first.text.split() == ["a0.h0", "0.375"]
    first.click()
    assert in_graph(opened, "cy.$('.found').map((e) => e.id())") == ["a0.h0"]


# What heads do.


def attention_of(shares: list[list[float]]) -> str:
    return base64.b64encode(bytes(round(255 * share) for row in shares for share in row)).decode()


CLEAN, CORRUPTED = [[1, 0], [0.2, 0.8]], [[1, 0], [0.6, 0.4]]
ROWS = [
    {"head": "a0.h0", "circuits": 1, "name": "induction", "score": 0.7, "rank": 1, "passed": True, "END->IO": 0.2},
    {"head": "a1.h2", "circuits": 1, "name": "name mover", "score": 0.5, "rank": 2, "passed": False},
    {"head": "a1.h3", "circuits": 1, "name": "none"},
]
ROWS[1] |= {"cut": "q", "cut_effect": -0.25, "cut_error": 0.01, "cut_passed": False, "tested_by": "logit_difference"}
PROMPTS = [
    {"clean": ["Mary", " to"], "corrupted": ["Ann", " to"], "labels": {"IO": [0, None], "END": [1, 1]}},
    {"clean": ["<b>", " is"], "corrupted": ["I", " is"], "labels": {}},
]
HEADS = Heads(
    pd.DataFrame(ROWS),
    {"prompts": PROMPTS, "patterns": {"a1.h2": [[attention_of(CLEAN), attention_of(CORRUPTED)]] * 2}},
)


def test_a_head_has_its_name_its_test_and_its_scores():
    nodes = {node["id"]: node for node in data_of(page(SWEEP, {}, "t", "0.3", HEADS))["circuits"][0]["nodes"]}
    assert nodes["a1.h2"]["failed"] and not nodes["a0.h0"]["failed"]
    facts = dict(nodes["a1.h2"]["facts"])
    assert facts["proposed name"] == "name mover (score 0.5, rank 2 of 3, fails its test)"
    cut = facts["test: its query as in the ablated run"]
    assert cut == "logit difference gets better by 0.25 ± 0.01: not as the name predicts"
    assert ["attends END to IO", "0.20"] in nodes["a0.h0"]["facts"]
    assert dict(nodes["a1.h3"]["facts"])["proposed name"] == "none: no rule holds"
    fills = {name: node["fill"] for name, node in nodes.items()}
    assert fills["a1.h3"] == "#FFFFFF" and len({fills["a0.h0"], fills["a1.h2"], fills["m0"], fills["a1.h3"]}) == 4


@pytest.mark.parametrize(("n_layers", "n_heads"), [(2, 4), (12, 12), (30, 9)])
def test_nodes_fill_a_laptops_window_with_labels_that_can_be_read(n_layers, n_heads):
    graph = Graph(n_layers, n_heads, n_heads)
    where = module.places({*graph.senders, graph.receivers[-1]})
    spots = [*where["positions"].values(), *(layer["position"] for layer in where["layers"])]
    x, y = ([spot[axis] for spot in spots] for axis in "xy")
    width, height = max(x) - min(x) + 2 * module.WIDTH, max(y) - min(y) + 30
    zoom = min(1, 1090 / width, 690 / height)
    assert zoom * module.FONT >= 11
    assert len({(spot["x"], spot["y"]) for spot in spots}) == len(spots)


@pytest.mark.parametrize(("n_layers", "lies"), ((14, False), (24, True)), ids=("rows", "columns"))
def test_of_a_graph_that_does_not_fit_the_part_up_to_the_logits_is_shown(browser, tmp_path, n_layers, lies):
    """In a narrow frame, such as a notebook's, with labels that can be read."""
    whole = [found("1", Circuit.full(Graph(n_layers, 1, 1)))]
    (tmp_path / "large.html").write_text(page(whole, {}, "t", "1"), encoding="utf-8")
    browser.set_window_size(800, 600)
    browser.get((tmp_path / "large.html").as_uri())
    x, y = place(browser, "logits")
    width, height, label = in_graph(browser, "[cy.width(), cy.height(), cy.zoom() * data.font]")
    assert label >= 10.99
    assert 0.7 * width < x < width if lies else 0 < y < 0.2 * height


@pytest.fixture
def described(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    file = tmp_path / "heads.html"
    file.write_text(page(SWEEP, NODES, "a title", "0.01", HEADS), encoding="utf-8")
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def cells(browser: webdriver.Chrome) -> list[list[str]]:
    """Return the titles of the cells of both heat maps."""
    of_one = "(table) => [...table.querySelectorAll('td[title]')].map((cell) => cell.title)"
    return browser.execute_script(f"return [...document.querySelectorAll('.heat')].map({of_one})")


def test_pointing_at_a_head_shows_its_attention_clean_and_corrupted(described):
    card = described.find_element(By.ID, "attention")
    assert not card.is_displayed()
    point_at(described, *place(described, "a1.h2")).perform()
    assert card.is_displayed()
    clean, corrupted = cells(described)
    assert clean == ["Mary to Mary: 1.00", "Mary to to: 0.00", "to to Mary: 0.20", "to to to: 0.80"]
    assert corrupted == ["Ann to Ann: 1.00", "Ann to to: 0.00", "to to Ann: 0.60", "to to to: 0.40"]
    assert "Mary (IO)" in card.text and "Ann (IO)" not in card.text and card.text.count("to (END)") == 4
    point_at(described, *place(described, "m0")).perform()
    assert not card.is_displayed()


def test_a_click_pins_the_attention_and_the_prompt_can_be_changed(described):
    point_at(described, *place(described, "a1.h2")).click().perform()
    point_at(described, 5, 5).perform()
    assert described.find_element(By.ID, "attention").is_displayed()
    Select(described.find_element(By.ID, "prompt")).select_by_index(1)
    assert cells(described)[0][2] == "is to <b>: 0.20"
    point_at(described, 5, 5).click().perform()
    assert not described.find_element(By.ID, "attention").is_displayed()


def test_names_have_their_colours_in_the_legend_and_the_graph(described):
    assert text_of(described, "classes").split("\n")[0].startswith("name mover")
    script = "['a1.h2', 'a0.h0'].map((id) => cy.getElementById(id).style('border-style'))"
    assert in_graph(described, script) == ["dashed", "solid"]


def test_a_page_without_heads_has_no_prompt_to_choose(opened):
    assert not opened.find_element(By.ID, "prompt").is_displayed() and text_of(opened, "classes") == ""
    point_at(opened, *place(opened, "a1.h2")).perform()
    assert not opened.find_element(By.ID, "attention").is_displayed()
