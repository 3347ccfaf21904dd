"""Test workflow/config/paper.yaml: it is the paper, and its DAG runs on random weights of the same architectures.

They come from a stand-in for the hub, under the names and the revision that the config has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from acdc.graph import Graph
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from tests.checkout import ROOT, Checkout
from tests.gpt2 import gpt2_tokenizer
from tests.hub import Repository, stand_in
from tests.small_models import legacy_folder, shaken

PAPER = yaml.safe_load((ROOT / "workflow/config/paper.yaml").read_text())
RESET = {model["name"] for model in PAPER["models"] if "reset" in model}
TASKS = {task["name"]: task for task in PAPER["tasks"] if task["model"] not in RESET}
OF_THE_PAPER = ("ioi_paper", "greater_than", "docstring", "induction")
OF_TEXT = (*OF_THE_PAPER, "number_words_sequence")
NOT_OF_THE_PAPER = ("months", "number_words", "numerals")
N_VOCABULARY = 50257
TOKENIZER = "someone/tokenizer"
"""Models of TransformerLens 1.x bring no tokenizer but the name of its repository."""


def thresholds(task: str, metric: str, key: str = "thresholds") -> list[float]:
    (search,) = (search for search in TASKS[task]["searches"] if search["metric"] == metric)
    return [float(threshold) for threshold in search[key]]


@pytest.mark.parametrize(
    ("task", "metric", "low", "high", "n"),
    [
        ("ioi_paper", "kl_divergence", -6, 0, 31),
        ("ioi_paper", "logit_difference", -4, 0, 21),
        ("greater_than", "kl_divergence", -6, -4, 11),
        ("greater_than", "probability_difference", -3, -1, 21),
        ("docstring", "kl_divergence", -4, 0, 21),
        ("docstring", "docstring_metric", -4, 0, 21),
        ("induction", "kl_divergence", -2, 0.5, 21),
        ("induction", "nll", -2, 0.5, 21),
        ("tracr_reverse", "l2", -5, -1, 21),
        ("tracr_proportion_paper", "l2", -5, -1, 21),
    ],
)
def test_thresholds_are_the_papers(task, metric, low, high, n):
    np.testing.assert_allclose(thresholds(task, metric), 10 ** np.linspace(low, high, n), rtol=5e-4)


OF_NATS = [*10 ** np.linspace(-2, 0, 11), *np.arange(2, 11), *np.arange(30, 251, 20)]
OF_OWN = 10 ** np.linspace(-4, 2, 21)


@pytest.mark.parametrize(
    ("task", "metric", "expected"),
    [
        *((task, "kl_divergence", OF_NATS) for task in OF_THE_PAPER),
        ("ioi_paper", "logit_difference", OF_OWN),
        ("greater_than", "probability_difference", OF_OWN),
        ("docstring", "docstring_metric", OF_OWN),
        ("induction", "nll", OF_NATS),
        ("tracr_reverse", "l2", 10 ** np.linspace(-3, 0, 11)),
        ("tracr_proportion_paper", "l2", 10 ** np.linspace(-3, 0, 11)),
    ],
)
def test_regularisations_are_those_that_the_originals_jobs_have(task, metric, expected):
    np.testing.assert_allclose(thresholds(task, metric, "regularisations"), expected, rtol=5e-4)


def test_each_task_of_the_paper_is_also_run_on_a_reset_network():
    reset = {task["name"]: task for task in PAPER["tasks"] if task["model"] in RESET}
    assert reset.keys() == {*OF_THE_PAPER, "tracr_reverse", "tracr_proportion_paper"}
    models = {model["name"]: model for model in PAPER["models"]}
    for name, task in reset.items():
        assert models[task["model"]]["reset"] == TASKS[name]["model"]
        # Nothing is drawn of a reset network, which has no circuit to see.
        assert {**task, "model": None} == {**TASKS[name], "model": None, "draw": []}


def test_sample_sizes_seeds_and_ablations_are_the_papers():
    sizes = {name: (task["n_prompts"], task["n_test_prompts"], task["seed"]) for name, task in TASKS.items()}
    assert {name: sizes[name] for name in OF_THE_PAPER} == {
        "ioi_paper": (100, 100, 0),
        "greater_than": (100, 100, 54),
        "docstring": (50, 50, 0),
        "induction": (50, 50, 0),
    }
    assert sizes["tracr_reverse"][:2] == (6, 0) and sizes["tracr_proportion_paper"][:2] == (50, 50)
    assert all(
        {"corrupted", "zero"} <= set(TASKS[name]["ablations"])
        for name in TASKS
        if not name.startswith(NOT_OF_THE_PAPER)
    )
    assert [name for name, task in TASKS.items() if "methods" in task] == ["induction"]
    assert TASKS["induction"]["methods"] == {"acdc": {"head_order": "ascending"}}


@pytest.mark.parametrize(
    ("graph", "counted", "addition"),
    [
        (Graph(12, 12, 12), 32_923, 32_491),
        (Graph(4, 8, 8, has_mlp=False), 1_377, 1_281),
        (Graph(2, 8, 8, has_mlp=False), 305, 257),
    ],
    ids=("gpt2", "attn-only-4l", "redwood_attn_2l"),
)
def test_edges_are_as_many_as_the_paper_counts(graph, counted, addition):
    """ACDC counts direct edges, EAP does not."""
    assert (graph.n_edges, graph.exists.sum()) == (counted, addition)


# The whole DAG on random weights


def small_gpt2(folder: Path) -> None:
    """Write a narrow GPT-2 of GPT-2 small's layers and heads, so that the known circuits are circuits of it."""
    config = GPT2Config(n_embd=24, n_layer=12, n_head=12, n_positions=64, initializer_range=0.2)
    torch.manual_seed(0)
    shaken(GPT2LMHeadModel(config)).save_pretrained(folder)
    gpt2_tokenizer().save_pretrained(folder)


def small_legacy(folder: Path, n_layers: int) -> None:
    """Write a model as the first TransformerLens saved it."""
    generator, heads, d_model, d_head = torch.Generator().manual_seed(n_layers), 8, 32, 4

    def random(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    state = {"embed.W_E": random(N_VOCABULARY, d_model), "pos_embed.W_pos": random(64, d_model)}
    for layer in range(n_layers):
        block = f"blocks.{layer}"
        state |= {f"{block}.ln1.w": 1 + random(d_model), f"{block}.ln1.b": random(d_model)}
        state |= {f"{block}.attn.W_{name}": random(heads, d_model, d_head) for name in "QKV"}
        state |= {f"{block}.attn.b_{name}": random(heads, d_head) for name in "QKV"}
        state |= {f"{block}.attn.W_O": random(heads, d_head, d_model), f"{block}.attn.b_O": random(d_model)}
    state |= {"ln_final.w": 1 + random(d_model), "ln_final.b": random(d_model)}
    state |= {"unembed.W_U": random(d_model, N_VOCABULARY)}
    settings = {"n_layers": n_layers, "n_heads": heads, "d_model": d_model, "d_head": d_head, "d_mlp": None}
    settings |= {"n_ctx": 64, "d_vocab": N_VOCABULARY, "act_fn": None, "attn_only": True, "normalization": "LN"}
    legacy_folder(folder, settings | {"tokenizer_name": TOKENIZER}, state)


def cut(config: dict[str, Any]) -> dict[str, Any]:
    """Return the paper's study with its models of the hub, two prompts and one threshold a search."""
    tasks = []
    for task in (TASKS[name] for name in OF_TEXT):
        searches = [cut_search(search, task["name"] == "docstring") for search in task["searches"]]
        ablations = task["ablations"] if task["name"] == "docstring" else ["corrupted"]
        options = {"options": {"n_tokens": 40}} if task["name"] == "induction" else {}
        drawn = {"draw": searches[0]["thresholds"] if task["draw"] else []}
        tasks.append(
            {
                **task,
                "n_prompts": 2,
                "n_test_prompts": 2,
                "searches": searches,
                "ablations": ablations,
                **drawn,
                **options,
            }
        )
    return {
        **config,
        "study": "cut",
        "device": "cpu",
        "memory_gib": 1,
        "models": [model for model in config["models"] if "hub" in model],
        "tasks": tasks,
        "methods": {"sp": {**config["methods"]["sp"], "steps": 10}},
        "random_circuits": {"seeds": 1, "fractions": ["0.5"]},
        "figures": {"formats": ["png"], "max_edges": 50},
    }


def cut_search(search: dict[str, Any], every_method: bool) -> dict[str, Any]:
    first = {key: values[-1:] for key, values in search.items() if key in ("thresholds", "regularisations")}
    cut = {**search, **first}
    return cut if every_method else {key: cut[key] for key in ("metric", "thresholds")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("paper"))
    home = tmp_path_factory.mktemp("home")
    config = checkout.overlay("cut.yaml", cut(PAPER))
    targets = [f"results/cut/{table}.csv" for table in ("auc", "behaviour", "timing")]
    with stand_in() as hub:
        hub.repositories |= repositories(tmp_path_factory.mktemp("small"))
        hub_is_there = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
        result = checkout.snakemake("--cores", "all", *targets, "--configfile", config, **hub_is_there)
    assert result.returncode == 0, result.stdout[-5000:]
    return checkout


def repositories(folder: Path) -> dict[str, Repository]:
    """Return the hub's repositories, by the names and at the revisions that the config has."""
    small_gpt2(folder / "gpt2")
    small_legacy(folder / "attn-only-4l", 4)
    small_legacy(folder / "redwood_attn_2l", 2)
    gpt2_tokenizer().save_pretrained(folder / "tokenizer")
    models = {
        model["hub"]: Repository.of(folder / model["name"], commit=model.get("revision", ""))
        for model in PAPER["models"]
        if "hub" in model
    }
    return models | {TOKENIZER: Repository.of(folder / "tokenizer")}


def test_every_search_of_the_paper_has_a_circuit(finished):
    results = finished.root / "results/cut"
    found = {path.relative_to(results).parts[:4] for path in results.glob("**/circuit.json")}
    assert found == {
        (task["model"], task["name"], search["metric"], ablation)
        for task in cut(PAPER)["tasks"]
        for search in task["searches"]
        for ablation in task["ablations"]
    }


def test_graphs_are_the_papers_and_so_is_the_shortformer(finished):
    edges = {"gpt2": 32_923, "attn-only-4l": 1_377, "redwood_attn_2l": 305}
    for name, n_edges in edges.items():
        architecture = weights_of(load_bridge(finished.root / "data/cut/models" / name)).architecture
        assert architecture.graph().n_edges == n_edges
        assert architecture.positions == ("shortformer" if name == "redwood_attn_2l" else "learned")
        processed = (finished.root / "data/cut/models" / name / "processed").exists()
        assert processed == (name != "redwood_attn_2l")


def test_known_circuits_are_compared_and_published_areas_stand_beside(finished):
    keys = ["task", "metric", "ablation", "level"]
    table = finished.table("results/cut/auc.csv")
    areas = table.query("method == 'acdc'").set_index(keys)["published"]
    hisp, sp = (table.query("method == @name").set_index(keys)["published"] for name in ("hisp", "sp"))
    assert hisp["docstring", "docstring_metric", "corrupted", "edge"] == 0.821
    assert sp["docstring", "kl_divergence", "zero", "edge"] == 0.428
    assert areas["ioi_paper", "kl_divergence", "corrupted", "edge"] == 0.869
    assert areas["ioi_paper", "logit_difference", "corrupted", "edge"] == 0.589
    assert areas["greater_than", "probability_difference", "corrupted", "original_node"] == 0.766
    assert (
        areas["docstring", "docstring_metric", "zero", "edge"]
        == pd.read_csv(ROOT / "acdc/assets/published/auc.csv", comment="#")
        .query("task == 'docstring' and metric == 'own' and ablation == 'zero' and method == 'acdc'")
        .edge.item()
    )
    table = finished.table("results/cut/recovery.csv").query("level == 'edge'").set_index("task")
    known = (table.tp + table.fn).groupby(level=0).first().to_dict()
    assert known.pop("number_words_sequence") > 1000
    assert known == {"ioi_paper": 1041, "greater_than": 262, "docstring": 37}


def test_behaviour_has_every_tasks_own_metric(finished):
    table = finished.table("results/cut/behaviour.csv").set_index(["task", "prompts"])
    for task in OF_TEXT:
        assert table.loc[(task, "corrupted"), [search["metric"] for search in TASKS[task]["searches"]]].notna().all()
    assert table.loc[("induction", "clean"), "nll"] > 0
