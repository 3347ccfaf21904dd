"""The config, checked before anything runs, and every function that turns it into paths.

Requires: nothing that is generated. Never imports torch or acdc: a dry run stays quick.
Gives: `task_of` and `model_of` by wildcards, and the lists of files that the other stages ask for.
"""

import collections
import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import yaml
from snakemake.exceptions import WorkflowError

# Every job knows its workflow, so that workflow/scripts/unlock.py can tell the orphans of a killed one.
shell.prefix(f"set -euo pipefail; export ACDC_WORKFLOW_PID={os.getpid()}; ")

RESULTS = "results/{study}/{model}/{task}"
FOUND = f"{RESULTS}/{{metric}}/{{ablation}}/{{method}}"
FIGURES = "figures/{study}/{model}/{task}"
SPLITS = ("discovery", "test")
SEARCHES = ("acdc", "sp")
SCORES = ("eap", "eap_ig", "hisp", "random")
DISTANCES = ("kl_divergence", "l2")
TABLE_FORMATS = ("csv", "md", "tex")
COSTS = ("seconds", "evaluations")
ROC_LEVELS = ("edge", "node", "original_node")


wildcard_constraints:
    study=r"[\w.-]+",
    model=r"[\w.-]+",
    task=r"[\w.-]+",
    metric=r"\w+",
    ablation="corrupted|corrupted_permuted|zero|mean",
    threshold=r"[\d.e-]+",
    level=r"\w+",
    method="|".join([*SEARCHES, *SCORES]),


def refuse(sentence):
    """Stop before the DAG is made."""
    raise WorkflowError(f"config: {sentence}")


def check_config():
    schema = yaml.safe_load(Path(workflow.basedir, "workflow/schemas/config.schema.yaml").read_text())
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if errors:
        error = jsonschema.exceptions.best_match(errors)
        refuse(f"{describe_key(error.absolute_path)} is wrong: {explain(error)}")
    for kind in ("models", "tasks"):
        names = [(entry["name"], entry.get("model")) for entry in config[kind]]
        twice = [name for name, model in names if names.count((name, model)) > 1]
        if twice:
            refuse(f"{kind} has {twice[0]} twice: every name may stand once")
    for entry in config["models"]:
        check_model(entry)
    for entry in config["tasks"]:
        check_task(entry)


def describe_key(path):
    """Such as tasks[1] (ioi).thresholds[0]."""
    text, value = "", config
    for part in path:
        value = value[part]
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        if isinstance(part, int) and isinstance(value, dict) and "name" in value:
            text += f" ({value['name']})"
    return f"key '{text}'" if text else "the top level"


def explain(error):
    """The validator's message, or what it means where that is a pattern."""
    if error.validator == "pattern" or (error.validator == "type" and "pattern" in error.schema):
        return f"{error.instance!r} is not {error.schema.get('description', 'of the form ' + error.schema['pattern'])}"
    if error.validator == "oneOf":
        return "a model has one source: wheel (with file and sha256), hub, folder, build or reset (with seed)"
    if error.validator == "dependentRequired":
        return "file and sha256 go with wheel, revision goes with hub, seed and head_outputs go with reset"
    return error.message


def check_model(entry):
    if "folder" in entry:
        folder = Path(entry["folder"])
        if not folder.is_dir():
            refuse(f"model {entry['name']}: folder {folder} does not exist")
        if not [*folder.glob("*.safetensors"), *folder.glob("*.pth")]:
            refuse(f"model {entry['name']}: folder {folder} has no weights, it needs *.safetensors or *.pth")
    if "build" in entry and not Path(workflow.basedir, f"acdc/models/{entry['build']}.py").exists():
        refuse(f"model {entry['name']}: nothing builds it, there is no module acdc/models/{entry['build']}.py")
    if "reset" in entry:
        check_reset(entry)


def check_reset(entry):
    name, trained = entry["name"], entry["reset"]
    of_trained = {model["name"]: model for model in config["models"]}.get(trained)
    if not of_trained:
        refuse(f"model {name}: it resets {trained}, which is not among models")
    if "reset" in of_trained:
        refuse(f"model {name}: it resets {trained}, which is itself a reset network")
    for key in ("shortformer", "processed"):
        if key in entry:
            refuse(f"model {name}: {key} is for {trained}, a reset network has it from there")


def check_task(entry):
    name = entry["name"]
    if entry["model"] not in {model["name"] for model in config["models"]}:
        refuse(f"task {name}: model {entry['model']} is not among models")
    if not any(Path(path).exists() for path in (task_module(name), task_rules(name))):
        refuse(f"unknown task {name}: there is neither a module {task_module(name)} nor a rule file {task_rules(name)}")
    for search in entry["searches"]:
        for method in {"eap", "hisp"} & set(search.get("scores", [])):
            if search["metric"] in DISTANCES:
                refuse(
                    f"task {name}: {method} by {search['metric']} scores everything 0, for its gradient is zero where"
                    " nothing is removed: use another metric, or eap_ig"
                )
        for threshold in entry.get("draw", []):
            if threshold not in search["thresholds"]:
                refuse(f"task {name}: draw has {threshold}, which is none of the thresholds of {search['metric']}")
    metrics = [search["metric"] for search in entry["searches"]]
    if len(set(metrics)) < len(metrics):
        refuse(f"task {name}: a metric has two entries under searches, put all its thresholds into one")


def task_module(name):
    return os.path.relpath(Path(workflow.basedir, "acdc/tasks", f"{name}.py"))


def task_rules(name):
    """Where the rule is that makes a task's dataset, for those who prefer a rule to a module."""
    return os.path.relpath(Path(workflow.basedir, "workflow/rules/tasks", f"{name}.smk"))


def task_rule_files():
    """Rule files of the tasks that have one; ``include`` wants paths relative to the Snakefile."""
    names = dict.fromkeys(task["name"] for task in config["tasks"])
    return [task_rules(name) for name in names if Path(task_rules(name)).exists()]


def tasks_by_module():
    """A pattern of the tasks whose datasets the rule ``dataset`` makes."""
    names = {task["name"] for task in config["tasks"] if not Path(task_rules(task["name"])).exists()}
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


def task_of(wildcards):
    """The config entry of a task."""
    found = (t for t in config["tasks"] if (t["name"], t["model"]) == (wildcards.task, wildcards.model))
    return next(found)


def model_of(wildcards):
    """The config entry of a model."""
    return next(m for m in config["models"] if m["name"] == wildcards.model)


def model_inputs(wildcards):
    entry = model_of(wildcards)
    if "wheel" in entry:
        return {"wheel": f"data/{wildcards.study}/downloads/{wildcards.model}.whl"}
    if "reset" in entry:
        return {"reset": f"data/{wildcards.study}/models/{entry['reset']}"}
    return {"code": f"acdc/models/{entry['build']}.py"} if "build" in entry else {}


def model_source(wildcards):
    """The source as flags of `acdc model`. Snakemake compares no params that are made from inputs."""
    entry = model_of(wildcards)
    flags = {key: entry[key] for key in ("file", "hub", "revision", "folder", "build", "seed") if key in entry}
    if "wheel" in entry or "reset" in entry:
        flags |= model_inputs(wildcards)
    switches = [f"--{key.replace('_', '-')}" for key in ("shortformer", "processed", "head_outputs") if entry.get(key)]
    return [*(part for key, value in flags.items() for part in (f"--{key}", str(value))), *switches]


def trained_model(wildcards):
    """The model whose circuits are known: of a reset network, the one that it was made of."""
    return model_of(wildcards).get("reset", wildcards.model)


def search_of(wildcards):
    """The config entry of a task's search with one metric."""
    return next(search for search in task_of(wildcards)["searches"] if search["metric"] == wildcards.metric)


def thresholds_of(search, method):
    """What a method is run with anew, as in the config: thresholds of ACDC, regularisations of SP."""
    return search["thresholds" if method == "acdc" else "regularisations"]


def found_circuits(wildcards):
    """Circuits of all thresholds of one search, or the file of those that one method's scores give."""
    labels = dict(wildcards.items())
    if wildcards.method in SEARCHES:
        thresholds = thresholds_of(search_of(wildcards), wildcards.method)
        return expand(f"{FOUND}/{{threshold}}/circuit.json", **labels, threshold=thresholds)
    return f"{FOUND}/circuits.json".format(**labels)


def found_traces(wildcards):
    """Traces beside the circuits of one search by a method that is run anew for every threshold."""
    return [circuit.replace("circuit.json", "trace.csv") for circuit in found_circuits(wildcards)]


def pareto_tables(wildcards):
    """Evaluations of a task under one ablation: the controls, and the search with each metric."""
    labels = dict(wildcards.items())
    return [
        f"{RESULTS}/controls_{{ablation}}.csv".format(**labels),
        *(
            f"{FOUND}/evaluation.csv".format(**labels, metric=search["metric"], method=method)
            for search in task_of(wildcards)["searches"]
            if wildcards.ablation in ablations_of(task_of(wildcards), search)
            for method in methods_of(search)
            if method != "random"  # the controls have it
        ),
    ]


def ablations_of(task, search):
    """A search's own ablations, or its task's."""
    return search.get("ablations", task["ablations"])


def methods_of(search):
    """ACDC, SP where it is asked for, and the methods that score all edges at once."""
    return [*searches_of(search), *search.get("scores", [])]


def searches_of(search):
    """The methods that are run anew for every threshold."""
    return [method for method in SEARCHES if method == "acdc" or "regularisations" in search]


def in_one_job(task):
    """All thresholds of a search are one job."""
    return task.get("one_job", False)


CircuitRule = collections.namedtuple("CircuitRule", "name task model metric method thresholds label")


def circuit_rules():
    """The rule `circuit`, whose jobs have one threshold each, and one rule for every search that is one job.

    What wildcards they have is patterns.
    """
    many = "|".join(sorted({re.escape(task["name"]) for task in config["tasks"] if not in_one_job(task)}))
    methods = "|".join(SEARCHES)
    yield CircuitRule("circuit", many or "(?!)", r"[\w.-]+", r"\w+", methods, ["{threshold}"], "{threshold}")
    for task in filter(in_one_job, config["tasks"]):
        for search in task["searches"]:
            for method in searches_of(search):
                where = (task["name"], task["model"], search["metric"], method)
                name = re.sub(r"\W", "_", "_".join(("circuits", *where)))
                yield CircuitRule(name, *map(re.escape, where), thresholds_of(search, method), "all")


def method_flags(wildcards):
    """Of a method, as the package calls them: the threshold of this job or all of its search, and the rest."""
    if wildcards.method in SCORES:
        scores = config["scores"]
        return ["--ig-steps", str(scores["steps"]), "--fractions", *scores["fractions"]]
    own = getattr(wildcards, "threshold", None)
    thresholds = [own] if own else thresholds_of(search_of(wildcards), wildcards.method)
    if wildcards.method == "acdc":
        settings = {"head_order": task_of(wildcards).get("head_order", "descending")}
    else:
        settings = config["sp"]
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return [*flags, "--thresholds", *thresholds]


def benchmarks_of_searches():
    """Seconds and memory of every search by every method; `all` stands for the circuits of one job."""
    pattern = "results/{study}/benchmarks/{{rule}}/{model}/{task}/{metric}/{ablation}/{{method}}/{{threshold}}.tsv"
    files = []
    for task, labels, search in searches():
        path = pattern.format(**labels)
        for method in searches_of(search):
            thresholds = "all" if in_one_job(task) else thresholds_of(search, method)
            files += expand(path, rule="circuit", method=method, threshold=thresholds)
        files += expand(path, rule="score", method=search.get("scores", []), threshold="all")
    return files


def split_embed(wildcards):
    return "--split-embed" if task_of(wildcards).get("split_embed") else ""


def precision(wildcards):
    return task_of(wildcards).get("precision", "float32")


def gpus(wildcards):
    """1 where jobs run on a GPU: it is not shared. Without one they run side by side."""
    return int(config["device"] == "cuda" or (config["device"] == "auto" and has_gpu()))


@functools.cache
def has_gpu():
    """Asked once, not for every job."""
    return (
        bool(shutil.which("nvidia-smi")) and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    )


def searches():
    """Every search of the study: a task with its model, metric and ablation."""
    for task in config["tasks"]:
        for search in task["searches"]:
            for ablation in ablations_of(task, search):
                labels = {"study": config["study"], "model": task["model"], "task": task["name"]}
                yield task, {**labels, "metric": search["metric"], "ablation": ablation}, search


def each_method(pattern, *, known_only=False, resampled_only=False):
    """Files of all searches by every method; of tasks with a known circuit or resampled searches only, where asked for."""
    files = [
        path
        for task, labels, search in searches()
        if task.get("known_circuit") or not known_only
        if "resamples" in search or not resampled_only
        for method in methods_of(search)
        if method != "random" or not resampled_only  # it has no prompts
        for path in expand(pattern, **labels, method=method)
    ]
    return list(dict.fromkeys(files))


def circuits_of_study():
    """Every file of found circuits."""
    files = []
    for task, labels, search in searches():
        for method in searches_of(search):
            found = f"{FOUND}/{{threshold}}/circuit.json"
            files += expand(found, **labels, method=method, threshold=thresholds_of(search, method))
        files += expand(f"{FOUND}/circuits.json", **labels, method=search.get("scores", []))
    return files


def each_search(pattern, *, known_only=False, drawn_only=False):
    """Files of all searches; of tasks with a known circuit only, or of thresholds to draw, where asked for."""
    files = [
        path
        for task, labels, search in searches()
        if task.get("known_circuit") or not known_only
        for path in expand(pattern, **labels, threshold=drawn(task, search) if drawn_only else search["thresholds"])
    ]
    return list(dict.fromkeys(files))


def drawn(task, search):
    """The thresholds whose circuits are drawn."""
    return task.get("draw", search["thresholds"])


def tables_of_methods(wildcards):
    """What the table of all methods is joined from."""
    names = ["faithfulness", "timing"] + ["auc"] * is_known()
    return {name: f"results/{wildcards.study}/{name}.csv" for name in names}


def is_known():
    """Some task of the study has a known circuit."""
    return any(task.get("known_circuit") for task in config["tasks"])


def known_ablations():
    """Of the searches whose circuits are known."""
    return list(dict.fromkeys(labels["ablation"] for task, labels, _ in searches() if task.get("known_circuit")))


def study_tables():
    names = ["behaviour", "evaluation", "faithfulness", "timing", "methods"]
    if is_known():
        names += ["recovery", "auc"]
    if each_method("{task}", resampled_only=True):
        names.append("stability")
    files = [f"results/{config['study']}/{name}.csv" for name in names]
    if is_known():
        pattern = "results/{study}/auc_{ablation}.{format}"
        files += expand(pattern, study=config["study"], ablation=known_ablations(), format=TABLE_FORMATS)
    return files


def report_tables():
    """Names of the study's tables, which the report shows."""
    return [Path(file).stem for file in study_tables() if file.endswith(".csv")]


def has_reset_circuits():
    """Some search with a known circuit is done on a reset network and on its trained model."""
    trained = {model["name"]: model.get("reset") for model in config["models"]}
    known = [labels for task, labels, _ in searches() if task.get("known_circuit")]
    return any({**labels, "model": trained[labels["model"]]} in known for labels in known)


def figure(path, caption, category="Figures", **labels):
    """A figure's files of all formats, the one that a browser shows best for the report, with its caption there."""
    formats = config["figures"]["formats"]
    shown = next(format for format in ("svg", "png", "pdf") if format in formats)
    in_report = report(f"{path}.{shown}", caption=f"../report/{caption}.rst", category=category, labels=labels)
    return [in_report, *(f"{path}.{format}" for format in formats if format != shown)]


def study_pages():
    """An interactive page for every search whose circuits are drawn."""
    pattern = f"{FIGURES}/circuit_{{metric}}_{{ablation}}_acdc.html"
    pages = [pattern.format(**labels) for task, labels, search in searches() if drawn(task, search)]
    return [*pages, *expand("figures/{study}/tables/{table}.html", study=config["study"], table=report_tables())]


def study_figures():
    formats = config["figures"]["formats"]
    figures = each_search(f"{FIGURES}/pareto_{{ablation}}")
    figures += each_search(f"{FIGURES}/circuit_{{metric}}_{{ablation}}_{{threshold}}", drawn_only=True)
    if any(len({*methods_of(search)} - {"random"}) >= 3 for _, _, search in searches()):
        figures.append(f"figures/{config['study']}/faithfulness")
        figures += expand("figures/{study}/cost_{cost}", study=config["study"], cost=COSTS)
    if has_reset_circuits():
        figures.append(f"figures/{config['study']}/trained_and_reset")
    if is_known():
        figures += expand("figures/{study}/roc_{level}s", study=config["study"], level=ROC_LEVELS)
    return expand("{figure}.{format}", figure=figures, format=formats)


check_config()
