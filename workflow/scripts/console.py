"""Show a line for every job on the console, by stage, instead of its block and shell command.

The Snakefile puts it in front of Snakemake's own console, and only where that is as Snakemake makes it by default: any
option about output (--quiet, --verbose, --dry-run, --debug-dag, another logger plugin) leaves Snakemake's own, as does
an unknown version of it. What has no better words here, such as warnings and errors, goes to Snakemake's own console.
The log file .snakemake/log/*.log does not change: it has every block and every shell command.

Rules have no `message:` for this: Snakemake shows it instead of a job's files and wildcards, in a dry run and in the
log file too.
"""

import copy
import logging
import os
import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = {"discovery": "circuits", "recovery": "evaluation", "tasks": "datasets"}
"""The stages of files and folders of rules that are not named as theirs."""
LONG = ("models", "circuits")
"""The stages whose jobs are announced, because they can take minutes or hours."""
SKIPPED = {"workflow_started", "resources_info", "job_started", "shellcmd"}
"""Snakemake's events that are in its log file alone."""
SKIPPED_LINES = (
    "Building DAG of jobs...",
    "Using shell: ",
    "Select jobs to execute...",
    "Complete log(s): ",
    "Elapsed time: ",
)
"""Beginnings of lines that are no event of Snakemake's and in its log file alone."""
NOTHING_TO_DO = "Nothing to be done"
COMMAND = re.compile(r"Command '.*' (?=returned |died )", re.DOTALL)
"""A command in the text of Snakemake's exceptions, which Snakemake tells again below."""
SHOWN_SECONDS = 5
"""The least seconds of a job whose line says how long it took."""
SHOWN_METHODS, SHOWN_VALUES = 4, 3
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"


@dataclass(frozen=True)
class Job:
    """Hold a job's stage, its description, its start and its files."""

    stage: str
    text: str
    started: float
    output: list[str]
    log: list[str]


class Console(logging.Handler):
    """Word what a person follows, and leave the rest to Snakemake's own console.

    Attributes:
        own: Snakemake's handler of the console.
        file_of: gives the file of a rule, by its name.
        labels: what rules without wildcards are about, by their names.
        places: where results are to be looked at; those that a run made are named at its end.
        logs: gives Snakemake's log files.
    """

    def __init__(
        self,
        own: logging.StreamHandler,
        file_of: Callable[[str], str],
        labels: Mapping[str, Mapping[str, str]],
        places: list[str],
        logs: Callable[[], list[str]] = list,
    ) -> None:
        super().__init__(own.level)
        self.own, self.file_of, self.labels, self.places, self.logs = own, file_of, labels, places, logs
        self.started = time.time()
        self.jobs: dict[int, Job] = {}
        self.finished: list[Job] = []
        self.failed: dict[int, Job] = {}
        self.made: set[str] = set()
        self.done = self.total = self.uncounted = 0
        self.words: dict[str, Callable[[Any], None]] = {
            "run_info": self.begin,
            "job_info": self.start,
            "job_finished": self.finish,
            "progress": self.progress,
            "job_error": self.fail,
            "error": self.explain,
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or let Snakemake's own console show it: also where it is not as expected."""
        try:
            event = str(getattr(record, "event", None) or "")
            message = "" if event or record.levelno != logging.INFO else str(record.msg)
            if event in self.words:
                self.words[event](record)
            elif message.startswith(NOTHING_TO_DO):
                there = [place for place in self.places if os.path.exists(place)]
                self.say(self.with_places(message.rstrip(". "), there))
            elif event not in SKIPPED and not message.startswith(SKIPPED_LINES):
                self.own.handle(record)
        except Exception:
            self.own.handle(record)

    def begin(self, record: Any) -> None:
        """Say how many jobs of which stages there are, and where details are."""
        counts: Counter[str] = Counter()
        for rule, n in record.stats.items():
            if rule != "total":
                counts[stage_of(self.file_of(rule))] += n
        self.uncounted = counts.pop("", 0)
        self.total = record.stats["total"] - self.uncounted
        by_stage = ", ".join(f"{name} {n}" for name, n in counts.items())
        self.say("; ".join((f"{count_of_jobs(self.total)}: {by_stage}", *self.details())), style=BOLD)

    def start(self, record: Any) -> None:
        """Keep what a job is about, and announce it where it will take long."""
        name = stage_of(self.file_of(record.rule_name))
        text = describe(record.rule_name, name, self.labels.get(record.rule_name, record.wildcards))
        job = Job(name, text, record.created, list(record.output), list(record.log))
        self.jobs[record.jobid] = job
        if name in LONG:
            self.say(f"{text} ...", stage=name, style=DIM)

    def finish(self, record: Any) -> None:
        """Keep that a job has ended: how many have, Snakemake says next."""
        self.failed.pop(record.job_id, None)
        self.finished.append(self.jobs.pop(record.job_id))

    def progress(self, record: Any) -> None:
        """Say which jobs have ended, and how many of all."""
        self.done, self.total = record.done, record.total - self.uncounted
        ended, self.finished = self.finished, []
        for job in ended:
            self.made.update(job.output)
            seconds = record.created - job.started
            took = f"  ({duration(seconds)})" if seconds >= SHOWN_SECONDS else ""
            if job.stage:
                self.say(job.text + took, count=f"{self.done}/{self.total}", stage=job.stage)

    def fail(self, record: Any) -> None:
        """Say which job failed, above what Snakemake shows of it: its log, its files, its command."""
        job = self.jobs[record.jobid]
        self.failed[record.jobid] = job
        self.say(job.text, count="failed", stage=job.stage, style=RED)
        self.own.handle(record)

    def explain(self, record: Any) -> None:
        """Say what an exception says, without the command that Snakemake tells again below."""
        shorter = copy.copy(record)
        shorter.msg = COMMAND.sub("The command ", record.msg)
        self.own.handle(shorter)

    def end(self) -> None:
        """Say what a run came to: what is made and where, or what failed."""
        took = duration(time.time() - self.started)
        if self.done >= self.total and not self.failed:
            made = [place for place in self.places if is_made(place, self.made)] or folders(self.made)
            self.say(self.with_places(f"{count_of_jobs(self.total)} done in {took}", made), style=GREEN)
            return
        for job in self.failed.values():
            self.say("; ".join((job.text, *job.log)), count="failed", stage=job.stage, style=RED)
        failed = [f"{len(self.failed)} failed"] if self.failed else []
        told = (f"{self.done} of {count_of_jobs(self.total)} done in {took}", *failed, *self.details())
        self.say("; ".join(told), style=RED)

    def details(self) -> list[str]:
        """Return where details are, or nothing."""
        return [f"details: {os.path.relpath(path)}" for path in self.logs()]

    @staticmethod
    def with_places(text: str, places: list[str]) -> str:
        """Return a text followed by places, where there are some."""
        return f"{text}: {', '.join(places)}" if places else text

    def say(self, text: str, count: str = "", stage: str = "", style: str = "") -> None:
        """Write a line: the time, how many jobs are done, the stage and what is said. A terminal gets it broken."""
        start = time.strftime("%H:%M:%S  ")
        if stage:
            start += f"{count:>{max(2 * len(str(self.total)) + 1, len('failed'))}}  {stage:<10}  "
        if self.own.stream.isatty():
            room = os.get_terminal_size(self.own.stream.fileno()).columns - len(start)
            if room > len("a word or two"):
                lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
                text = ("\n" + " " * len(start)).join(lines)
        line = start + text
        if style and not getattr(self.own, "nocolor", True):
            line = f"\033[{style}m{line}\033[0m"
        self.own.stream.write(line + "\n")
        self.own.flush()


def stage_of(file: str) -> str:
    """Return the stage of a file of rules, nothing of the Snakefile itself: its rule only asks for everything."""
    path = Path(file)
    name = "tasks" if path.parent.name == "tasks" else path.stem
    return "" if path.suffix != ".smk" else STAGES.get(name, name)


def describe(rule: str, stage: str, labels: Mapping[str, str]) -> str:
    """Return in words what a job is about; the labels of a rule without wildcards name its kind."""
    kind = labels.get("kind", rule).replace("_", " ")
    text = " on ".join(labels[key] for key in ("task", "model") if key in labels)
    if "metric" in labels:
        text += f" by {labels['metric']}, {labels['ablation']}"
    told = ("kind", "study", "task", "model", "metric", "ablation", "method")
    others = (f"{key} {value}" for key, value in labels.items() if key not in told)
    about = ", ".join(filter(None, (text, *others)))
    return ": ".join(filter(None, ("" if stage in (kind, f"{kind}s") else kind, about, labels.get("method")))) or kind


def methods(values: Mapping[str, list[str]]) -> str:
    """Return in words which methods a job runs, and for which values: it tells the jobs of a split search apart."""
    named = [f"{name} ({span(given)})" if given else name for name, given in values.items()]
    more = len(named) - SHOWN_METHODS
    return ", ".join(named if more <= 0 else [*named[:SHOWN_METHODS], f"{more} more"])


def span(values: list[str]) -> str:
    """Return a few values, or how many there are from the first to the last."""
    return ", ".join(values) if len(values) <= SHOWN_VALUES else f"{len(values)} values, {values[0]} to {values[-1]}"


def count_of_jobs(n: int) -> str:
    """Return a number of jobs in words."""
    return f"{n} job{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def is_made(place: str, made: Iterable[str]) -> bool:
    """Return whether a file or something in a folder is among what was made."""
    return any(name == place or name.startswith(f"{place}/") for name in made)


def folders(made: Iterable[str]) -> list[str]:
    """Return the folders of studies, such as results/default, in which something was made."""
    return sorted({"/".join(Path(name).parts[:2]) for name in made})


def install(workflow: Any, labels: Mapping[str, Mapping[str, str]], places: list[str]) -> Console | None:
    """Put a console in front of Snakemake's own and return it; nothing where Snakemake's own is to stay."""
    try:
        manager, settings = workflow.logger_manager, workflow.output_settings
        asked = (settings.quiet, settings.verbose, settings.dryrun, settings.debug_dag, settings.log_level_override)
        logger = manager.logger
        own = [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]
        if any(asked) or not workflow.is_main_process or len(own) != 1 or not is_default(own[0]):
            return None
        console = Console(own[0], lambda rule: workflow.get_rule(rule).snakefile, labels, places, manager.get_logfile)
    except Exception:
        return None
    if os.environ.get("NO_COLOR"):  # Snakemake 9.27 does not ask
        own[0].nocolor = True
    logger.removeHandler(own[0])
    logger.addHandler(console)
    return console


def is_default(handler: logging.Handler) -> bool:
    """Return whether a handler writes as Snakemake's default one does: nobody gave it another look."""
    parts = (handler, handler.formatter, *handler.filters)
    return [type(part).__name__ for part in parts] == ["ColorizingTextHandler", "DefaultFormatter", "DefaultFilter"]
