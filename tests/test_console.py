"""Test the workflow's console, on hand-made records and in runs of a part of the small study."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import logging
import os
import re
import struct
import termios
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.logging import DefaultFilter, DefaultFormatter, LoggerManager
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

from tests.checkout import CONFIG, ROOT, Checkout
from tests.test_study import study
from workflow.scripts import console

FILES = {"model": "models.smk", "circuits_ioi": "discovery.smk", "roc": "figures.smk", "all": "Snakefile"}
LABELS = {"circuits_ioi": {"kind": "circuits", "task": "ioi", "model": "gpt2", "method": "acdc"}}
STATS = {"model": 1, "circuits_ioi": 1, "roc": 1, "all": 1, "total": 4}
TIME = re.compile(r"^\d\d:\d\d:\d\d  ", re.MULTILINE)


class Run:
    """A run of Snakemake as its console sees it: a logger of Snakemake's own, whose records the test makes."""

    def __init__(self, stream: Any, **settings: Any) -> None:
        self.stream = stream
        self.manager = LoggerManager(logging.getLogger("tests.console"), OutputSettings(**settings))
        self.own = self.manager.logger.handlers[0]
        self.own.stream = stream
        self.manager.logger.propagate = False
        self.workflow = SimpleNamespace(
            logger_manager=self.manager,
            output_settings=self.manager.settings,
            is_main_process=True,
            get_rule=lambda name: SimpleNamespace(snakefile=f"/x/{FILES[name]}"),
        )

    def install(self, *places: str) -> console.Console | None:
        return console.install(self.workflow, LABELS, list(places))

    def log(self, event: LogEvent | None, message: str | None = None, level: int = logging.INFO, **extra: Any) -> None:
        self.manager.logger.log(level, message, extra=extra | ({"event": event} if event else {}))

    def start(self, jobid: int, rule: str, wildcards: dict[str, str] | None = None, log: tuple[str, ...] = ()) -> None:
        files = {"input": ["in"], "output": [f"results/test/{rule}.csv"], "log": list(log)}
        named = {"rule_name": rule, "rule_msg": None, "wildcards": wildcards or {}, "local": False}
        self.log(LogEvent.JOB_INFO, jobid=jobid, **files, **named)
        self.log(LogEvent.SHELLCMD, "Shell command: python -m acdc", shellcmd="python -m acdc")

    def finish(self, jobid: int, done: int, total: int = 4) -> None:
        self.log(LogEvent.JOB_FINISHED, f"Finished jobid: {jobid}", job_id=jobid)
        self.log(LogEvent.PROGRESS, done=done, total=total)

    def fail(self, jobid: int, rule: str, log: str) -> None:
        why = {"rule_msg": None, "conda_env": None, "container_img": None, "aux": {}, "shellcmd": "false"}
        self.log(
            *(LogEvent.JOB_ERROR, f"Error in rule {rule}, jobid: {jobid}", logging.ERROR),
            **{"rule_name": rule, "jobid": jobid, "input": [], "output": [], "log": [log], **why},
        )

    @property
    def shown(self) -> str:
        return TIME.sub("", self.stream.getvalue())


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run(io.StringIO(), show_failed_logs=True, printshellcmds=True)
    yield made
    made.manager.stop()


class TestLines:
    def test_a_run_has_a_line_for_every_job_and_one_more_for_long_ones(self, run):
        ours = run.install("figures/test", "results/test/roc.csv")
        run.log(LogEvent.WORKFLOW_STARTED, "Workflow has started!")
        run.log(None, "Building DAG of jobs...")
        run.log(LogEvent.RUN_INFO, "Job stats: a table", stats=STATS)
        run.log(LogEvent.JOB_STARTED, "Execute 1 jobs...", jobs=[1])
        run.start(1, "model", {"study": "test", "model": "gpt2"})
        run.finish(1, done=1)
        run.start(2, "circuits_ioi")
        ours.jobs[2] = dataclasses.replace(ours.jobs[2], started=ours.jobs[2].started - 125)
        run.finish(2, done=2)
        run.start(3, "roc")
        run.finish(3, done=3)
        run.start(4, "all")
        run.finish(4, done=4)
        ours.end()
        assert run.shown == (
            "3 jobs: models 1, circuits 1, figures 1\n"
            "        models      gpt2 ...\n"
            "   1/3  models      gpt2\n"
            "        circuits    ioi on gpt2: acdc ...\n"
            "   2/3  circuits    ioi on gpt2: acdc  (2 min 5 s)\n"
            "   3/3  figures     roc\n"
            "3 jobs done in 0 s: results/test/roc.csv\n"
        )

    def test_a_failed_job_is_named_with_its_log_and_again_at_the_end(self, run, tmp_path):
        ours, log = run.install(), tmp_path / "model.log"
        log.write_text("acdc: the model has no weights\n")
        run.log(LogEvent.RUN_INFO, "", stats=STATS)
        run.start(1, "model", {"model": "gpt2"}, (str(log),))
        command = "Command 'set -euo\npipefail; python' returned non-zero exit status 3."
        run.log(LogEvent.ERROR, f"CalledProcessError in file models.smk, line 4:\n{command}", logging.ERROR)
        run.fail(1, "model", str(log))
        ours.end()
        named = "failed  models      gpt2"
        assert run.shown.splitlines().count(named) == 1 and run.shown.count(named) == 2
        assert f"{named}; {log}\n0 of 3 jobs done in 0 s; 1 failed\n" in run.shown
        for part in ("Error in rule model", "line 4:\nThe command returned non-zero exit status 3.", log.read_text()):
            assert part in run.shown
        assert "set -euo" not in run.shown

    def test_a_job_that_succeeds_at_its_second_attempt_has_not_failed(self, run):
        ours = run.install()
        stats = {"model": 1, "total": 1}
        run.log(LogEvent.RUN_INFO, "", stats=stats)
        run.start(1, "model", {"model": "gpt2"})
        run.fail(1, "model", "gone.log")
        run.log(None, "Trying to restart job 1.")
        run.start(1, "model", {"model": "gpt2"})
        run.finish(1, done=1, total=1)
        ours.end()
        assert "Trying to restart job 1." in run.shown
        assert run.shown.splitlines()[-1] == "1 job done in 0 s: results/test"

    @pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
    def test_what_it_does_not_know_is_shown_as_by_snakemake(self, run, level):
        run.install()
        run.log(None, "Something to be told.", level)
        assert run.shown == "Something to be told.\n"

    def test_a_warning_is_shown_that_begins_as_what_is_left_out(self, run):
        run.install()
        run.log(None, "Using shell: none", logging.WARNING)
        assert "Using shell: none" in run.shown

    def test_a_record_that_is_not_as_expected_is_shown_as_by_snakemake(self, run):
        run.install()
        run.log(LogEvent.RUN_INFO, "Job stats: of another version", numbers=STATS)
        run.log(LogEvent.JOB_FINISHED, "Finished jobid: 7", job_id=7)
        assert "Job stats: of another version" in run.shown and "Finished jobid: 7" in run.shown

    def test_of_a_finished_study_it_says_where_it_is(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "figures").mkdir()
        run.install("figures", "results")
        run.log(None, "Nothing to be done (all requested files are present and up to date).")
        assert run.shown == "Nothing to be done (all requested files are present and up to date): figures\n"


class TestTerminal:
    """A terminal of 60 columns."""

    TEXT = "ioi on smollm2-135m-q4 by logit_difference, corrupted: acdc (6 values), sp, eap"

    @pytest.fixture
    @staticmethod
    def terminal() -> Iterator[tuple[Run, int]]:
        leader, follower = os.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        with os.fdopen(follower, "w") as stream:
            run = Run(stream)
            run.own.nocolor = False
            yield run, leader
            run.manager.stop()
        os.close(leader)

    def said(self, terminal: tuple[Run, int]) -> str:
        run, leader = terminal
        ours = run.install()
        run.log(None, "A warning of Snakemake's.", logging.WARNING)
        ours.say(self.TEXT, count="1/3", stage="circuits", style=console.RED)
        said = b""
        while b"eap" not in said:
            said += os.read(leader, 10**4)
        return said.decode().replace("\r\n", "\n")

    def test_a_line_is_broken_where_its_text_begins(self, terminal, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        warning, first, *others = self.said(terminal).splitlines()
        assert warning == "A warning of Snakemake's."
        column = first.index("ioi")
        assert others and all(len(line) <= 60 and line[:column].isspace() for line in others)
        assert " ".join([first[column:], *map(str.strip, others)]) == self.TEXT

    def test_it_has_colours_unless_no_color_is_set(self, terminal, monkeypatch):
        monkeypatch.delenv("NO_COLOR", raising=False)
        warning, *said = self.said(terminal).splitlines()
        assert warning == "\033[33mA warning of Snakemake's.\033[0m"
        assert said[0].startswith("\033[31m") and said[-1].endswith("\033[0m")


class TestInstall:
    """Snakemake's own console stays for a user who gives an option about output."""

    def refused(self, run: Run) -> bool:
        handlers = list(run.manager.logger.handlers)
        return run.install() is None and run.manager.logger.handlers == handlers

    @pytest.mark.parametrize(
        "settings",
        [
            {"quiet": {Quietness.HOST}},
            {"verbose": True},
            {"dryrun": True},
            {"debug_dag": True},
            {"log_level_override": logging.ERROR},
        ],
        ids=lambda settings: next(iter(settings)),
    )
    def test_options_of_output_leave_snakemakes_own(self, settings):
        assert self.refused(Run(io.StringIO(), **settings))

    def test_a_job_on_a_cluster_leaves_snakemakes_own(self, run):
        run.workflow.is_main_process = False
        assert self.refused(run)

    def test_another_formatter_stays(self, run):
        run.own.setFormatter(logging.Formatter())
        assert self.refused(run)

    def test_another_filter_stays(self, run):
        run.own.addFilter(lambda record: True)
        assert self.refused(run)

    def test_another_plugin_stays(self, run):
        run.own.name = "another"
        assert self.refused(run)

    def test_another_snakemake_has_its_own(self, run):
        run.workflow.output_settings = SimpleNamespace(quiet=None)
        assert self.refused(run)

    def test_the_log_file_stays_as_it_is(self, run, tmp_path):
        run.manager.setup_logfile(tmp_path)
        file = run.manager.logger.handlers[-1]
        run.install()
        run.start(1, "model", {"model": "gpt2"})
        assert file in run.manager.logger.handlers
        assert (type(file.formatter), [type(given) for given in file.filters]) == (DefaultFormatter, [DefaultFilter])
        (path,) = run.manager.get_logfile()
        with open(path) as log:
            text = log.read()
        assert "python -m acdc" in text and "python -m acdc" not in run.shown


@pytest.mark.parametrize(
    ("rule", "stage", "labels", "text"),
    [
        ("model", "models", {"study": "s", "model": "gpt2"}, "gpt2"),
        ("download", "models", {"study": "s", "model": "gpt2", "part": "1"}, "download: gpt2, part 1"),
        ("behaviour", "datasets", {"task": "ioi", "model": "gpt2"}, "behaviour: ioi on gpt2"),
        ("evaluation_table", "evaluation", {"study": "s"}, "evaluation table"),
        (
            "stability",
            "circuits",
            {"task": "ioi", "model": "gpt2", "metric": "l2", "ablation": "zero", "method": "sp"},
            "stability: ioi on gpt2 by l2, zero: sp",
        ),
    ],
)
def test_a_job_is_told_by_its_rule_and_its_wildcards(rule, stage, labels, text):
    assert console.describe(rule, stage, labels) == text


def test_methods_are_told_with_their_values_and_only_a_few_of_many():
    values = {"acdc": ["1", "0.1"], "sp": ["1", "2", "3", "4"], "eap": [], "gim": [], "relp": [], "hisp": []}
    assert console.methods(values) == "acdc (1, 0.1), sp (4 values, 1 to 4), eap, gim, 2 more"


@pytest.mark.parametrize("name", ["default", "demo", "sweep"])
def test_jobs_of_a_split_search_are_told_apart(name):
    told = [(str(batch.search.labels), console.methods(batch.values)) for batch in study(name).batches]
    assert len(set(told)) == len(told) > len({labels for labels, _ in told})


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (174, "2 min 54 s"), (3600, "1 h 0 min")]
)
def test_a_duration_is_told_in_two_units_at_most(seconds, text):
    assert console.duration(seconds) == text


def test_every_file_of_rules_has_a_stage():
    stages = {console.stage_of(str(path)) for path in (ROOT / "workflow/rules").glob("[!c]*.smk")}
    assert stages == {"models", "datasets", "circuits", "evaluation", "figures"}
    assert console.stage_of("workflow/rules/tasks/own.smk") == "datasets" and console.stage_of("/x/Snakefile") == ""


SEARCH = "planted/planted/logit_difference/corrupted"
TARGET = f"results/test/{SEARCH}/evaluation.csv"


class TestWorkflow:
    """The planted model's search, as a user runs it into a pipe."""

    @pytest.fixture(scope="class")
    @classmethod
    def checkout(cls, tmp_path_factory) -> Checkout:
        return Checkout(tmp_path_factory.mktemp("console"))

    @pytest.fixture(scope="class")
    @classmethod
    def said(cls, checkout) -> str:
        result = checkout.snakemake("--cores", "all", TARGET, "--configfile", CONFIG)
        assert result.returncode == 0, result.stdout
        return TIME.sub("", result.stdout)

    def test_it_has_stages_and_no_shell_command(self, said):
        lines = [re.sub(r"  \(.*s\)$", "", line) for line in said.splitlines()]
        (first,) = (line for line in lines if line.startswith("5 jobs: "))
        assert first.startswith("5 jobs: models 1, datasets 2, circuits 1, evaluation 1; details: .snakemake/log/")
        search = "planted on planted by logit_difference, corrupted"
        assert lines[lines.index(first) + 1 : -1] == [
            "        models      planted ...",
            "   1/5  models      planted",
            "   2/5  datasets    planted on planted",
            "   3/5  datasets    behaviour: planted on planted",
            f"        circuits    {search}: acdc (0.01, 1) ...",
            f"   4/5  circuits    {search}: acdc (0.01, 1)",
            f"   5/5  evaluation  evaluate: {search}",
        ]
        assert re.fullmatch(r"5 jobs done in .* s: data/test, results/test", lines[-1])
        assert "python" not in said and "\033" not in said

    def test_the_log_file_has_what_the_console_leaves_out(self, checkout, said):
        (named,) = re.findall(r"details: (\S+)$", said, re.MULTILINE)
        log = (checkout.root / named).read_text()
        for rule in ("model", "dataset", "behaviour", "circuits_planted_planted_logit_difference_corrupted"):
            assert re.search(rf"^(?:local)?rule {rule}:$", log, re.MULTILINE), rule
        assert len(re.findall(r"^Shell command: python -m acdc ", log, re.MULTILINE)) == 5
        assert "\n    wildcards: model=planted, task=planted\n" in log and "5 of 5 steps (100%) done" in log

    @pytest.mark.usefixtures("said")
    def test_what_is_there_is_said_in_a_sentence(self, checkout):
        result = checkout.snakemake(TARGET, "--configfile", CONFIG)
        assert TIME.sub("", result.stdout).splitlines()[-1].startswith("Nothing to be done (")

    def test_a_failed_jobs_log_is_on_the_console(self, checkout):
        """Nothing is asked from the network: pip has no index here."""
        target = "data/default/downloads/smollm2-135m-q4/1.whl"
        result = checkout.snakemake(target, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
        assert result.returncode == 1
        said, log = TIME.sub("", result.stdout), "results/default/logs/download/smollm2-135m-q4/1.log"
        named = "failed  models      download: smollm2-135m-q4, part 1"
        assert f"\n{named}\n" in said and f"\nLogfile {log}:\n" in said
        assert (checkout.root / log).read_text() in said
        assert re.search(rf"^{named}; {log}\n0 of 1 job done in \d+ s; 1 failed; details: ", said, re.MULTILINE)
