"""Make a small study in one folder, by the commands themselves: it has every kind of file that a command reads."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path

import pandas as pd

from acdc.found import Found
from acdc.models.toy.tiny_llama import build
from tests.faults import forks
from tests.originals import vector_folder

MONTHS = ["January", "February", "March", "April", "May"]
SEARCH = ["--task", "planted", "--metric", "logit_difference", "--ablation", "corrupted"]
ENGINE = ["--model", "planted", "--model-name", "planted", "--device", "cpu"]
DISCOVERY, TEST = (
    ["--dataset", f"data/{split}.safetensors", "--logits", f"data/{split}.logits.safetensors"]
    for split in ("discovery", "test")
)
METHODS = ["--methods", "acdc=0.01,1", "eap", "hisp", "--fractions", "0.3"]
CIRCUITS = ["circuits", *ENGINE, *SEARCH, *DISCOVERY, *METHODS]
FOUND, SEVERAL = "found/acdc/0.01/circuit.json", "found/eap/circuits.json"
OF_NODES = "found/hisp/circuits.json"
EVALUATE = ["evaluate", *ENGINE, "--task", "planted", "--ablation", "corrupted", *TEST]
EVALUATE += ["--known-of", "planted", "--circuits", FOUND, "found/acdc/1/circuit.json", SEVERAL, OF_NODES]
STABILITY = ["stability", *ENGINE, *SEARCH, *DISCOVERY, "--methods", "acdc=1", "--resamples", "2"]
SIGNIFICANCE = ["significance", *ENGINE, "--task", "planted", "--ablation", "corrupted", *TEST, "--circuits", FOUND]
SIGNIFICANCE += ["--random-circuits", "2"]
HEADS = ["heads", *ENGINE, "--task", "planted", "--ablation", "corrupted", *TEST, "--circuits", FOUND]
AGREEMENT = ["agreement", "--heads", "heads.csv", "--task", "planted", "--known-of", "planted"]
LABELS = ["--task", "planted", "--model-name", "planted", "--metric", "logit_difference", "--ablation", "corrupted"]
DATASET = ["dataset", "--task", "planted", "--model", "planted", "--n-prompts", "4", "--n-test-prompts", "4"]
DATASET += ["--seed", "0", "--metrics", "kl_divergence", "logit_difference"]
BEHAVIOUR = ["behaviour", "--task", "planted", "--model", "planted", "--model-name", "planted"]
BEHAVIOUR += ["--datasets", "data/discovery.safetensors", "data/test.safetensors"]
MAKE = (
    ["model", "--folder", "source", "--out", "model"],
    ["model", "--build", "planted", "--out", "planted"],
    [*DATASET, "--out", "data"],
    [*BEHAVIOUR, "--out", "behaviour.csv", "--logits", DISCOVERY[-1], TEST[-1]],
    [*CIRCUITS, "--out", "found", "--timing", "timing.csv"],
    [*EVALUATE, "--recovery", "recovery.csv", "--out", "search.csv"],
    ["controls", *ENGINE, "--task", "planted", *TEST, "--ablations", "corrupted", "--seeds", "2"]
    + ["--fractions", "0.3", "--out", "controls.csv"],
    ["table", "controls.csv", "search.csv", "--out", "evaluation.csv"],
    ["faithfulness", "--evaluation", "evaluation.csv", "--out", "faithfulness.csv"],
    ["auc", "--recovery", "recovery.csv", "--out", "auc.csv"],
    ["methods", "--faithfulness", "faithfulness.csv", "--timing", "timing.csv", "--circuits", FOUND, SEVERAL]
    + [OF_NODES, "--auc", "auc.csv", "--out", "methods.csv"],
    [*HEADS, "--attention", "attention.json", "--out", "heads.csv"],
    ["page", "--circuits", FOUND, "--start", "0.01", "--out", "page.html"],
    ["export", FOUND, "--format", "original", "--out", "circuit.pth"],
    ["export", FOUND, "--format", "eap_json", "--d-model", "76", "--out", "eap.json"],
    ["export", FOUND, "--format", "eap_pt", "--d-model", "76", "--out", "eap.pt"],
    ["export", FOUND, "--format", "graphml", "--out", "circuit.graphml"],
)


def make(folder: Path) -> None:
    """Make the study. ``begun`` and ``work`` hold a search and a resampled one as a kill leaves them."""
    build(folder / "source")
    write_prompts(folder)
    vector_folder(folder / "legacy", "small2l")
    for command in MAKE:
        ended = forks.run(command, folder)
        assert ended.status == 0, (command, ended.err)
    killed = forks.run([*CIRCUITS, "--out", "begun"], folder, partial(stop_at_checkpoint, 2))
    assert killed.status == 77 and (folder / "begun/acdc/0.01/checkpoint.pt").exists(), killed.err
    resampled = [*STABILITY, "--work", "work", "--out", "stability.csv"]
    killed = forks.run(resampled, folder, partial(stop_at_checkpoint, 5))
    assert killed.status == 77 and list((folder / "work").rglob("circuit.json")), killed.err
    write_edge_list(folder)


def stop_at_checkpoint(nth: int) -> None:
    """Make this process end at once when a search has written its checkpoint for the nth time."""
    import os

    from acdc.methods import driver

    save, seen = driver.save_state, []

    def saved(*arguments) -> None:
        save(*arguments)
        seen.append(1)
        if len(seen) == nth:
            os._exit(77)

    driver.save_state = saved


def write_prompts(folder: Path) -> None:
    """Write the same prompts in every format."""
    rows = [
        {
            "clean": f"Last month it was {now} so this month it is",
            "corrupted": "This time it is here and last time it was",
            "correct": f" {after}",
            "incorrect": f" {now}",
        }
        for now, after in zip(MONTHS, MONTHS[1:], strict=False)
    ]
    table = pd.DataFrame(rows)
    table.to_csv(folder / "prompts.csv", index=False)
    table.to_csv(folder / "prompts.tsv", index=False, sep="\t")
    table.to_parquet(folder / "prompts.parquet")
    (folder / "prompts.json").write_text(json.dumps(rows))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_edge_list(folder: Path) -> None:
    """Write a circuit as the original pickled its edges before it saved whole dictionaries."""
    found = Found.load(folder / FOUND)
    listed = [((*edge.receiver_hook, *edge.sender_hook), 0.5) for edge in found.circuit.edges]
    (folder / "edges.pkl").write_bytes(pickle.dumps(listed))
