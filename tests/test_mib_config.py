"""Test workflow/config/mib.yaml: it has MIB's pairs, and its DAG runs on small random models.

A stand-in for the hub has models and prompts under the names of the config. Prompts are ours in MIB's layouts, from the
hub and from local files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM as AutoModel
from transformers import Gemma2Config, LlamaConfig, PreTrainedConfig

from acdc.config import read_configs
from acdc.data import Dataset
from acdc.found import Found
from acdc.study import SPLITS
from acdc.tasks import load
from tests.checkout import ROOT, Checkout
from tests.gpt2 import gpt2_tokenizer
from tests.hub import Repository, stand_in
from tests.small_models import LLAMA, shaken

MIB = yaml.safe_load((ROOT / "workflow/config/mib.yaml").read_text())
HUB = {model["name"]: model for model in MIB["models"]}
PAIRS = {
    "ioi_mib": ["gpt2", "qwen2.5-0.5b", "gemma2-2b", "llama3.1-8b"],
    "mcqa_mib": ["qwen2.5-0.5b", "gemma2-2b", "llama3.1-8b"],
    "arithmetic_addition_mib": ["llama3.1-8b"],
    "arithmetic_subtraction_mib": ["llama3.1-8b"],
    "arc_easy_mib": ["gemma2-2b", "llama3.1-8b"],
    "arc_challenge_mib": ["llama3.1-8b"],
}
"""COL_MAPPING of MIB_circuit_track/utils.py at b759df3."""
METHODS = ["acdc", "eap", "eap_ig", "eap_ig_activations", "gim", "random"]
SIZES = {**LLAMA, "vocab_size": 50257, "num_hidden_layers": 2, "max_position_embeddings": 64}
SMALL: dict[str, PreTrainedConfig] = {
    "gemma2-2b": Gemma2Config(**SIZES, head_dim=8, attn_logit_softcapping=2.0, final_logit_softcapping=5.0),
    "llama3.1-8b": LlamaConfig(**SIZES),
}
N = {"n_prompts": 3, "n_test_prompts": 3}


def test_pairs_are_mibs_and_one_is_ours():
    found: dict[str, list[str]] = {}
    for task in MIB["tasks"]:
        found.setdefault(task["name"], []).append(task["model"])
    assert found.pop("mib_ioi") == ["gpt2"]
    assert found == PAIRS


def test_every_pair_is_measured_as_mib_counts_edges_and_by_acdc_where_a_gpu_can_do_it():
    for task in MIB["tasks"]:
        (search,) = task["searches"]
        assert task["kv_heads"] == "per_query_head" and task["ablations"] == ["corrupted"]
        assert search["metric"] == "logit_difference" and search["scores"] == METHODS[1:]
        assert task["bos"] == (True if task["model"] != "qwen2.5-0.5b" else "auto")
        assert ("thresholds" in search) == (task["model"] != "llama3.1-8b" and "arc" not in task["name"])


def test_circuits_are_found_on_the_train_split_and_measured_on_validation():
    for task in (task for task in MIB["tasks"] if task["name"] != "mib_ioi"):
        first, second = task["prompts"], task["test_prompts"]
        assert "/train/" in first["file"] and first["file"].replace("train", "validation") == second["file"]
        assert {**first, "file": ""} == {**second, "file": ""}


def test_integrated_gradients_are_mibs():
    """The default config, on which every other one is built, takes the steps as the paper writes them."""
    merged = read_configs([ROOT / "workflow/config/mib.yaml"], ROOT)
    assert merged["methods"]["eap_ig"] == {"ig_steps": 5, "ig_ends": "ablated"}
    assert merged["methods"].keys() == {"eap_ig", "sp"}


# The DAG


def rows(task: str) -> list[dict[str, Any]]:
    """Return the prompts of a task of ours, in MIB's layout."""
    made = load(task).make_dataset(gpt2_tokenizer(), 16, 0)
    texts = zip(made.about["clean"], made.about["corrupted"], strict=True)
    answers = zip(*(map(gpt2_tokenizer().decode, made.targets[name]) for name in ("correct", "incorrect")), strict=True)
    return [LAYOUT[task](*pair, *both) for pair, both in zip(texts, answers, strict=True)]


def choices(prompt: str, letter: str) -> dict[str, Any]:
    return {"prompt": prompt, "choices": {"label": ["X", letter.strip()], "text": ["no", "yes"]}, "answerKey": 1}


LAYOUT: dict[str, Any] = {
    "mib_arithmetic": lambda clean, other, result, wrong: {
        # As MIB's, each ends with a space, and a row may have no counterfactual.
        "prompt": f"{clean} ",
        "label": int(result),
        "random_counterfactual": {"prompt": f"{other} ", "label": int(wrong)} if int(result) % 2 else None,
    },
    "mib_mcqa": lambda clean, other, right, wrong: {
        **choices(clean, right),
        "symbol_counterfactual": choices(other, wrong),
    },
}


def repositories(folder: Path) -> dict[str, Repository]:
    """Return the hub's repositories, by the names and at the revisions that the config has."""
    found = {}
    for name, config in SMALL.items():
        torch.manual_seed(0)
        shaken(AutoModel.from_config(config)).save_pretrained(folder / name)
        gpt2_tokenizer().save_pretrained(folder / name)
        found[HUB[name]["hub"]] = Repository.of(folder / name, commit=HUB[name].get("revision", ""))
    given = next(one for one in MIB["tasks"] if one["name"] == "arithmetic_addition_mib")
    # Four rows stand in both files.
    content = {}
    for key, some in (("prompts", slice(8)), ("test_prompts", slice(4, 16))):
        pd.DataFrame(rows("mib_arithmetic")[some]).to_parquet(folder / "prompts.parquet")
        content[given[key]["file"]] = (folder / "prompts.parquet").read_bytes()
    revision = given["prompts"]["revision"]
    found[f"datasets/{given['prompts']['hub']}"] = Repository(content, branches=(revision,))
    return found


def cut(arc: str, test_arc: str) -> dict[str, Any]:
    """Return a study of two pairs, one with prompts on the hub and one with files, of few prompts and thresholds."""
    pairs = [("arithmetic_addition_mib", "llama3.1-8b"), ("arc_easy_mib", "gemma2-2b")]
    tasks = [task | N for task in MIB["tasks"] if (task["name"], task["model"]) in pairs]
    tasks[1] |= {"prompts": arc, "test_prompts": test_arc}
    for task, methods in zip(tasks, (METHODS[1:], ["eap"]), strict=True):
        task["searches"] = [{"metric": "logit_difference", "thresholds": ["1", "3"], "scores": methods}]
    return {**MIB, "study": "cut", "device": "cpu", "memory_gib": 1, "tasks": tasks}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("mib"))
    questions = [json.dumps(row) + "\n" for row in rows("mib_mcqa")]
    arc = checkout.write("arc easy.jsonl", "".join(questions[:8]))
    config = checkout.overlay("cut.yaml", cut(arc, checkout.write("arc test.jsonl", "".join(questions[8:]))))
    with stand_in() as hub:
        hub.repositories |= repositories(tmp_path_factory.mktemp("small"))
        hub_is_there = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("home"))}
        result = checkout.snakemake(
            "--cores", "all", "results/cut/mib.csv", "--configfile", config, **hub_is_there, HF_HUB_DISABLE_XET="1"
        )
    assert result.returncode == 0, result.stdout[-5000:]
    return checkout


def test_every_search_and_method_has_a_row(finished):
    table = finished.table("results/cut/mib.csv")
    found = table.groupby(["model", "task"]).method.agg(list).to_dict()
    assert found == {
        ("llama3.1-8b", "arithmetic_addition_mib"): METHODS,
        ("gemma2-2b", "arc_easy_mib"): ["acdc", "eap"],
    }
    assert table[["cpr", "cmd"]].notna().all(axis=None) and (table.cmd >= 0).all()


def test_held_out_prompts_are_of_the_second_file_and_none_of_the_first(finished):
    data = finished.root / "data/cut/datasets"
    for task, made in (
        ("llama3.1-8b/arithmetic_addition_mib", "mib_arithmetic"),
        ("gemma2-2b/arc_easy_mib", "mib_mcqa"),
    ):
        first = {row["prompt"] for row in rows(made)[:8]}
        found = {split: Dataset.load(data / task / f"{split}.safetensors").about["clean"] for split in SPLITS}
        assert set(found["discovery"]) <= first and not set(found["test"]) & first


def test_prompts_are_as_mib_has_them(finished):
    data = finished.root / "data/cut/datasets"
    begin = gpt2_tokenizer().bos_token
    addition = Dataset.load(data / "llama3.1-8b/arithmetic_addition_mib/test.safetensors")
    for tokens, correct in zip(addition.clean, addition.targets["correct"], strict=True):
        text = gpt2_tokenizer().decode(tokens)
        assert text.startswith(begin) and text.endswith("= ")
        result = sum(map(int, text.removeprefix(begin).removesuffix("= ").split("+")))
        assert gpt2_tokenizer().decode(correct) == str(result) and result % 2
    arc = Dataset.load(data / "gemma2-2b/arc_easy_mib/test.safetensors")
    assert {gpt2_tokenizer().decode(token) for token in arc.targets["correct"]} <= {"A", "B", "C", "D"}


def test_a_model_with_shared_keys_is_measured_as_mib_counts_edges(finished):
    search = "results/cut/llama3.1-8b/arithmetic_addition_mib/logit_difference/corrupted"
    graph = Found.load(finished.root / search / "acdc/1/circuit.json").circuit.graph
    assert graph.n_kv_heads == graph.n_heads == 4
