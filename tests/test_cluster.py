"""The workflow on another machine than the one it was started on: which Python runs a job."""

from __future__ import annotations

import sys

import pytest

from tests.checkout import SMALL, SNAKEMAKE, Checkout

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
    """The environment of a node whose PATH has another Python, and where a folder's modules are not to be found."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "another python: $*"\n')
    python.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONSAFEPATH": "1", "PYTHONPATH": ""}


class TestPython:
    """Which interpreter a job's `python` is."""

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
        """As `module load` brings it, which Snakemake calls before the job's command."""
        function = '() { if [ "$1" = load ]; then export LOADEDMODULES=$2; fi; }'
        module = {"BASH_FUNC_module%%": function}
        version, executable = self.said(checkout, "--sdm", "env-modules", **elsewhere, **module)
        assert version == "another python: -m acdc --version" and executable.startswith("another python: -c")
