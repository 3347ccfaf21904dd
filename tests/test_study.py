"""Test how a config becomes a checked study: its files, what its jobs are told, and one sentence where it is wrong."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from acdc import catalogue, fingerprint
from acdc.config import check_keys, merged, read_configs
from acdc.errors import InputError
from acdc.study import Study

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden"
CONFIGS = ("architectures", "default", "demo", "full", "gemma", "mib", "paper", "sweep", "test")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"workflow/config/{name}.yaml").read_text())


def study(name: str = "test", root: Path = ROOT, **top: Any) -> Study:
    return Study(merged(merged(read("default"), read(name)), top), root)


def job(**wildcards: str) -> SimpleNamespace:
    return SimpleNamespace(**wildcards)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_study_makes_the_files_of_its_golden_list(name):
    """To accept a change on purpose, run python -m tests.test_study and read the diff."""
    assert study(name).targets() == (GOLDEN / f"{name}.txt").read_text().split()


def test_no_file_is_of_two_studies_and_every_path_starts_with_its_study():
    studies = {name: study(name) for name in CONFIGS} | {"test.2": study(study="test.2")}
    files = {
        name: {*one.targets(), *one.all_circuits(), *one.all_timings(), *one.stabilities()}
        for name, one in studies.items()
    }
    for name, paths in files.items():
        assert {path.split("/")[1] for path in paths} == {name}
    assert len(set.union(*files.values())) == sum(map(len, files.values()))


def test_the_study_needs_neither_torch_nor_snakemake():
    code = "import sys, acdc.study; print({'torch', 'snakemake', 'transformers', 'pandas'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


class TestJobs:
    IOI = job(model="tiny-llama", task="ioi", metric="logit_difference", ablation="corrupted", method="sp")

    def test_settings_are_the_studys_and_then_the_tasks(self):
        flags = "--settings sp.steps=10 sp.learning_rate=0.3 sp.prompts_per_step=3 sp.seed=0"
        assert study().method_flags(study().search(self.IOI), {"sp": ["1"]}) == flags.split()
        config = merged(read("default"), read("test"))
        config["tasks"][0]["methods"] = {"sp": {"seed": 7}, "acdc": {"head_order": "ascending"}}
        own = Study(config, ROOT)
        assert own.method_flags(own.search(self.IOI), {"sp": ["1"]})[-1] == "sp.seed=7"
        assert own.method_flags(own.search(self.IOI), {"acdc": []}) == ["--settings", "acdc.head_order=ascending"]
        assert study().method_flags(study().search(self.IOI), {"acdc": []}) == []

    def test_sizes_of_scored_circuits_are_told_where_a_method_scores(self):
        one = study()
        assert one.method_flags(one.search(self.IOI), {"acdc": ["1"], "eap": []})[0] == "--fractions"

    def test_a_search_is_one_job_of_all_its_methods_and_values(self):
        (batch,) = (
            b for b in study().batches if b.search.labels.items() >= vars(self.IOI).items() - {("method", "sp")}
        )
        assert batch.rule == "circuits_ioi_tiny_llama_logit_difference_corrupted"
        assert batch.flags == ["acdc=0.3", "sp=1", "edge_pruning=0.5", "eap", "eap_ig_program", "hisp"]
        folder = "results/test/tiny-llama/ioi/logit_difference/corrupted"
        assert batch.timing == f"{folder}/timing/all.csv"
        assert batch.outputs == [
            *(f"{folder}/acdc/0.3/{name}" for name in ("circuit.json", "trace.csv", "nodes.csv")),
            *(f"{folder}/sp/1/{name}" for name in ("circuit.json", "trace.csv")),
            *(f"{folder}/edge_pruning/0.5/{name}" for name in ("circuit.json", "trace.csv")),
            *(f"{folder}/{m}/{name}" for m in batch.search.entry["scores"] for name in ("circuits.json", "scores.csv")),
        ]

    def test_a_search_is_split_into_jobs_of_so_many_values(self):
        config = merged(read("default"), read("test"))
        search = config["tasks"][0]["searches"][1]
        search |= {"thresholds": ["1", "0.1", "0.3", "2", "3"], "values_per_job": 2}
        one = Study(config, ROOT)
        ours = [batch for batch in one.batches if batch.search.entry["metric"] == "logit_difference"]
        by_label = {batch.label: batch for batch in ours if batch.search.task["name"] == "ioi"}
        assert {label: batch.flags for label, batch in by_label.items()} == {
            "acdc_1": ["acdc=1,2"],
            "acdc_2": ["acdc=0.1,3"],
            "acdc_3": ["acdc=0.3"],
            "sp_1": ["sp=1"],
            "edge_pruning_1": ["edge_pruning=0.5"],
            "scores": ["eap", "eap_ig_program", "hisp"],
        }
        assert by_label["acdc_2"].rule == "circuits_ioi_tiny_llama_logit_difference_corrupted_acdc_2"
        assert len({batch.rule for batch in one.batches}) == len(one.batches)
        made = [
            path for batch in one.batches for path in batch.outputs if path.endswith(("circuit.json", "circuits.json"))
        ]
        assert len(made) == len(one.all_circuits())

    def test_the_longest_jobs_are_the_first(self):
        names = [batch.rule for batch in study("default").batches]
        assert names[0] == "circuits_ioi_smollm2_135m_q4_kl_divergence_corrupted_acdc_1"  # from 0.05
        assert names[1] == "circuits_ioi_smollm2_135m_q4_logit_difference_corrupted_acdc_1"  # from 0.1
        large = ["smollm2" in name for name in names]
        assert large == sorted(large, reverse=True)

    def test_a_task_of_a_file_is_told_where_its_prompts_are(self):
        config = merged(read("default"), read("test"))
        task = entry_of_file(columns={"clean": "clean"}, unfit="leave_out", answers="first_token", bos=False)
        config["tasks"].append(task)
        one, w = Study(config, ROOT), job(model="tiny-llama", task="mine")
        assert one.prompt_files(w) == [str(PROMPTS)] and one.task_flags(w) == ["--task", "mine"]
        columns = ["--columns", '{"clean": "clean"}', "--unfit", "leave_out", "--answers", "first_token"]
        assert one.prompt_flags(w) == ["--prompts", str(PROMPTS), *columns, "--bos", "false"]
        assert "mine" in one.tasks_by_module() and one.code("dataset", w) == fingerprint.code("acdc.tasks")
        other = job(model="tiny-llama", task="ioi")
        assert one.prompt_files(other) == [] and one.prompt_flags(other) == ["--bos", "auto"]

    def test_prompts_on_the_hub_are_a_file_of_the_study(self):
        config = merged(read("default"), read("test"))
        config["tasks"].append(entry_of_file(prompts={"hub": "a/b", "revision": "v1", "file": "all/x.jsonl"}))
        one, w = Study(config, ROOT), job(model="tiny-llama", task="mine")
        file = "data/test/prompts/tiny-llama/mine.jsonl"
        assert one.prompt_files(w) == [file] and one.prompt_flags(w)[:2] == ["--prompts", file]
        asked = job(model="tiny-llama", task="mine", key="prompts")
        assert one.hub_flags(asked) == ["--hub", "a/b", "--revision", "v1", "--file", "all/x.jsonl"]

    def test_held_out_prompts_may_be_another_file(self, tmp_path):
        config = merged(read("default"), read("test"))
        test = {"hub": "a/b", "file": "test.csv"}
        config["tasks"].append(entry_of_file(test_prompts=test, n_prompts=3, n_test_prompts=9))
        one, w = Study(config, ROOT), job(model="tiny-llama", task="mine")
        file = "data/test/test_prompts/tiny-llama/mine.csv"
        assert one.prompt_files(w) == [str(PROMPTS), file]
        assert one.prompt_flags(w)[:4] == ["--prompts", str(PROMPTS), "--test-prompts", file]
        asked = job(model="tiny-llama", task="mine", key="test_prompts")
        assert one.hub_flags(asked) == ["--hub", "a/b", "--file", "test.csv"]

    def test_circuits_are_tested_where_the_config_asks_for_it(self):
        folder = "results/test/tiny-llama/ioi/logit_difference/corrupted"
        acdc = [f"{folder}/acdc/0.3/circuit.json"]
        scored = [f"{folder}/{name}/circuits.json" for name in ("hisp", "eap", "eap_ig_program")]
        trained = [f"{folder}/{name}/circuit.json" for name in ("sp/1", "edge_pruning/0.5")]
        one = study()
        assert one.tested(one.search(self.IOI)) == acdc
        assert one.significance_flags() == ["--random-circuits", "30", "--seed", "0"]
        config = merged(read("default"), read("test")) | {"significance": {"random_circuits": 99, "seed": 7}}
        every = Study(config, ROOT)
        tested = every.tested(every.search(self.IOI))
        assert sorted(tested) == sorted([*acdc, *trained, *scored])
        assert every.significance_flags() == ["--random-circuits", "99", "--seed", "7"]
        config["significance"]["methods"] = ["hisp"]
        hisp = Study(config, ROOT)
        assert hisp.significances() == [f"{folder}/significance.csv"] and "significance" in hisp.tables()
        default = study("default")
        assert "significance" not in default.tables() and not default.significances()

    def test_a_reset_networks_source_is_its_own_and_its_trained_models(self):
        one = study()
        assert one.model_flags(job(model="tracr_reverse_reset")) == [
            *("--seed", "0", "--reset", "data/test/models/tracr_reverse")
        ]
        assert one.trained("tracr_reverse_reset") == one.trained("tracr_reverse") == "tracr_reverse"
        assert one.reset_pairs() == ["tracr_reverse_reset=tracr_reverse"]

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("tiny-llama", {"name": "tiny-llama", "hub": "a/b", "revision": "c" * 40}),
            ("tracr_reverse_reset", {"name": "tracr_reverse_reset", "reset": "tracr_reverse", "seed": 1}),
        ],
    )
    def test_another_revision_or_seed_is_another_model(self, name, change):
        config = merged(read("default"), read("test"))
        before = Study(config, ROOT).model_identity(name)
        config["models"] = [change if model["name"] == name else model for model in config["models"]]
        assert Study(config, ROOT).model_identity(name) != before

    def test_another_trained_model_is_another_reset_network(self):
        config = merged(read("default"), read("test"))
        before = Study(config, ROOT).model_identity("tracr_reverse_reset")
        config["models"] = [
            {**model, "processed": True} if model["name"] == "tracr_reverse" else model for model in config["models"]
        ]
        assert Study(config, ROOT).model_identity("tracr_reverse_reset") != before

    def test_other_weights_that_the_package_has_are_another_model(self, tmp_path, monkeypatch):
        one = study("default")
        before = {name: one.model_identity(name) for name in ("trained_sum", "planted")}
        other = tmp_path / "trained_sum.safetensors"
        other.write_bytes(b"other weights")
        monkeypatch.setattr("acdc.study.trained_weights", lambda name: tmp_path / f"{name}.safetensors")
        assert one.model_identity("trained_sum") != before["trained_sum"]
        assert one.model_identity("planted") == before["planted"]


def entry_of_file(**keys: Any) -> dict[str, Any]:
    """Return the entry of a task that is a file."""
    search = {"metric": "logit_difference", "thresholds": ["1"]}
    sizes = {"n_prompts": 1, "n_test_prompts": 2, "seed": 0, "ablations": ["corrupted"]}
    return {"name": "mine", "model": "tiny-llama", "prompts": str(PROMPTS), **sizes, "searches": [search], **keys}


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
    """Return an edit that appends the first item of a list to the list."""

    def edit(config: Any) -> None:
        for key in keys:
            config = config[key]
        config.append(copy.deepcopy(config[0]))

    return edit


PROMPTS = ROOT / "tests/prompts.csv"
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
    "unknown metric": (in_search(metric="accuracy"), "task ioi: there is no metric accuracy: there are kl_divergence"),
    "no number": (
        in_search(thresholds=["abc"]),
        r"\(ioi\)\.searches\[0\]\.thresholds\[0\]' is wrong: 'abc' is not a num",
    ),
    "a float": (in_search(thresholds=[0.1]), r"\.thresholds\[0\]' is wrong: 0\.1 is not a number written as a string"),
    "negative": (in_search(thresholds=["-1"]), r"\.thresholds\[0\]' is wrong: '-1' is not a number"),
    "a percentage": (
        in_search(sparsity_targets=["0.9", "97"]),
        "task ioi: sparsity_target must be from 0 to 2, not 97",
    ),
    "unknown ablation": (in_task(ablations=["noise"]), r"'noise' is not one of \['corrupted', .*'mean'\]"),
    "unknown method": (in_search(scores=["guess"]), r"'guess' is not one of \['hisp', 'eap'"),
    "no method": (
        lambda config: config["tasks"][0]["searches"][0].pop("thresholds"),
        "task ioi: the search by kl_divergence has no method: give it thresholds, regularisations, sparsity_targets or",
    ),
    "unknown setting": (at_top(methods={"sp": {"step": 3}}), r"'methods.sp' is wrong: .*'step' was unexpected"),
    "setting of another method": (
        in_task(methods={"acdc": {"steps": 3}}),
        r"\(ioi\)\.methods\.acdc' is wrong: .*'steps' was unexpected",
    ),
    "wrong setting": (
        in_task(methods={"acdc": {"head_order": "up"}}),
        r"head_order' is wrong: 'up' is not one of \['descending', 'ascending'\]",
    ),
    "two resamples": (at_top(methods={"eap": {"bootstraps": 2}}), r"'methods.eap.bootstraps' is wrong: 2 is less than"),
    "a share without the rule": (
        in_task(methods={"eap": {"positive_share": 0.3}}),
        "task ioi: method eap: positive_share does nothing where select is absolute: give select=ratio too, or leave",
    ),
    "a solver in no task": (
        at_top(methods={"gim": {"select": "ratio", "solver_gap": 0}}),
        "key 'methods': method gim: solver_gap does nothing where select is ratio: give select=program too",
    ),
    "another rule than the name's": (
        at_top(methods={"eap_ig_program": {"select": "signed"}}),
        r"'methods.eap_ig_program.select' is wrong: 'signed' is not one of \['program'\]",
    ),
    "eap by a distance": (in_search(scores=["eap"]), "task ioi: eap by kl_divergence scores everything 0"),
    "hisp by a distance": (in_search(scores=["hisp"]), "task ioi: hisp by kl_divergence scores everything 0"),
    "to draw what is not searched": (in_task(draw=["7"]), "task ioi: draw has 7, which is none of the values"),
    "unknown precision": (in_task(precision="float16"), r"'float16' is not one of \['float32', 'float64', 'mixed'\]"),
    "whole number with a point": (in_task(n_prompts=2.0), r"\(ioi\)\.n_prompts' is wrong: 2\.0 is not of type"),
    "a line's end in a name": (at_top(study="test\n"), "'study' is wrong: 'test"),
    "a threshold beyond all numbers": (
        in_search(thresholds=["1e400"]),
        "task ioi: threshold must be a number, not '1e400'",
    ),
    "a seed beyond all seeds": (in_task(seed=2**32), r"\(ioi\)\.seed' is wrong: 4294967296 is greater than the max"),
    "more prompts than anyone makes": (in_task(n_prompts=10**9), r"\.n_prompts' is wrong: 1000000000 is greater than"),
    "more prompts than there are": (
        lambda config: config["tasks"][1].update(n_prompts=8, n_test_prompts=5),
        "task months has 12 distinct prompts, and n_prompts 8 and n_test_prompts 5 ask for 13: ask for fewer",
    ),
    "a long name": (at_top(study="x" * 260), "'study' is wrong: 'x+' is too long"),
    "a long number": (in_search(thresholds=["0." + "1" * 40]), r"thresholds\[0\]' is wrong: '0\.1+' is too long"),
    "names that differ in signs alone": (
        lambda config: (
            config["models"].append({"name": "tiny_llama", "build": "tiny_llama"})
            or config["tasks"].append({**config["tasks"][0], "model": "tiny_llama"})
        ),
        "models tiny-llama and tiny_llama differ in signs alone",
    ),
    "unknown option": (in_task(options={"templates": 2}), "task ioi has no option 'templates': it has n_templates"),
    "option of another type": (in_task(options={"n_templates": "2"}), "task ioi: option n_templates is int, not '2'"),
    "unknown option of a sequence": (
        lambda config: config["tasks"][1].update(name="months_sequence", options={"n_templates": 2}),
        "task months_sequence has no option 'n_templates': it has none",
    ),
    "metric of other tasks": (in_search(metric="l2"), "task ioi has no metric 'l2': it has kl_divergence, logit_dif"),
    "metric of other tasks than a file's": (
        in_task(
            name="mine",
            prompts=str(PROMPTS),
            n_prompts=1,
            n_test_prompts=1,
            options={},
            searches=[{"metric": "nll", "thresholds": ["1"]}],
        ),
        "task mine has no metric 'nll': it has kl_divergence",
    ),
    "no known circuit": (
        in_task(known_circuit=True),
        "task ioi: no circuit is known of model 'tiny-llama', of no model",
    ),
    "a task of another model": (
        lambda config: config["tasks"][2].update(model="tiny-llama", known_circuit=False),
        "task planted is made for a model with build: planted, and tiny-llama is none: choose another task",
    ),
    "shortformer that is built": (
        as_model(build="tiny_llama", shortformer=True),
        "shortformer is for models of Transf",
    ),
    "processed shortformer": (
        as_model(hub="a/b", shortformer=True, processed=True),
        "tiny-llama: processed changes what a shortformer computes",
    ),
    "no builder in a module": (as_model(build="random_decoder"), r"toy/random_decoder\.py has no build"),
    "no memory": (at_top(memory_gib=0), "'memory_gib' is wrong: 0 is less than"),
    "no time": (at_top(max_minutes=0), "'max_minutes' is wrong: 0 is less than"),
    "no prompts": (in_task(n_prompts=0), r"\(ioi\)\.n_prompts' is wrong: 0 is less than"),
    "two sources": (as_model(build="tiny_llama", hub="gpt2"), ONE_SOURCE),
    "no source": (as_model(), ONE_SOURCE),
    "wheel without digest": (as_model(wheel="a==1", file="b"), ONE_SOURCE),
    "digests of fewer wheels": (
        as_model(wheel=["a==1", "b==1"], file=["a", "b"], sha256="0" * 64),
        "model tiny-llama has 2 wheel, 2 file, 1 sha256: give one of each for every part",
    ),
    "unknown device": (at_top(device="gpu"), "'device' is wrong: 'gpu' is not auto, cpu, cuda or cuda:1"),
    "unknown memory": (at_top(memory_gib="all"), "'memory_gib' is wrong: 'auto' was expected"),
    "unknown pin": (as_model(pinned="gpt2"), "no model 'gpt2' is pinned: there are smollm2-135m-q4"),
    "pin and wheel": (as_model(pinned="smollm2-135m-q4", hub="gpt2"), ONE_SOURCE),
    "no such module": (in_task(module="no/task.py"), "task ioi: its module no/task.py does not exist: give the path"),
    "no such folder": (as_model(folder="/nonexistent"), "model tiny-llama: folder /nonexistent does not exist"),
    "no weights": (
        as_model(folder=str(ROOT / "docs")),
        r"model tiny-llama: model folder \S+ has no weights: it needs \*\.safet",
    ),
    "no builder": (as_model(build="nothing"), r"model tiny-llama: .* no module acdc/models/toy/nothing\.py"),
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
    "prompts and module": (
        in_task(name="mine", prompts=str(PROMPTS), module="acdc/tasks/ioi.py", options={}),
        "task mine: module is for tasks in Python, and with prompts it is a file: leave it out",
    ),
    "prompts and known circuit": (
        in_task(name="mine", prompts=str(PROMPTS), known_circuit=True, options={}),
        "task mine: known_circuit is for tasks in Python",
    ),
    "prompts under a name that is taken": (
        in_task(prompts=str(PROMPTS), options={}),
        r"task ioi: its name is that of acdc/tasks/ioi\.py: give the task of \S+\.csv another name",
    ),
    "columns of nothing": (
        in_task(columns={"clean": "text"}),
        "task ioi: columns is of a file of prompts: give the file with the key prompts",
    ),
    "unfit of nothing": (in_task(unfit="leave_out"), "task ioi: unfit is of a file of prompts: give the file"),
    "unknown column": (in_task(columns={"text": "clean"}), r"\(ioi\)\.columns' is wrong: .*'text' was unexpected"),
    "answers of nothing": (in_task(answers="whole"), "task ioi: answers is of a file of prompts: give the file"),
    "prompts on the hub of an unknown format": (
        in_task(name="mine", prompts={"hub": "a/b", "file": "x.txt"}, options={}),
        r"task mine: x\.txt is no file of prompts: its name must end in \.csv",
    ),
    "prompts on the hub without a file": (
        in_task(name="mine", prompts={"hub": "a/b"}, options={}),
        r"prompts' is wrong: 'file' is a required property",
    ),
    "no such prompts": (
        in_task(name="mine", prompts="no/prompts.csv", options={}),
        r"task mine: the file of prompts no/prompts\.csv does not exist: check the path",
    ),
    "prompts without a column": (
        in_task(name="mine", prompts=str(PROMPTS), columns={"correct": "answer"}, options={}),
        r"task mine: \S+prompts\.csv: there is no column answer: it needs clean, .*\(clean, corrupted, correct,",
    ),
    "too few prompts": (
        in_task(name="mine", prompts=str(PROMPTS), n_prompts=2, n_test_prompts=2, options={}),
        r"task mine: \S+prompts\.csv has 3 distinct prompts and n_prompts 2 and n_test_prompts 2 ask for 4",
    ),
    "test_prompts of nothing": (
        in_task(test_prompts=str(PROMPTS)),
        "task ioi: test_prompts is of a file of prompts: give the file with the key prompts",
    ),
    "no such test_prompts": (
        in_task(name="mine", prompts=str(PROMPTS), test_prompts="no/test.csv", n_prompts=1, options={}),
        r"task mine: the file of prompts no/test\.csv does not exist: check the path",
    ),
    "test_prompts that are those for discovery": (
        in_task(name="mine", prompts=str(PROMPTS), test_prompts=str(PROMPTS), n_prompts=1, options={}),
        r"task mine: \S+prompts\.csv has 0 distinct prompts that are not among those for discovery",
    ),
    "test_prompts of which none are taken": (
        in_task(name="mine", prompts=str(PROMPTS), test_prompts="a.csv", n_prompts=1, n_test_prompts=0, options={}),
        "task mine: n_test_prompts is 0, which tests on the prompts for discovery: leave out test_prompts",
    ),
    "test_prompts of an unknown format": (
        in_task(name="mine", prompts=str(PROMPTS), test_prompts={"hub": "a/b", "file": "x.txt"}, options={}),
        r"task mine: x\.txt is no file of prompts",
    ),
    "unknown bos": (in_task(bos="yes"), r"\(ioi\)\.bos' is wrong: 'yes' is not one of \['auto', True, False\]"),
    "task twice": (twice("tasks"), "tasks has ioi twice"),
    "model twice": (twice("models"), "models has tiny-llama twice"),
    "metric twice": (twice("tasks", 0, "searches"), "task ioi: a metric has two entries"),
    "few random circuits": (
        at_top(significance={"random_circuits": 28}),
        r"random_circuits' is wrong: 28 is less than",
    ),
    "tests of an unknown method": (
        at_top(significance={"random_circuits": 30, "methods": ["guess"]}),
        r"'significance\.methods\[0\]' is wrong: 'guess' is not one of \['acdc'",
    ),
    "tests of a method that no search has": (
        lambda config: config.update(
            tasks=config["tasks"][:1], significance={"random_circuits": 30, "methods": ["eap_ig", "random"]}
        ),
        "significance is asked of the methods eap_ig, random, and no search has one of them: name others",
    ),
    "no value to a job": (in_search(values_per_job=0), r"searches\[0\]\.values_per_job' is wrong: 0 is less than"),
    "study that leaves its folder": (at_top(study="../x"), "key 'study' is wrong: '../x' is not a name"),
}


@pytest.mark.parametrize(("edit", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_a_bad_config_is_refused_in_one_sentence(edit, sentence):
    config = copy.deepcopy(merged(read("default"), read("test")))
    edit(config)
    with pytest.raises(InputError, match=sentence) as refused:
        Study(config, ROOT)
    assert "\n" not in str(refused.value)


def test_a_setting_of_the_study_may_do_something_in_one_task_alone():
    config = copy.deepcopy(merged(read("default"), read("test")))
    config["methods"]["eap"] = {"positive_share": 0.3}
    config["tasks"][0]["methods"] = {"eap": {"select": "ratio"}}
    one = Study(config, ROOT)
    flags = one.method_flags(one.searches[1], {"eap": []})
    assert flags[:3] == ["--settings", "eap.select=ratio", "eap.positive_share=0.3"]


EXTENSION = """
from acdc.catalogue import Method, Setting

METHOD = Method(
    name="halving", label="Halving", code=f"{__name__}:Halving", kind="search", sized_by="budget",
    settings=(Setting(name="rounds", default=3, least=1, help="rounds"),),
)
"""


def test_a_method_of_an_extension_is_a_key_of_searches_and_of_methods(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "EXTENSIONS", tmp_path)
    (tmp_path / "halving.py").write_text(EXTENSION)
    config = merged(read("default"), read("test")) | {"methods": {"halving": {"rounds": 2}}}
    config["tasks"][0]["searches"][0]["budgets"] = ["5", "9"]
    one = Study(config, ROOT)
    (search,) = (s for s in one.searches if "budgets" in s.entry)
    assert [method.name for method in search.methods] == ["acdc", "halving"]
    assert one.circuits(search, search.methods[1])[0].endswith("/halving/5/circuit.json")
    assert one.method_flags(search, {"halving": ["5"]}) == ["--settings", "halving.rounds=2"]


if __name__ == "__main__":
    for config_name in CONFIGS:
        (GOLDEN / f"{config_name}.txt").write_text("\n".join(study(config_name).targets()) + "\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' stands twice, in lines 1 and 3"),
        ("tasks:\n- name: x\n  seed: 0\n  seed: 1\n", "key 'seed' stands twice, in lines 3 and 4"),
        ('{"study": "a", "study": "b"}', "key 'study' stands twice, in lines 1 and 1"),
        ("study: x\ntasks: [\n  - a: b: c\n", "line 3: this is no YAML"),
        ("study: x\n\tmodels: 3\n", "line 2: this is no YAML"),
        ("study: !!python/object:os.system x\n", "line 1: this is no YAML .*could not determine a constructor"),
        ("- a\n- b\n", "has no keys: it must hold some"),
        ("", "has no keys: it must hold some"),
        (b"study: '\xff'", "cannot be read .*invalid start byte"),
        (b"study: \x00", "cannot be read .*special characters are not allowed"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said) as refused:
        read_configs([tmp_path / "config.yaml"], ROOT)
    assert "config.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config \S+nothing.yaml cannot be read .*No such file"):
        read_configs([tmp_path / "nothing.yaml"], ROOT)


def test_configs_are_merged_as_snakemake_merges_them(tmp_path):
    first = {"methods": {"sp": {"steps": 3}}, "tasks": [1, 2], "study": "a"}
    over = {"methods": {"sp": {"seed": 1}, "acdc": {}}, "tasks": [3], "new": {"x": None}}
    by_snakemake = copy.deepcopy(first)
    update_config(by_snakemake, over)
    assert merged(first, over) == by_snakemake


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/config").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_config_of_ours_has_a_key_twice(path):
    check_keys(path)


def test_a_folder_that_lacks_a_shard_is_refused(tmp_path):
    for name in ("config.json", "model-1.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    config = copy.deepcopy(merged(read("default"), read("test")))
    as_model(folder=str(tmp_path))(config)
    with pytest.raises(InputError, match=r"model tiny-llama: model folder \S+ lacks model-2.safetensors, which"):
        Study(config, ROOT)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.safetensors").touch()
    config = copy.deepcopy(merged(read("default"), read("test")))
    as_model(folder="~/model")(config)
    assert Study(config, ROOT).models["tiny-llama"]["folder"] == str(tmp_path / "model")
