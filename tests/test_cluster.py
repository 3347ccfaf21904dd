"""Test the workflow on a cluster: which Python runs a job, what a job asks for, and searches that Slurm ends.

The last need a Slurm whose only node is this machine, and its plugin for Snakemake; elsewhere they are skipped.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from acdc.data import Dataset
from acdc.models.convert import weights_of
from acdc.resources import Need, Needs
from tests import test_workflow
from tests.checkout import CONFIG, ROOT, SMALL, SNAKEMAKE, Checkout
from tests.small_models import bridge
from tests.test_study import job, read, study

PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())

OWN = '''"""Says which Python and which acdc a job has."""


rule own:
    output:
        "said.txt",
    envmodules:
        "own/1",
    shell:
        "python -m acdc --version > {output}; python -c 'import sys; print(sys.executable)' >> {output}"
'''
TASK = {"name": "own", "model": "planted", "n_prompts": 3, "n_test_prompts": 2, "seed": 0, "ablations": ["corrupted"]}
STUDY = {
    "study": "own",
    "models": [model for model in SMALL["models"] if model["name"] == "planted"],
    "tasks": [TASK | {"searches": [{"metric": "logit_difference", "thresholds": ["1"]}]}],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("cluster"))
    made.write("workflow/rules/tasks/own.smk", OWN)
    made.overlay("own.yaml", STUDY)
    return made


@pytest.fixture
def elsewhere(tmp_path) -> dict[str, str]:
    """Return the environment of a node where PATH has another Python, and a folder's modules are not found."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "another python: $*"\n')
    python.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONSAFEPATH": "1", "PYTHONPATH": ""}


class TestPython:
    """Test which interpreter a job's `python` is."""

    @staticmethod
    def said(checkout: Checkout, *arguments: str, **environment: str) -> list[str]:
        (checkout.root / "said.txt").unlink(missing_ok=True)
        command = [*SNAKEMAKE, "--cores", "1", "said.txt", "--configfile", "own.yaml", *arguments]
        result = checkout.run(*command, **environment)
        assert result.returncode == 0, result.stdout
        return (checkout.root / "said.txt").read_text().splitlines()

    def test_it_is_that_of_snakemake_whatever_path_and_safe_path_say(self, checkout, elsewhere):
        *_, executable = self.said(checkout, **elsewhere)
        assert executable == sys.executable

    def test_a_rule_with_software_of_its_own_keeps_its_python(self, checkout, elsewhere):
        """`module load` brings another Python; Snakemake calls it before the job's command."""
        function = '() { if [ "$1" = load ]; then export LOADEDMODULES=$2; fi; }'
        module = {"BASH_FUNC_module%%": function}
        version, executable = self.said(checkout, "--sdm", "env-modules", **elsewhere, **module)
        assert version == "another python: -m acdc --version" and executable.startswith("another python: -c")


class TestResources:
    """Test what a job asks of a cluster."""

    INPUTS = {name: f"nowhere/{name}" for name in ("model", "dataset", "logits")}

    @staticmethod
    def needs(on_gpu: bool = False, **top: Any) -> Needs:
        return Needs(study("default", **top), on_gpu)

    @pytest.fixture(scope="class")
    @classmethod
    def asked(cls, checkout) -> dict[str, dict[str, str]]:
        """Return the resources of a job of every rule, by the profile's defaults, in a dry run of the small study."""
        defaults = [f"{name}={value}" for name, value in PROFILE["default-resources"].items()]
        command = ["-n", "--forceall", "--configfile", CONFIG, "--default-resources", *defaults]
        listed = checkout.run(*SNAKEMAKE, *command).stdout
        found = re.findall(r"^(local)?rule (\w+):$.*?^    resources: (.*?)$", listed, re.MULTILINE | re.DOTALL)
        return {rule: dict(part.split("=") for part in asked.split(", ")) for local, rule, asked in found if not local}

    def test_every_rule_has_memory_and_time(self, asked):
        assert {"model", "dataset", "behaviour", "evaluate", "controls", "stability", "roc"} < asked.keys()
        assert all(int(of["mem_mb"]) >= 1500 and int(of["runtime"]) >= 30 for of in asked.values())
        for rule, of in asked.items():
            if rule.startswith("circuits_") or rule in ("evaluate", "controls", "stability"):
                assert int(of["mem_mb"]) > 3000 and int(of["runtime"]) >= 60, rule

    def test_the_profile_leaves_out_what_only_the_user_knows(self):
        assert PROFILE["default-resources"].keys() == {"runtime", "mem_mb"}

    def test_memory_for_candidates_is_asked_for(self):
        w = job(model="planted", task="planted")
        two, sixteen = (self.needs(memory_gib=gib).measuring(w, self.INPUTS).bytes for gib in ("auto", 16))
        assert sixteen - two == 14 * 2**30

    def test_a_gpus_memory_is_not_asked_of_the_node(self):
        w = job(model="smollm2-135m-q4", task="ioi")
        here, there = (self.needs(on_gpu, memory_gib=64).measuring(w, self.INPUTS) for on_gpu in (False, True))
        assert there.bytes < here.bytes - 50 * 2**30

    @pytest.fixture
    @staticmethod
    def inputs(tmp_path) -> dict[str, Path]:
        """Return a model whose weights are a gigabyte, and four prompts of five tokens."""
        files = {name: tmp_path / name for name in ("model", "dataset", "logits")}
        files["model"].mkdir()
        weights_of(bridge("gpt2")).save(files["model"])
        os.truncate(files["model"] / "engine.safetensors", 10**9)
        tokens = torch.zeros(4, 5, dtype=torch.long)
        Dataset(tokens, tokens + 1, torch.ones(4, 5, dtype=torch.bool), {}).save(files["dataset"])
        return files

    def test_weights_are_asked_for_as_often_as_they_are_held(self, inputs):
        w = job(model="smollm2-135m-q4", task="ioi")
        double = [{**task, "precision": "float64"} for task in read("default")["tasks"]]
        single, twice = (needs.measuring(w, inputs).bytes for needs in (self.needs(), self.needs(tasks=double)))
        assert 6e9 < single < 7e9 and 3e9 < twice - single < 3.1e9

    def test_a_search_for_two_values_takes_twice_as_long(self, inputs):
        needs = self.needs()
        two, one = (next(b for b in needs.study.batches if b.label == label) for label in ("acdc_1", "acdc_2"))
        assert [len(batch.values["acdc"]) for batch in (two, one)] == [2, 1]
        hour, long, short = 60, needs.search(two, inputs).minutes, needs.search(one, inputs).minutes
        assert long - hour == pytest.approx(2 * (short - hour)) and short > hour

    def test_another_attempt_asks_for_more_but_never_for_more_time_than_the_config_allows(self):
        need = Need(bytes=4e9, minutes=100)
        assert [need.mem_mb(attempt) for attempt in (1, 2, 3)] == [4000, 6000, 8000]
        assert [need.runtime(attempt, most=250) for attempt in (1, 2, 3)] == [100, 200, 250]

    def test_a_damaged_file_is_left_to_the_job(self, inputs):
        w = job(model="smollm2-135m-q4", task="ioi")
        (inputs["model"] / "architecture.json").write_text("{")
        inputs["dataset"].write_text("nothing")
        assert self.needs().measuring(w, inputs).bytes > 5e9


def the_only_node() -> bool:
    """Return whether a Slurm answers here that has this machine and no other."""
    if not shutil.which("sinfo"):
        return False
    nodes = subprocess.run(["sinfo", "-h", "-N", "-o", "%N"], capture_output=True, text=True).stdout.split()
    return set(nodes) == {socket.gethostname().partition(".")[0]}


@pytest.mark.skipif(not the_only_node(), reason="no Slurm whose only node is this machine")
class TestSlurm:
    """Test a search on a cluster of one node, by the users' profile. It is stopped once it has a checkpoint."""

    VALUE = test_workflow.TestKilled.VALUE
    FOLDER = "results/{study}/tiny-llama/ioi/kl_divergence/corrupted"

    @classmethod
    def config(cls, checkout: Checkout, name: str) -> str:
        search = {"metric": "kl_divergence", "thresholds": [cls.VALUE]}
        task, models = {**SMALL["tasks"][0], "searches": [search]}, SMALL["models"][:1]
        return checkout.overlay(f"{name}.yaml", {**SMALL, "study": name, "models": models, "tasks": [task]})

    @classmethod
    def prepared(cls, checkout: Checkout, name: str) -> list[str]:
        """Make the model and the prompts of a search, and return the arguments for it."""
        arguments = ["--configfile", CONFIG, cls.config(checkout, name)]
        made = checkout.snakemake(f"results/{name}/tiny-llama/ioi/behaviour.csv", *arguments)
        assert made.returncode == 0, made.stdout
        return [f"{cls.FOLDER.format(study=name)}/timing/all.csv", *arguments]

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, checkout) -> Path:
        """Return what the search finds on this machine without a cluster."""
        pytest.importorskip("snakemake_executor_plugin_slurm")
        result = checkout.snakemake(*cls.prepared(checkout, "alone"))
        assert result.returncode == 0, result.stdout
        return checkout.root / cls.FOLDER.format(study="alone") / "acdc" / cls.VALUE

    @pytest.fixture
    @staticmethod
    def nothing_left(checkout) -> Iterator[None]:
        """End what a Slurm without cgroups has lost sight of: the Snakemake around a job that it ended."""
        yield
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(checkout.root):
                    process.kill()

    @staticmethod
    def hold(workflow: psutil.Popen, checkout: Checkout, checkpoint: Path) -> None:
        """Suspend the search, without ending it, when its first layers are done."""
        while not checkpoint.exists():
            assert workflow.poll() is None, "it ended before its checkpoint was seen"
            time.sleep(0.002)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:4] == ["-m", "acdc", "circuits"] and process.cwd() == str(checkout.root):
                    process.suspend()
        test_workflow.TestKilled.mark(checkpoint)

    @pytest.mark.usefixtures("nothing_left")
    @pytest.mark.parametrize("end", ["limit", "scancel", "requeue"])
    def test_a_search_that_is_stopped_goes_on_to_the_same_bytes(self, checkout, alone, end):
        arguments = self.prepared(checkout, end)
        profile = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]
        process = checkout.start(*SNAKEMAKE, *profile, *arguments, "--config", "max_minutes=1")
        found = checkout.root / self.FOLDER.format(study=end) / "acdc" / self.VALUE
        self.hold(process, checkout, found / "checkpoint.pt")
        (number,) = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True).stdout.split()
        if end != "limit":
            subprocess.run(
                {"scancel": ["scancel", number], "requeue": ["scontrol", "requeue", number]}[end], check=True
            )
        assert process.wait(timeout=400) == 0

        expected = checkout.circuit(alone / "circuit.json")
        expected["result"]["evaluations"] += 1000  # so it went on from the marked checkpoint
        assert checkout.circuit(found / "circuit.json") == expected
        assert (found / "trace.csv").read_bytes() == (alone / "trace.csv").read_bytes()
