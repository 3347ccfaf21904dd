"""Test the README's two commands on a fresh machine, and what they do after a workflow that was killed."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.checkout import pins

ROOT = Path(__file__).parent.parent
UNLOCK = ROOT / "workflow/scripts/unlock.py"

# Stands in for Python: makes a .venv of copies of itself, logs each call, fails where FAIL is part of the call.
FAKE_PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
case "$*" in
    --version) echo "Python 3.12.0" ;;
    "-m venv --clear .venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
case "$*" in *"$FAIL"*) exit 1 ;; esac
"""


class Checkout:
    """Hold a copy of what make reads, in a directory with a space in its name, with a fake Python beside it."""

    def __init__(self, folder: Path):
        self.root = folder / "a checkout"
        self.root.mkdir()
        shutil.copy(ROOT / "Makefile", self.root)
        shutil.copy(ROOT / "requirements.txt", self.root)
        self.python = self.executable(folder / "bin" / "python3.12", FAKE_PYTHON)
        self.log = folder / "calls"
        self.fail = "none"

    @staticmethod
    def executable(path: Path, text: str) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def make(self, *arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess:
        """Run `make` as in a terminal: nothing that `make test` was itself called with may reach it."""
        environment = {"PATH": path, "LOG": str(self.log), "FAIL": self.fail}
        command = [shutil.which("make"), *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    def calls(self) -> list[str]:
        """Return the calls of Python since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


class TestPython:
    def assert_refused(self, result):
        assert result.returncode != 0
        said = [line for line in result.stderr.splitlines() if not line.startswith("make")]
        assert len(said) == 1 and "No working Python 3.11 or newer" in said[0] and "make PYTHON=" in said[0]

    def test_one_sentence_where_there_is_none(self, checkout, tmp_path):
        (tmp_path / "empty").mkdir()
        self.assert_refused(checkout.make("reproduce", path=str(tmp_path / "empty")))

    def test_one_sentence_where_the_named_one_does_not_run(self, checkout):
        result = checkout.make("test", "PYTHON=/nonexistent/python3")
        self.assert_refused(result)
        assert "/nonexistent/python3" in result.stderr

    def test_a_python_that_can_not_run_is_passed_over(self, checkout, tmp_path):
        checkout.executable(tmp_path / "bin" / "python3.13", "#!/bin/sh\nexit 127\n")
        result = checkout.make("env", path=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        assert result.returncode == 0, result.stderr
        assert "python3.12 -m venv --clear .venv" in checkout.calls()

    def test_an_old_python_is_passed_over(self, checkout, tmp_path):
        old = "import sys; sys.version_info = (3, 10, 9); exec(sys.argv[2])"
        checkout.executable(tmp_path / "old" / "python3", f'#!/bin/sh\nexec "{sys.executable}" -c "{old}" "$@"\n')
        self.assert_refused(checkout.make("env", f"PYTHON={tmp_path / 'old' / 'python3'}"))


class TestEnvironment:
    def test_made_once_and_again_when_requirements_change(self, checkout):
        made = checkout.make("env", f"PYTHON={checkout.python}")
        assert made.returncode == 0, made.stderr
        assert ".venv took" in made.stdout
        installs = [call for call in checkout.calls() if " install " in call]
        assert [call.split()[-1] for call in installs] == [f"pip=={pins()['pip']}", "requirements.txt"]

        requirements = checkout.root / "requirements.txt"
        os.utime(requirements, (time.time() + 5,) * 2)  # as `git checkout` does: newer, the same text
        checkout.make("env", f"PYTHON={checkout.python}")
        assert checkout.calls() == []

        requirements.write_text(requirements.read_text() + "six\n")
        os.utime(requirements, (time.time() + 5,) * 2)
        checkout.make("env", f"PYTHON={checkout.python}")
        assert "python3.12 -m venv --clear .venv" in checkout.calls()

    def test_an_installation_that_broke_off_is_done_again(self, checkout):
        checkout.fail = "--requirement"
        assert checkout.make("env", f"PYTHON={checkout.python}").returncode != 0
        checkout.calls()
        checkout.fail = "none"
        assert checkout.make("env", f"PYTHON={checkout.python}").returncode == 0
        assert "python3.12 -m venv --clear .venv" in checkout.calls()

    def test_torch_comes_from_the_named_index(self, checkout):
        checkout.make("env", f"PYTHON={checkout.python}", "TORCH_INDEX=some://index")
        (torch,) = (call for call in checkout.calls() if "some://index" in call)
        assert torch.endswith(f"--index-url some://index torch=={pins()['torch']}")

    def test_a_container_has_the_same_environment(self, checkout):
        text = (ROOT / "Containerfile").read_text()
        assert re.findall("^COPY (.*)$", text, re.MULTILINE) == ["Makefile requirements.txt /opt/acdc/"]
        (command,) = re.findall("^RUN make --directory /opt/acdc (.*)$", text, re.MULTILINE)
        arguments = shlex.split(command.replace("$TORCH_INDEX", "some://index"))
        assert checkout.make(*arguments, f"PYTHON={checkout.python}").returncode == 0
        _, torch, everything = (call for call in checkout.calls() if " install " in call)
        assert torch.endswith(f"--index-url some://index torch=={pins()['torch']}")
        assert everything.endswith("--requirement requirements.txt")

    def test_every_requirement_is_pinned(self):
        assert all(version.replace(".", "").isdigit() for version in pins().values())


class TestCommands:
    def test_reproduce_unlocks_then_runs_the_whole_workflow(self, checkout):
        checkout.make("env", f"PYTHON={checkout.python}")
        checkout.calls()
        result = checkout.make("ARGS=--dry-run")
        assert result.returncode == 0, result.stderr
        assert checkout.calls() == ["python workflow/scripts/unlock.py", "python -P -m snakemake --cores all --dry-run"]

    def test_nothing_runs_where_unlocking_is_refused(self, checkout):
        checkout.make("env", f"PYTHON={checkout.python}")
        checkout.calls()
        checkout.fail = "unlock.py"
        assert checkout.make("reproduce").returncode != 0
        assert checkout.calls() == ["python workflow/scripts/unlock.py"]

    def test_test_runs_pytest(self, checkout):
        checkout.make("env", f"PYTHON={checkout.python}")
        checkout.calls()
        checkout.make("test", "ARGS=-k graph")
        assert checkout.calls() == ["python -m pytest -k graph"]

    def test_api_writes_the_reference(self, checkout):
        checkout.make("env", f"PYTHON={checkout.python}")
        checkout.calls()
        checkout.make("api")
        assert checkout.calls() == ["python -m docs.reference"]


SNAKEFILE = """
import os

shell.prefix(f"export ACDC_WORKFLOW_PID={os.getpid()}; ")

rule all:
    input:
        "done",

rule slow:
    output:
        "done",
    shell:
        "test -e fast || sleep 60; touch {output}"
"""


COMMAND = "from snakemake.cli import main\n\nmain()\n"  # what pip installs as bin/snakemake
AS_COMMAND = ["bin/snakemake"]
AS_MODULE = ["-P", "-m", "snakemake"]


def snakemake(folder: Path, how: list[str]) -> subprocess.Popen:
    command = [sys.executable, *how, "--cores", "1", "--rerun-incomplete"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def unlock(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, UNLOCK], cwd=folder, capture_output=True, text=True)


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def sleepers(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "sleep" and Path(process.cwd()) == folder.resolve():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(params=[AS_COMMAND, AS_MODULE], ids=["command", "module"])
def workflow(request, tmp_path):
    """Yield a Snakemake in the middle of its only job."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/snakemake").write_text(COMMAND)
    process = snakemake(tmp_path, request.param)
    wait_for(lambda: sleepers(tmp_path))
    yield process
    process.kill()
    process.wait()
    for sleeper in sleepers(tmp_path):
        sleeper.kill()


class TestUnlock:
    def test_silent_without_a_lock(self, tmp_path):
        result = unlock(tmp_path)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    def test_a_live_workflow_is_left_alone_and_a_dead_one_cleared(self, workflow, tmp_path):
        locks = sorted((tmp_path / ".snakemake/locks").iterdir())
        refused = unlock(tmp_path)
        assert refused.returncode == 1
        assert refused.stdout == "" and len(refused.stderr.splitlines()) == 1
        assert f"process {workflow.pid})" in refused.stderr
        assert sorted((tmp_path / ".snakemake/locks").iterdir()) == locks and sleepers(tmp_path)

        # Not waited for: it stays in the table as a zombie, as under a container's first process.
        workflow.send_signal(signal.SIGKILL)
        wait_for(lambda: psutil.Process(workflow.pid).status() == psutil.STATUS_ZOMBIE)
        (orphan,) = sleepers(tmp_path)
        bystander = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
        cleared = unlock(tmp_path)
        assert cleared.returncode == 0, cleared.stderr
        *stopped, removed = cleared.stdout.splitlines()
        assert any(f"process {orphan.pid}:" in line for line in stopped)
        assert all(f"process {workflow.pid})" in line for line in stopped)
        assert removed == "Removed the lock of a Snakemake that is gone."
        assert [process.pid for process in sleepers(tmp_path)] == [bystander.pid]
        bystander.kill()
        bystander.wait()

        # The job's shell had to go with the sleep that it waited for: it would have gone on to write the output.
        assert not (tmp_path / "done").exists()
        (tmp_path / "fast").touch()
        assert snakemake(tmp_path, AS_MODULE).wait(timeout=60) == 0
        assert (tmp_path / "done").exists()

    def test_a_job_is_an_orphan_when_its_workflows_number_went_to_another_process(self, tmp_path):
        (tmp_path / "Snakefile").write_text("rule all:\n")
        (tmp_path / ".snakemake/locks").mkdir(parents=True)
        (tmp_path / ".snakemake/locks/0.output.lock").write_text("done\n")
        environment = {**os.environ, "ACDC_WORKFLOW_PID": str(os.getpid())}  # alive, and no Snakemake
        job = subprocess.Popen(["sleep", "60"], cwd=tmp_path, env=environment)
        result = unlock(tmp_path)
        assert result.returncode == 0, result.stderr
        assert job.wait(timeout=60) == -signal.SIGTERM
        assert not list(tmp_path.glob(".snakemake/locks/*"))
