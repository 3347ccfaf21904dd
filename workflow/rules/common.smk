"""The study, made of the config before anything runs, and what rules ask of it by wildcards.

Requires: nothing that is generated. A thin shell over acdc.study, which imports no torch: a dry run stays quick.
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from acdc.catalogue import ABLATIONS, LEVELS, METHODS, METRICS
from acdc.config import PROMPT_KEYS, check_keys
from acdc.errors import InputError
from acdc.resources import Needs
from acdc.study import COSTS, SPLITS, TABLE_FORMATS, Study
from workflow.scripts import console

OWN_SOFTWARE = ("CONDA_PREFIX", "SINGULARITY_CONTAINER", "LOADEDMODULES")
"""Variables that tell which software a shell has: conda, Apptainer and Singularity, and environment modules set them."""


def start_of_jobs():
    """What every shell command begins with.

    `python` is the interpreter that runs this Snakemake and finds this repository's acdc, whatever PATH and
    PYTHONSAFEPATH say: a cluster's node may have no environment on its PATH. A rule with software of its own keeps the
    `python` of that. And every job knows its workflow, so that workflow/scripts/unlock.py can tell the orphans of a
    killed one.
    """
    here = shlex.quote("".join(os.environ.get(name, "") for name in OWN_SOFTWARE))
    there = "".join(f"${{{name}:-}}" for name in OWN_SOFTWARE)
    root, python = shlex.quote(str(workflow.basedir)), shlex.quote(sys.executable)
    ours = f'export PYTHONPATH={root}"${{PYTHONPATH:+:$PYTHONPATH}}"; python() {{ {python} "$@"; }};'
    return f'set -euo pipefail; export ACDC_WORKFLOW_PID={os.getpid()}; if [ "{there}" = {here} ]; then {ours} fi; '


shell.prefix(start_of_jobs().replace("{", "{{").replace("}", "}}"))  # Snakemake formats it

try:
    for file in map(Path, workflow.configfiles):
        check_keys(file)
    STUDY = Study(config, Path(workflow.basedir))
except InputError as error:
    raise WorkflowError(f"config: {error}") from None
config.update(STUDY.config)  # with every default: rules and captions read it

# Patterns of paths. The study's name is in them: what begins alike is compared with every path that a rule asks for.
DATA, RESULTS, FIGURES = (f"{top}/{STUDY.name}" for top in ("data", "results", "figures"))
LOGS, BENCHMARKS = f"{RESULTS}/logs", f"{RESULTS}/benchmarks"
MODEL = f"{DATA}/models/{{model}}"
DATASET = {split: f"{DATA}/datasets/{{model}}/{{task}}/{split}.safetensors" for split in SPLITS}
LOGITS = {split: f"{DATA}/datasets/{{model}}/{{task}}/{split}.logits.safetensors" for split in SPLITS}
TASK = "{model}/{task}"
SEARCH = f"{TASK}/{{metric}}/{{ablation}}"
ASSETS = "acdc/assets"
FIRST = 10**6  # the priority of what everything waits for
LABELS: dict[str, dict[str, str]] = {}  # what rules that are made in loops are about, by name: they have no wildcards
CONSOLE = console.install(workflow, LABELS, places=[FIGURES, f"{RESULTS}/evaluation.csv"])


wildcard_constraints:
    study=re.escape(STUDY.name),
    model="|".join(map(re.escape, STUDY.models)),
    task="|".join(re.escape(task["name"]) for task in STUDY.tasks),
    metric="|".join(METRICS),
    ablation="|".join(ABLATIONS),
    method="|".join(METHODS),


onstart:
    # Snakemake 9.27 limits how many jobs start in a second. For that it looks at all waiting jobs again a second after
    # each look, and a chain of looks begins with every job that ends: a sixth of a core. None is its API's default.
    workflow.scheduler.job_rate_limiter = None


onsuccess:
    if CONSOLE:
        CONSOLE.end()


onerror:
    if CONSOLE:
        CONSOLE.end()


def model_identity(w):
    return STUDY.model_identity(w.model)


def code(stage):
    """What a job's code is, as a param: Snakemake reruns the job when it changes."""
    return lambda w: STUDY.code(stage, w)


def gpus(w):
    """1 where jobs run on a GPU: it is not shared. Without one they run side by side."""
    return int(config["device"].startswith("cuda") or (config["device"] == "auto" and has_gpu()))


@functools.cache
def has_gpu():
    """Asked once, not for every job."""
    command = ["nvidia-smi", "-L"]
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


NEEDS = Needs(STUDY, on_gpu=bool(gpus(None)))


def mem_mb(need, batch=None):
    """The memory of a job as a resource. It grows with the attempts. A batch stands for the wildcards of its rule."""
    return lambda w, input, attempt: need(batch or w, input).mem_mb(attempt)


def runtime(need, batch=None):
    """The minutes of a job as a resource, likewise."""
    return lambda w, input, attempt: need(batch or w, input).runtime(attempt, config["max_minutes"])


ENGINE = (
    "--model {input.model:q} --dataset {input.dataset:q} --logits {input.logits:q} {params.engine:q}"
    " --memory-gib {resources.memory_gib} --threads {threads}"
)
"""The flags of commands that make an engine."""


def figure(path, caption, category="Figures", **labels):
    """A figure's files of all formats, the one that a browser shows best for the report, with its caption there."""
    formats = config["figures"]["formats"]
    shown = next(format for format in ("svg", "png", "pdf") if format in formats)
    in_report = report(f"{path}.{shown}", caption=f"../report/{caption}.rst", category=category, labels=labels)
    return [in_report, *(f"{path}.{format}" for format in formats if format != shown)]
