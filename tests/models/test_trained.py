"""Test models that were trained here: programs, the network and its training, and what is claimed of their weights."""

from __future__ import annotations

import importlib
import operator
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from acdc.analysis.head_names import named
from acdc.analysis.heads import head_frame
from acdc.assets import asset
from acdc.cli import main
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.heads import NONE
from acdc.models import files as model_files
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.files import TRAINED, trained_names, trained_weights
from acdc.models.toy import trained_count, trained_induction, trained_ioi, trained_max, trained_months, trained_sum
from acdc.models.toy.rasp import Select, Tokens, Width, run
from acdc.models.toy.siit import files, training
from acdc.models.toy.siit.network import Network, graph_of
from acdc.models.toy.siit.program import UNDEFINED, Program
from acdc.tables import read_table
from acdc.tasks import load
from acdc.text import encode

ROOT = Path(__file__).parents[2]
OF_PROGRAMS = [name for name in trained_names() if name != "trained_induction"]


def program_of(name: str) -> Program:
    program: Program = importlib.import_module(f"acdc.models.toy.{name}").PROGRAM
    return program


@cache
def network_of(name: str) -> Network:
    return files.load(name).network()


def ids(program: Program, text: str) -> torch.Tensor:
    if program.tokenizer:
        return torch.tensor([encode(program.tokenizer, text)])
    return program.ids(text)[None]


class TestPrograms:
    """Test what programs answer where edges carry another prompt's values."""

    def mixed(self, program: Program, clean: str, corrupted: str, *cut: str) -> str:
        graph = graph_of(training.config(program))
        kept = torch.ones(1, len(graph.senders), len(graph.receivers), dtype=torch.bool)
        for edge in cut:
            sender, receiver = (graph.node(name) for name in edge.split(" -> "))
            kept[0, graph.sender_index[sender], graph.receiver_index[receiver]] = False
        answer = program.mixed(ids(program, clean), ids(program, corrupted), kept, graph)
        return "" if answer.item() == UNDEFINED else program.text(answer).strip()

    CLEAN, OTHER = "When Anna and Ben met Ben gave a ball to", "When Ben and Carl met Ben gave a pen to"

    @pytest.mark.parametrize(
        ("cut", "answer"),
        [
            ([], "Anna"),
            (["a2.h1 -> logits"], "Carl"),
            (["a0.h0 -> a1.h3.v"], "Ben"),  # there the first name stands again: the second is the other
            (["a1.h3 -> a2.h1.q"], "Ben"),
            (["embed -> a2.h1.v"], "Ben"),  # the second name stands again: the first of the other prompt
            (["embed -> a0.h0.k"], "Ben"),  # Ben is the first name there, so the clean prompt's second is the answer
            (["embed -> a0.h0.q"], "Anna"),
            (["embed -> a1.h0.v", "m0 -> logits"], "Anna"),  # the program does not have these
        ],
    )
    def test_indirect_objects(self, cut, answer):
        assert self.mixed(trained_ioi.PROGRAM, self.CLEAN, self.OTHER, *cut) == answer

    def test_there_is_no_answer_where_values_do_not_fit_together(self):
        other = "When Carl and Dora met Dora gave a pen to"
        assert self.mixed(trained_ioi.PROGRAM, self.CLEAN, other, "embed -> a0.h0.q") == ""

    def test_months(self):
        clean, other = (f"When Anna met Ben in {month} so a month later it was" for month in ("March", "December"))
        assert self.mixed(trained_months.PROGRAM, clean, other) == "April"
        assert self.mixed(trained_months.PROGRAM, clean, other, "embed -> a0.h2.v") == "January"

    @pytest.mark.parametrize(
        ("cut", "answer"), [([], "3"), (["embed -> a0.h3.q"], "1"), (["embed -> a0.h3.k"], "2"), (["a0.h3 -> m1"], "2")]
    )
    def test_counts(self, cut, answer):
        assert self.mixed(trained_count.PROGRAM, "BOS a b a a", "BOS a a b b", *cut) == answer

    def test_counts_are_those_of_the_rasp_program(self):
        program, width = trained_count.PROGRAM, Width(Select(Tokens(), Tokens(), operator.eq))
        for prompt in training.prompts(program, 20, seed=3):
            letters = program.text(prompt).split()[1:]
            assert program.text(program.answers(prompt[None])) == str(run(width, letters)[-1])

    @pytest.mark.parametrize(
        ("cut", "answer"), [([], "2"), (["embed -> m0"], "5"), (["a0.h2 -> m0"], "0"), (["m0 -> logits"], "3")]
    )
    def test_sums(self, cut, answer):
        assert self.mixed(trained_sum.PROGRAM, "2 5 1 0 4", "0 3 0 0 0", *cut) == answer

    @pytest.mark.parametrize(("cut", "answer"), [([], "7"), (["a0.h0 -> m1"], "9"), (["embed -> a0.h3.v"], "3")])
    def test_the_larger_number(self, cut, answer):
        assert self.mixed(trained_max.PROGRAM, "0 2 0 7 0", "0 9 0 3 0", *cut) == answer

    def test_every_read_is_an_edge_of_the_circuit_and_ports_have_their_direct_edges(self):
        circuit = trained_ioi.PROGRAM.circuit(graph_of(training.config(trained_ioi.PROGRAM)))
        assert {edge.name for edge in circuit.edges} == {
            *("embed -> a0.h0.q", "embed -> a0.h0.k", "a0.h0 -> a1.h3.v"),
            *("a1.h3 -> a2.h1.q", "embed -> a2.h1.v", "a2.h1 -> logits"),
            *(f"{port} (direct)" for port in ("a0.h0.q", "a0.h0.k", "a1.h3.v", "a2.h1.q", "a2.h1.v")),
        }


class TestWeights:
    """Test what is claimed of the weights that the package has."""

    @pytest.mark.parametrize("name", trained_names())
    def test_they_are_small_and_have_the_digests_that_are_listed(self, name):
        log = trained_weights(name).with_suffix(".csv")
        for path in (trained_weights(name), log):
            files.check_digest(path)
            assert path.stat().st_size < 10**6

    @pytest.mark.parametrize("name", OF_PROGRAMS)
    def test_they_follow_their_program_as_their_log_says(self, name):
        measured = asdict(training.measure(program_of(name), network_of(name), n=500))
        log = read_table(trained_weights(name).with_suffix(".csv"))
        assert dict(log.iloc[-1][list(measured)]) == pytest.approx(measured, abs=0.06)  # of half as many prompts
        assert measured["accuracy"] > 0.99
        assert measured["interchange"] > 0.97
        assert measured["circuit"] > 0.99
        assert measured["outside"] < 0.01
        assert measured["needed"] > 0.3

    @pytest.mark.parametrize("name", OF_PROGRAMS)
    def test_the_engine_says_so_too(self, name, tmp_path):
        """On the task's own prompts the circuit answers as the model does, and without any of its edges less often."""
        files.load(name).build(tmp_path)
        weights, trained = weights_of(load_bridge(tmp_path)), files.load(name)
        data = load(name).make_dataset(trained.tokenizer(), 60, seed=5)
        engine = Engine(weights, data, ablation="corrupted")
        truth = program_of(name).circuit(engine.graph)

        def right(circuit: Circuit) -> float:
            answers = engine.circuit_logits(circuit).argmax(-1)
            return (answers == data.targets["correct"]).double().mean().item()

        assert right(Circuit.full(engine.graph)) > 0.98
        assert right(truth) > 0.98
        for edge in truth.edges:
            assert right(truth - Circuit.from_edges(engine.graph, [edge])) < 0.7, edge.name

    def test_the_network_of_the_training_is_the_engines(self, tmp_path):
        trained, network = files.load("trained_ioi"), network_of("trained_ioi")
        trained.build(tmp_path)
        data = load("trained_ioi").make_dataset(trained.tokenizer(), 6, seed=1)
        engine = Engine(weights_of(load_bridge(tmp_path)), data, ablation="corrupted")
        rng = np.random.default_rng(0)
        for share in (0.2, 0.5, 0.9):
            present = engine.graph.exists & (rng.random(engine.graph.exists.shape) < share)
            circuit = Circuit(engine.graph, present, engine.graph.has_direct)
            kept = torch.from_numpy(present).float().expand(len(data), -1, -1)
            logits = network.logits(data.clean, data.corrupted, kept)[:, -1]
            torch.testing.assert_close(logits, engine.circuit_logits(circuit), rtol=1e-4, atol=1e-4)

    def test_damaged_weights_are_refused_by_name(self, tmp_path, monkeypatch):
        shutil.copytree(Path(str(asset(TRAINED))), tmp_path / TRAINED)
        weights = tmp_path / TRAINED / "trained_max.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        monkeypatch.setattr(model_files, "asset", lambda *path: tmp_path.joinpath(*path))
        with pytest.raises(InputError, match="trained_max.safetensors is not the file whose digest"):
            files.load("trained_max").build(tmp_path / "model")


class TestTraining:
    def test_it_is_the_same_each_time_and_losses_fall(self, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "LOG_EVERY", 40)
        monkeypatch.setattr(training, "N_HELD_OUT", 20)
        short = replace(trained_max.TRAINED, train=lambda: training.train(trained_max.PROGRAM, n_steps=60))
        contents = []
        for name in ("one", "two"):
            files.train_again(short, tmp_path / name, tmp_path / "log.csv")
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1]
        log = read_table(tmp_path / "log.csv")
        assert log.step.tolist() == [40, 60]
        for kind in ("behaviour", "interchange"):  # edges outside, from step 19 on, first disturb the others
            assert log[f"{kind}_loss"].iloc[-1] < 0.9 * log[f"{kind}_loss"].iloc[0]

    def test_a_model_that_is_trained_again_is_compared(self):
        measured = replace(
            trained_max.TRAINED, measure=lambda network: asdict(training.measure(trained_max.PROGRAM, network, n=50))
        )
        untrained = Network.new(measured.config(), torch.Generator().manual_seed(0))
        same, worse = (files.compared(measured, network) for network in (measured.network(), untrained))
        assert all(row["as_good"] and row["committed"] == row["retrained"] for row in same)
        as_good = {row["measure"]: row["as_good"] for row in worse}
        assert not as_good["accuracy"] and not as_good["circuit"] and not as_good["same_answers"]

    def test_there_is_no_other_model(self):
        with pytest.raises(InputError, match="no model 'gpt2' was trained here: choose one of trained_count, "):
            files.load("gpt2")


class TestCommand:
    def test_it_writes_weights_log_and_comparison(self, tmp_path, monkeypatch):
        short = replace(
            trained_sum.TRAINED,
            train=lambda: training.train(trained_sum.PROGRAM, n_steps=3),
            measure=lambda network: asdict(training.measure(trained_sum.PROGRAM, network, n=20)),
        )
        monkeypatch.setattr(trained_sum, "TRAINED", short)
        monkeypatch.setattr(training, "N_HELD_OUT", 20)
        made = {name: tmp_path / f"{name}.csv" for name in ("weights", "steps", "compared")}
        main(["retrain", "trained_sum", *(part for name, path in made.items() for part in (f"--{name}", str(path)))])
        assert read_table(made["steps"]).step.tolist() == [3]
        assert load_file(made["weights"]).keys() == trained_sum.TRAINED.network().tensors.keys()
        rows = read_table(made["compared"]).set_index("measure")
        assert rows.committed["accuracy"] == 1 and not rows.as_good["accuracy"]

    def test_the_rule_trains_every_model(self):
        command = [sys.executable, "-P", "-m", "snakemake", "retrain_known", "-n", "--quiet", "rules", "--forceall"]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        counts = dict(re.findall(r"^(\w+) +(\d+)$", told, re.MULTILINE))
        assert counts == {"retrain": str(len(trained_names())), "retrain_known": "1", "total": "7"}

    def test_it_refuses_other_models_in_one_sentence(self, tmp_path):
        with pytest.raises(SystemExit, match="^acdc: no model 'planted' was trained here: choose one of"):
            flags = (part for name in ("weights", "steps", "compared") for part in (f"--{name}", str(tmp_path / name)))
            main(["retrain", "planted", *flags])


class TestMeasures:
    def test_of_a_model_that_answers_without_its_circuit(self):
        """An untrained model answers hardly anything, and everything outside of the circuit matters."""
        program = trained_ioi.PROGRAM
        network = Network.new(training.config(program), torch.Generator().manual_seed(0))
        measures = asdict(training.measure(program, network, n=100))
        assert measures["accuracy"] < 0.3
        assert measures["interchange"] < 0.3
        assert measures["outside"] > 0.2


class TestInduction:
    def test_scores_of_heads_by_their_definition(self):
        before, after = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)  # [prompt query key]; the tokens are 3 5 7 3 5 7
        before[0, range(1, 6), range(5)] = 1
        after[0, 3, 1], after[0, 4, 2], after[0, 5, 3] = 0.4, 0.6, 0.8
        assert trained_induction.previous(before) == 1 and trained_induction.induction(before) == 0
        assert trained_induction.induction(after) == pytest.approx(0.6)

    def test_the_model_has_both_kinds_of_head_as_its_log_says(self):
        row = trained_induction.measure(network_of("trained_induction"))
        log = read_table(trained_weights("trained_induction").with_suffix(".csv"))
        assert dict(log.iloc[-1][list(row)]) == pytest.approx(row, abs=0.01)
        previous = {name for name, value in row.items() if name.endswith("_previous") and value > 0.4}
        induction = {name for name, value in row.items() if name.endswith("_induction") and value > 0.5}
        assert previous == {"a0.h1_previous"}
        assert induction == {f"a1.h{head}_induction" for head in range(4)}
        assert row["repeated_loss"] < 0.3 and row["other_loss"] > 4

    def test_patterns_are_those_of_transformer_lens(self, tmp_path):
        trained_induction.build(tmp_path)
        tokens = trained_induction.draw(2, seed=0)[:, :-1]
        _, cache = load_bridge(tmp_path).run_with_cache(tokens)
        with torch.no_grad():
            patterns = network_of("trained_induction").patterns(tokens)
        for layer, pattern in enumerate(patterns):
            torch.testing.assert_close(pattern, cache[f"blocks.{layer}.attn.hook_pattern"], rtol=1e-4, atol=1e-5)

    def test_its_heads_are_named_as_they_were_found_to_be(self, tmp_path):
        """The names come from the rules of ``acdc heads``, which know nothing of this model."""
        files.load("trained_induction").build(tmp_path)
        data = load("induction").make_dataset(None, 8, 0, n_tokens=60, n_vocabulary=64)
        frame = head_frame(Engine(weights_of(load_bridge(tmp_path)), data, ablation="corrupted"))
        found = dict(zip(frame["head"], named(frame, float("nan"))["name"], strict=True))
        expected = {f"a0.h{i}": NONE for i in range(4)} | {f"a1.h{i}": "induction" for i in range(4)}
        assert found == expected | {"a0.h1": "previous token"}
