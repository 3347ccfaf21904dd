"""Test what docs/extending.md says: six files are made, and every table and figure of a study has what they declare."""

from __future__ import annotations

import re

import pytest

from tests.checkout import ROOT, Checkout

BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = dict(BLOCK.findall((ROOT / "docs/extending.md").read_text()))


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("extended"))
    for name, text in FILES.items():
        checkout.write(name, text)
    result = checkout.snakemake("--configfile", "extended.yaml")
    assert result.returncode == 0, result.stdout[-5000:]
    return checkout


def test_six_files_and_a_config_are_all(extended):
    assert len(FILES) == 7 and sum(name.startswith("workflow/extensions/") for name in FILES) == 6


@pytest.mark.parametrize("name", ["evaluation", "faithfulness", "timing", "methods", "recovery", "auc", "stability"])
def test_methods_metric_and_ablation_are_in_every_table(extended, name):
    table = extended.table(f"results/extended/{name}.csv")
    rows = table[(table.task == "planted") & (table.metric == "total_variation")]
    assert {"acdc", "single", "change", "activations_program"} <= set(rows.method) and set(rows.ablation) == {"first"}


def test_labels_are_in_the_papers_tables(extended):
    assert {"ACDC", "Single", "Change", "EAP-IG of activations, program"} <= set(
        extended.table("results/extended/auc_first.csv")
    )


def test_circuits_are_as_their_methods_say(extended):
    table = extended.table("results/extended/evaluation.csv").set_index("method")
    single = table.loc["single"]
    assert (single.size_by, single.value) == ("cutoff", "0.001")
    # Of the edges into the logits, only the successor MLP's matters; four of them are tried at most.
    assert table.loc["full"].n_edges.iloc[0] - 4 <= single.n_edges < table.loc["full"].n_edges.iloc[0]
    assert table.total_variation.dropna().between(0, 1).all()
    change = extended.table("results/extended/planted/planted/total_variation/first/change/scores.csv")
    assert (change.groupby("sender").score.nunique() == 1).all() and change.score.max() > 0


def test_the_task_has_a_circuit(extended):
    table = extended.table("results/extended/evaluation.csv")
    (row,) = table[(table.task == "same_month") & (table.method == "acdc")].to_dict("records")
    assert row["n_edges"] > 0 and 0 <= row["total_variation"] <= 1


def test_every_figure_is_there(extended):
    folder = extended.root / "figures/extended"
    made = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    place = "planted/planted/"
    assert made >= {
        f"{place}pareto_first.png",
        f"{place}circuit_total_variation_first_acdc_0.01.png",
        *("faithfulness.png", "cost_seconds.png", "cost_evaluations.png", "roc_edges.png", "roc_nodes.png"),
    }


def test_a_method_that_needs_a_slope_refuses_the_new_distance(extended):
    text = FILES["extended.yaml"].replace("scores: [change, activations_program]", "scores: [eap]")
    result = extended.snakemake("-n", "--configfile", extended.write("refused.yaml", text))
    assert "task planted: eap by total_variation scores everything 0" in result.stdout


def test_editing_an_extension_repeats_its_searches_only(extended):
    file = extended.root / "workflow/extensions/change.py"
    file.write_text(file.read_text().replace("evaluations=1", "evaluations=2"))
    result = extended.snakemake("-n", "--configfile", "extended.yaml")
    jobs = set(re.findall(r"^(?:local)?rule (\w+):", result.stdout, re.MULTILINE))
    assert {"circuits_planted_planted_total_variation_first", "stability", "evaluate"} <= jobs
    assert not {"circuits_same_month_tiny_llama_total_variation_first", "controls", "dataset", "model"} & jobs
