"""Test single faults: damaged files, impossible values and readers that leave end in one sentence, and lose nothing."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import acdc
from acdc.catalogue import METHODS
from acdc.cli import PIPE_CLOSED
from acdc.data import Dataset
from acdc.engine.check import Expected
from acdc.engine.load import Options
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.exchange import EAP_JSON, EAP_PT, ORIGINAL
from acdc.figures.page import as_json
from acdc.fingerprint import write_digests
from acdc.found import Found
from acdc.graph import Circuit
from acdc.methods import driver
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.legacy import read_weights
from acdc.tables import read_table, write_json, write_table
from acdc.trace import original_lines
from tests.checkout import ROOT
from tests.faults.damage import flipped
from tests.small_models import bridge, build, engine, prompts

SETTINGS = {
    "method": "acdc",
    "task": "task",
    "model": "model",
    "metric": "kl_divergence",
    "ablation": "corrupted",
    "head_order": "descending",
}
DAMAGES = {"empty": lambda data: b"", "cut": lambda data: data[: len(data) // 2], "other": lambda data: b"\x00" * 99}
damages = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


# Tables.


@pytest.mark.parametrize("name", ("NA", "nan", "null", "007", "1e3", "True"))
def test_names_stay_the_texts_they_are(tmp_path, name):
    write_table([{"model": name, "value": name, "n_edges": 1}, {"model": name, "value": None}], tmp_path / "t.csv")
    table = read_table(tmp_path / "t.csv")
    assert table["model"].tolist() == [name, name] and table["value"][0] == name
    assert pd.isna(table["value"][1]) and pd.isna(table["n_edges"][1])


def test_a_table_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    write_table([{"a": 1, "b": 1}], path)
    before = path.read_bytes()

    def full(partial: Path, text: str, **_) -> None:
        partial.write_bytes(text[:1].encode())
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space") as ended:
        write_table([{"a": 2}], path)
    assert ended.value.filename == str(path)
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# Checkpoints and circuits.


@damages
def test_a_damaged_checkpoint_is_said_and_the_search_starts_afresh(tmp_path, damage):
    setup, own = engine("gpt2"), SETTINGS | {"size_by": "threshold", "value": "0.05"}
    expected = driver.search(setup, METHODS["acdc"], own, None)
    driver.save_state(tmp_path / driver.CHECKPOINT, own, {"layer": 1})
    (tmp_path / driver.CHECKPOINT).write_bytes(damage((tmp_path / driver.CHECKPOINT).read_bytes()))
    with pytest.warns(UserWarning, match="is damaged, so the search starts afresh"):
        found = driver.search(setup, METHODS["acdc"], own, tmp_path)
    assert found.circuit == expected.circuit


@damages
def test_a_damaged_circuit_is_said_and_found_again(tmp_path, damage):
    setup = engine("gpt2")
    first = driver.find_one(setup, SETTINGS, "0.05", tmp_path)
    whole = (tmp_path / Found.FILE).read_bytes()
    (tmp_path / Found.FILE).write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="holds a damaged circuit, which is found again"):
        again = driver.find_one(setup, SETTINGS, "0.05", tmp_path)
    assert again.circuit == first.circuit and (tmp_path / Found.FILE).read_bytes() == whole


IMPOSSIBLE = {
    "a later sender": (lambda c: c["edges"].append(["m1", "a0.h0.q"]), "the sender does not come before"),
    "no such node": (lambda c: c["edges"].append(["m7", "logits"]), "no node 'm7'"),
    "a direct edge of an MLP": (lambda c: c["direct"].append("m0"), "m0 has no direct edge"),
    "minus one layer": (lambda c: c["graph"].update(n_layers=-1), "no graph of -1 layers"),
    "layers in words": (lambda c: c["graph"].update(n_layers="2"), "no graph of '2' layers"),
    "a billion layers": (lambda c: c["graph"].update(n_layers=10**9), "larger than any model's"),
    "heads that do not share": (lambda c: c["graph"].update(n_kv_heads=3), "4 heads and 3 key heads"),
    "an unknown part": (lambda c: c["graph"].update(n_experts=3), "n_experts"),
}


@pytest.mark.parametrize(("change", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_circuit_that_can_not_be_is_refused(tmp_path, change, said):
    graph = engine("gpt2").graph
    path = tmp_path / "circuit.json"
    settings = SETTINGS | {"size_by": "threshold", "value": "1"}
    Found(settings, Circuit.full(graph), {"converged": True, "origin": "found"}).save(tmp_path)
    written = json.loads(path.read_text())
    change(written["circuit"])
    path.write_text(json.dumps(written))
    with pytest.raises(InputError, match=f"circuit.json is no circuit as acdc writes it .*{said}"):
        acdc.load(path)


# Values.


@pytest.mark.parametrize("value", ("nan", "inf", "1e400", "-inf", "much"))
def test_a_threshold_that_is_no_number_is_refused(value):
    with pytest.raises(InputError, match="must be a number"):
        acdc.api.sized(METHODS["acdc"], {"threshold": value})


@pytest.mark.parametrize("value", ("nan", "inf"))
def test_a_setting_that_is_no_number_is_refused(value):
    with pytest.raises(InputError, match="--learning-rate must be a number"):
        METHODS["sp"].parse({"learning_rate": value})


@pytest.mark.parametrize("memory", (0, -1, float("nan")))
def test_no_memory_is_refused(memory):
    with pytest.raises(InputError, match="memory_gib is .*: give auto, or more than 0 GiB"):
        Options(device="cpu", memory_gib=memory).engine(engine("gpt2").weights, prompts(False), None)


def test_weights_that_are_no_numbers_are_named(tmp_path):
    build("gpt2", tmp_path)
    bridge = load_bridge(tmp_path)
    with torch.no_grad():
        bridge.original_model.transformer.ln_f.original_component.bias[3] = torch.nan
    with pytest.raises(InputError, match="ln_final_b has entries that are no numbers"):
        weights_of(bridge)


# Readers.


@pytest.mark.parametrize("command", ("show", "log"))
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path, command):
    """The pipe that the command writes to is closed, as by `acdc log ... | head`."""
    driver.find_one(engine("gpt2"), SETTINGS, "0.05", tmp_path)
    circuit, trace = tmp_path / Found.FILE, tmp_path / Found.TRACE
    given = {"show": [circuit], "log": ["--circuit", circuit, "--trace", trace]}[command]
    started = [sys.executable, "-u", "-m", "acdc", command, *map(str, given)]
    with subprocess.Popen(started, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout and running.stderr
        running.stdout.close()
        said = running.stderr.read()
    assert said == "" and running.returncode in (1, PIPE_CLOSED)


@pytest.mark.parametrize("value", ("false", 1, None))
def test_a_mark_that_is_neither_true_nor_false_is_refused(tmp_path, value):
    EAP_JSON.write(Circuit.full(engine("attention_only").graph), {}, tmp_path / "c.json", 32)
    written = json.loads((tmp_path / "c.json").read_text())
    written["edges"]["input->logits"]["in_graph"] = value
    (tmp_path / "c.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match="in_graph is true or false"):
        EAP_JSON.read(tmp_path / "c.json", None)


def test_a_file_that_asks_for_all_memory_is_refused(tmp_path):
    hook, head = "blocks.999999998.hook_resid_post", "blocks.0.attn.hook_result"
    torch.save({(hook, (None,), head, (None, None, 999999)): True}, tmp_path / "circuit.pth")
    with pytest.raises(InputError, match="is larger than any model's"):
        ORIGINAL.read(tmp_path / "circuit.pth", None)


def test_no_name_ends_the_script_of_a_page():
    assert "<" not in as_json({"metric": "<!--<script>", "other": "</script>"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="effect"), "has no column effect"),
        (lambda table: table.assign(removed=[*table["removed"][:-1], None]), "row .* of the trace is cut"),
    ],
)
def test_a_cut_trace_has_no_log(change, said):
    setup = engine("gpt2")
    found = driver.search(setup, METHODS["acdc"], SETTINGS | {"size_by": "threshold", "value": "0.05"}, None)
    assert len(list(original_lines(found.trace, setup.graph))) == 2 * len(found.trace)
    with pytest.raises(InputError, match=said):
        list(original_lines(change(found.trace), setup.graph))


# Files that a stage reads.


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Return a folder with every file of another stage that a stage reads."""
    folder = tmp_path_factory.mktemp("written")
    setup = engine("gpt2")
    setup.dataset.save(folder / "dataset.safetensors")
    (expected,) = Expected.of({"TransformerLens": lambda: bridge("gpt2")}, setup.dataset)
    expected.save(folder / "logits.safetensors")
    setup.weights.save(folder)
    write_table([{"a": 1, "b": "text"}], folder / "table.csv")
    build("layer_norm", folder / "native")
    build("llama", folder / "llama")
    return folder


READERS = {
    "dataset.safetensors": lambda folder: Dataset.load(folder / "dataset.safetensors"),
    "logits.safetensors": lambda folder: Expected.load(folder / "logits.safetensors"),
    "engine.safetensors": Weights.load,
    "architecture.json": Weights.load,
    "table.csv": lambda folder: read_table(folder / "table.csv"),
    "native/native.json": lambda folder: load_bridge(folder / "native"),
    "native/model.safetensors": lambda folder: load_bridge(folder / "native"),
    "llama/config.json": lambda folder: acdc.load_model(folder / "llama"),
    "llama/model.safetensors": lambda folder: acdc.load_model(folder / "llama"),
    "llama/tokenizer.json": lambda folder: acdc.load_model(folder / "llama"),
}


@damages
@pytest.mark.parametrize(("name", "read"), READERS.items(), ids=READERS)
def test_a_damaged_file_is_named_in_one_sentence(written, tmp_path, name, read, damage):
    folder = tmp_path / "copy"
    shutil.copytree(written, folder)
    read(folder)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(InputError) as refused:
        read(folder)
    assert Path(name).parts[-1] in str(refused.value) or str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_that_changed_since_the_model_was_made_are_not_loaded(tmp_path):
    build("layer_norm", tmp_path)
    write_digests(tmp_path)
    acdc.load_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(flipped(weights.read_bytes(), 0.9, 3))
    with pytest.raises(InputError, match=r"model.safetensors is not as acdc wrote it: make the model again"):
        acdc.load_model(tmp_path)


class Code:
    """Run code when pickle reads it."""

    def __reduce__(self) -> tuple:
        return print, ("code of the file has run",)


@pytest.mark.parametrize("read", (ORIGINAL.read, EAP_PT.read, lambda path, _: read_weights(path.parent)))
def test_code_in_a_file_is_refused_without_torchs_advice_to_run_it(tmp_path, read, capsys):
    torch.save({"a": Code()}, tmp_path / "file.pth")
    with pytest.raises(InputError, match="no code of a file is run") as refused:
        read(tmp_path / "file.pth", None)
    assert "weights_only" not in str(refused.value) and capsys.readouterr().out == ""
