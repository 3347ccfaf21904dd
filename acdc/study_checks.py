"""Check that the entries of a study's config fit together, and to what there is: models, modules and files.

The schema has checked every entry by itself (``acdc.config``). Nothing here imports torch or runs a task's code, so
that a dry run refuses what a job would.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc import declared, fingerprint
from acdc.catalogue import METHODS, METRICS, OF_TEXT, assigned, check_suits, methods
from acdc.config import PROMPT_KEYS
from acdc.declared import Declaration
from acdc.errors import InputError
from acdc.models.files import check_weights
from acdc.prompt_files import Prompt, check_count, check_held_out, check_kind, distinct_prompts, held_out

if TYPE_CHECKING:
    from acdc.study import Batch, Study

OF_PROMPTS = ("test_prompts", "columns", "unfit", "answers")
"""Keys of tasks whose prompts are files."""


def check(study: Study) -> None:
    """Check that the entries of a study's config fit together; raise InputError if not."""
    for kind in ("models", "tasks"):
        names = [(entry["name"], entry.get("model")) for entry in study.config[kind]]
        twice = [name for name, model in names if names.count((name, model)) > 1]
        if twice:
            raise InputError(f"{kind} has {twice[0]} twice: every name may stand once")
    for entry in study.models.values():
        check_model(study, entry)
    for task in study.tasks:
        check_task(study, task)
        for entry in task["searches"]:
            check_search(task, entry)
        check_declared(study, task)
    check_significance(study)
    check_settings(study)
    check_rules(study)


def check_significance(study: Study) -> None:
    """Check that there are circuits to test if the config asks for tests; raise InputError if not."""
    if "significance" in study.config and not study.significances():
        names = ", ".join(study.config["significance"]["methods"])
        raise InputError(f"significance is asked of the methods {names}, and no search has one of them: name others")


def check_model(study: Study, entry: Mapping[str, Any]) -> None:
    name = entry["name"]
    study.wheels(name)
    if "folder" in entry:
        folder = Path(entry["folder"])
        if not folder.is_dir():
            raise InputError(f"model {name}: folder {folder} does not exist")
        if not any(folder.glob("*.pth")):  # a model of TransformerLens 1.x has its weights in one
            try:
                check_weights(folder, {path.name for path in folder.iterdir()})
            except InputError as error:
                raise InputError(f"model {name}: {error}") from None
    if entry.get("shortformer") and entry.get("processed"):
        raise InputError(
            f"model {name}: processed changes what a shortformer computes, whose positions go past LayerNorm:"
            " leave it out"
        )
    if "shortformer" in entry and not {"hub", "folder"} & set(entry):
        raise InputError(f"model {name}: shortformer is for models of TransformerLens 1.x, from hub or folder")
    if "build" in entry:
        check_builder(name, study.root / f"acdc/models/toy/{entry['build']}.py")
    if "reset" in entry:
        check_reset(study, entry)


def check_rules(study: Study) -> None:
    """Check that names differ in letters or digits, since names of rules have no signs; raise InputError if not."""
    first: dict[str, Batch] = {}
    for batch in study.batches:
        other = first.setdefault(batch.rule, batch).search.labels
        for kind in ("model", "task"):
            if other[kind] != batch.search.labels[kind]:
                names = f"{other[kind]} and {batch.search.labels[kind]}"
                raise InputError(f"{kind}s {names} differ in signs alone: let a letter or a digit tell them apart")


def check_builder(name: str, module: Path) -> None:
    """Check that a model's builder is a module with a function ``build``; raise InputError if not."""
    where = f"acdc/models/toy/{module.name}"
    if not module.exists():
        raise InputError(f"model {name}: nothing builds it, there is no module {where}")
    if "build" not in assigned(module):
        raise InputError(f"model {name}: nothing builds it, {where} has no build")


def check_reset(study: Study, entry: Mapping[str, Any]) -> None:
    name, trained = entry["name"], entry["reset"]
    if trained not in study.models:
        raise InputError(f"model {name}: it resets {trained}, which is not among models")
    if "reset" in study.models[trained]:
        raise InputError(f"model {name}: it resets {trained}, which is itself a reset network")
    for key in ("shortformer", "processed"):
        if key in entry:
            raise InputError(f"model {name}: {key} is for {trained}, a reset network has it from there")


def check_task(study: Study, task: Mapping[str, Any]) -> None:
    name = task["name"]
    if task["model"] not in study.models:
        raise InputError(f"task {name}: model {task['model']} is not among models")
    if "module" in task and not Path(task["module"]).is_file():
        raise InputError(f"task {name}: its module {task['module']} does not exist: give the path of a Python file")
    if "prompts" not in task and (extra := [key for key in OF_PROMPTS if key in task]):
        raise InputError(f"task {name}: {extra[0]} is of a file of prompts: give the file with the key prompts")
    if "prompts" in task:
        check_prompts(study, task)
    if not study.task_sources(name) and not (study.root / study.task_rule(name)).exists():
        raise InputError(
            f"unknown task {name}: there is neither a module acdc/tasks/{name}.py nor workflow/extensions/{name}.py"
            f" nor a rule file {study.task_rule(name)}: give its file with the key module, or its prompts' with the key"
            " prompts"
        )
    metrics = [entry["metric"] for entry in task["searches"]]
    if len(set(metrics)) < len(metrics):
        raise InputError(f"task {name}: a metric has two entries under searches, put all its values into one")
    drawable = {v for entry in task["searches"] for m in methods("search") for v in entry.get(m.values_key, [])}
    for value in task.get("draw", []):
        if value not in drawable:
            raise InputError(f"task {name}: draw has {value}, which is none of the values that its searches run with")


def check_settings(study: Study) -> None:
    """Check that every setting of a method has an effect; raise InputError if not."""
    for task in study.tasks:
        for name, own in task["methods"].items():
            if sentence := METHODS[name].idle(own, study.settings(task, name)):
                raise InputError(f"task {task['name']}: {sentence}")
    for name, own in study.config["methods"].items():
        sentences = [METHODS[name].idle(own, study.settings(task, name)) for task in study.tasks]
        if all(sentences):
            raise InputError(f"key 'methods': {sentences[0]}")


def check_declared(study: Study, task: Mapping[str, Any]) -> None:
    """Check that a task has the metrics, options and prompts that the config asks for; raise InputError if not."""
    name, trained = task["name"], study.trained(task["model"])
    sources = study.task_sources(name)
    # A task of prompts alone, or of a rule, has the metrics of text and nothing else.
    says = Declaration(sources[0]) if sources and "prompts" not in task else None
    own = says.metrics if says else OF_TEXT
    if own is not None:
        added = [metric.name for metric in METRICS.values() if name in metric.tasks]
        declared.check_metrics(name, dict.fromkeys([*own, *added]), [entry["metric"] for entry in task["searches"]])
    if says is None:
        return
    if says.options is not None:
        declared.check_options(name, says.options, task["options"])
    if task["known_circuit"] and says.known is not None:
        declared.check_known(name, says.known, trained)
    if says.made_for and study.models[trained].get("build") not in says.made_for:
        raise InputError(
            f"task {name} is made for a model with build: {says.made_for[0]}, and {task['model']} is none:"
            " choose another task for it"
        )
    n = task["n_prompts"] + task["n_test_prompts"]
    if says.n_distinct is not None and n > says.n_distinct:
        raise InputError(
            f"task {name} has {says.n_distinct} distinct prompts, and n_prompts {task['n_prompts']} and n_test_prompts"
            f" {task['n_test_prompts']} ask for {n}: ask for fewer, or set n_test_prompts to 0 to test on the same ones"
        )


def check_prompts(study: Study, task: Mapping[str, Any]) -> None:
    """Check that a task of files of prompts is nothing else, and that the files suffice; raise InputError if not."""
    name, path = task["name"], path_of(task["prompts"])
    others = [f"acdc/tasks/{name}.py", str(fingerprint.extension_path(name)), str(study.task_rule(name))]
    if taken := [other for other in others if (study.root / other).exists()]:
        raise InputError(f"task {name}: its name is that of {taken[0]}: give the task of {path} another name")
    if extra := [key for key in ("module", "known_circuit", "options") if task.get(key)]:
        raise InputError(f"task {name}: {extra[0]} is for tasks in Python, and with prompts it is a file: leave it out")
    if "test_prompts" in task and not task["n_test_prompts"]:
        raise InputError(
            f"task {name}: n_test_prompts is 0, which tests on the prompts for discovery: leave out test_prompts, or "
            "say how many to take of it"
        )
    try:
        check_files(task)
    except InputError as error:
        raise InputError(f"task {name}: {error}") from None


def path_of(given: str | Mapping[str, str]) -> Path:
    """Return the path of a file of prompts; for a file on the hub, the path in its repository."""
    return Path(given["file"] if isinstance(given, Mapping) else given)


def check_files(task: Mapping[str, Any]) -> None:
    """Check that local files of prompts can be read and are long enough; raise InputError if not."""
    columns, skip_empty = task.get("columns"), task.get("unfit") == "leave_out"
    local = {key: not isinstance(task[key], Mapping) for key in PROMPT_KEYS if key in task}
    for key in local:
        check_kind(path_of(task[key]))
    rows: list[Prompt] = []
    if local["prompts"]:
        path = path_of(task["prompts"])
        rows = distinct_prompts(path, columns, skip_empty=skip_empty)
        check_count(rows, path, task["n_prompts"], 0 if "test_prompts" in task else task["n_test_prompts"])
    if local.get("test_prompts"):
        path = path_of(task["test_prompts"])
        check_held_out(held_out(rows, path, columns, skip_empty=skip_empty), path, task["n_test_prompts"])


def check_search(task: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    if entry["metric"] not in METRICS:
        known = ", ".join(METRICS)
        raise InputError(f"task {task['name']}: there is no metric {entry['metric']}: there are {known}")
    keys = [method.values_key for method in methods("search")]
    if not entry["scores"] and not any(key in entry for key in keys):
        raise InputError(
            f"task {task['name']}: the search by {entry['metric']} has no method: give it {', '.join(keys)} or scores"
        )
    try:
        for method in methods("search"):
            for value in entry.get(method.values_key, []):
                method.check_value(value)
        for name in entry["scores"]:
            check_suits(METHODS[name], METRICS[entry["metric"]])
    except InputError as error:
        raise InputError(f"task {task['name']}: {error}") from None
