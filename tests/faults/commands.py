"""List every command that writes, with a small study's files, but for where it writes."""

from __future__ import annotations

from tests.faults.small_study import (
    AGREEMENT,
    BEHAVIOUR,
    CIRCUITS,
    DATASET,
    DISCOVERY,
    ENGINE,
    EVALUATE,
    FOUND,
    HEADS,
    LABELS,
    SEARCH,
    SIGNIFICANCE,
    STABILITY,
    TEST,
)

CONTROLS = ["controls", *ENGINE, "--task", "planted", *TEST, "--ablations", "corrupted", "--seeds", "1"]
FIND = ["find", "--model", "source", "--prompts", "prompts.csv", "--metric", "logit_difference", "--threshold", "3"]
IMPORT = ["import", "eap.json", "--format", "eap_json", *LABELS, "--method", "eap", "--value", "9"]
METHODS = ["methods", "--faithfulness", "faithfulness.csv", "--timing", "timing.csv", "--circuits", FOUND]
TO_FILES: dict[str, tuple[list[str], str]] = {
    "download": (["download", "--requirement", "none==1", "--sha256", "0" * 64, "--out"], "o.whl"),
    "prompts": (["prompts", "--hub", "no/thing", "--file", "x.csv", "--out"], "o.csv"),
    "behaviour": ([*BEHAVIOUR, "--logits", "o1", "o2", "--out"], "o.csv"),
    "circuits, timing": ([*CIRCUITS, "--out", "o", "--timing"], "o.csv"),
    "stability": ([*STABILITY, "--work", "o", "--out"], "o.csv"),
    "heads": ([*HEADS, "--out"], "o.csv"),
    "heads, attention": ([*HEADS, "--out", "o.csv", "--attention"], "o.json"),
    "agreement": ([*AGREEMENT, "--out"], "o.csv"),
    "mib": (
        ["mib", *ENGINE, "--task", "planted", "--ablation", "corrupted", *TEST, "--circuits", FOUND, "--out"],
        "o.csv",
    ),
    "significance": ([*SIGNIFICANCE, "--out"], "o.csv"),
    "evaluate": ([*EVALUATE, "--recovery", "r.csv", "--out"], "o.csv"),
    "evaluate, recovery": ([*EVALUATE, "--out", "o.csv", "--recovery"], "r.csv"),
    "controls": ([*CONTROLS, "--out"], "o.csv"),
    "nodes": (["nodes", *ENGINE, *SEARCH, *DISCOVERY, "--circuits", FOUND, "--out"], "o.csv"),
    "table": (["table", "search.csv", "--out"], "o.csv"),
    "faithfulness": (["faithfulness", "--evaluation", "evaluation.csv", "--out"], "o.csv"),
    "auc": (["auc", "--recovery", "recovery.csv", "--out"], "o.csv"),
    "auc-tables": (["auc-tables", "--auc", "auc.csv", "--out"], "auc_corrupted.md"),
    "methods": ([*METHODS, "--out"], "o.csv"),
    "readable": (["readable", "auc.csv", "--out"], "o.html"),
    "roc": (["roc", "--recovery", "recovery.csv", "--levels", "edge", "--out"], "o.pdf"),
    "pareto": (["pareto", "--tables", "evaluation.csv", "--ablations", "corrupted", "--out"], "o.png"),
    "curves": (["curves", "--evaluation", "evaluation.csv", "--out"], "o.svg"),
    "cost": (["cost", "--methods", "methods.csv", "--by", "evaluations", "--out"], "o.pdf"),
    "trained-and-reset": (["trained-and-reset", "--auc", "auc.csv", "--pairs", "planted=planted", "--out"], "o.pdf"),
    "draw": (["draw", "--circuits", FOUND, "--out"], "o.pdf"),
    "draw, page": (["draw", "--circuits", FOUND, "--out", "o.pdf", "--page"], "o.html"),
    "page": (["page", "--circuits", FOUND, "--start", "0.01", "--out"], "o.html"),
    "collection": (["collection", "--pages", "page.html", "--title", "all", "--out"], "o.html"),
    **{
        f"export {kind}": (["export", FOUND, "--d-model", "76", "--format", kind, "--out"], f"o.{suffix}")
        for kind, suffix in {"original": "pth", "eap_json": "json", "eap_pt": "pt", "graphml": "graphml"}.items()
    },
}
"""Commands, without the file at their end that they write."""
TO_FOLDERS: dict[str, list[str]] = {
    "model of a folder": ["model", "--folder", "source", "--out"],
    "model of a builder": ["model", "--build", "planted", "--out"],
    "model, reset": ["model", "--reset", "planted", "--out"],
    "dataset": [*DATASET, "--out"],
    "find": [*FIND, "--out"],
    "circuits": [*CIRCUITS, "--out"],
    "import": [*IMPORT, "--out"],
}
"""Commands, without the folder at their end that they write into."""
FROM_ELSEWHERE = {"download", "prompts"}
"""Commands that need a network: tests/models has what becomes of them."""
