"""Turn a config into a checked study: its searches, its files, and the flags of every job.

Pure Python without torch and Snakemake, so that rules are a thin shell over it and tests need neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from acdc import fingerprint
from acdc.catalogue import ABLATIONS, COMPARED, LEVELS, METHODS, METRICS, Method, methods
from acdc.config import PROMPT_KEYS, completed
from acdc.models.files import trained_weights
from acdc.models.pinned import Wheel, wheels
from acdc.study_checks import check

PLACE = "{study}/{model}/{task}"
"""The part of every path that names a task on a model."""
SEARCH = f"{PLACE}/{{metric}}/{{ablation}}"
FOUND = f"results/{SEARCH}/{{method}}"
"""The folder of what one method found by one search."""
FIGURES = f"figures/{PLACE}"
DATASETS = "data/{study}/datasets/{model}/{task}"
PROMPTS = "data/{study}/{key}/{model}/{task}"
"""A file of prompts from the hub, less the end of its name; the key is that of the config."""
SPLITS = ("discovery", "test")
TABLE_FORMATS = ("csv", "md", "tex")
COSTS = ("seconds", "evaluations")
MODEL_FLAGS = ("file", "hub", "revision", "folder", "build", "seed")
MODEL_SWITCHES = ("shortformer", "processed", "head_outputs")


@dataclass(frozen=True)
class Search:
    """Describe a search: a task on a model, minimising a metric under an ablation, by one or more methods.

    Attributes:
        study: the study's name.
        task, entry: the config's entries of the task and of its search.
        ablation: the ablation.
        is_of_large_model: whether its model is a real one, not built for tests and controls.
    """

    study: str
    task: Mapping[str, Any]
    entry: Mapping[str, Any]
    ablation: str
    is_of_large_model: bool

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that identify the search, which are the wildcards of its paths."""
        names = {"study": self.study, "model": self.task["model"], "task": self.task["name"]}
        return {**names, "metric": self.entry["metric"], "ablation": self.ablation}

    @property
    def methods(self) -> list[Method]:
        """Return the methods of the search: those that run for every value, then those that score once."""
        run = [method for method in methods("search") if method.values_key in self.entry]
        return [*run, *(METHODS[name] for name in self.entry["scores"])]

    def values(self, method: Method) -> list[str]:
        """Return the values that a method runs for, as the config writes them; none for a method that scores once."""
        return self.entry[method.values_key] if method.kind == "search" else []

    @property
    def is_known(self) -> bool:
        """Return whether there is a known circuit to compare with."""
        return self.task["known_circuit"]

    def drawn(self, method: Method) -> list[str]:
        """Return the values whose circuits are drawn: those that the task lists, or all."""
        values = self.values(method)
        return [value for value in values if value in self.task.get("draw", values)] if method.traces_edges else []

    @property
    def wildcards(self) -> SimpleNamespace:
        """Return the labels as the wildcards of a job, for a rule of this search alone."""
        return SimpleNamespace(**self.labels)

    def rule(self, *parts: str) -> str:
        """Return the name of a rule of this search alone."""
        labels = (self.labels[key] for key in ("task", "model", "metric", "ablation"))
        return re.sub(r"\W+", "_", "_".join((parts[0], *labels, *parts[1:])))

    def batches(self) -> Iterator[Batch]:
        """Yield the jobs that find the circuits: one, or as many as ``values_per_job`` asks for.

        With n jobs, a job has every n-th of a method's values, so that each has some of the slow low thresholds.
        """
        most = self.entry.get("values_per_job")
        if most is None:
            yield Batch(self, "all", {method.name: self.values(method) for method in self.methods})
            return
        for method in (method for method in self.methods if method.kind == "search"):
            values = self.values(method)
            n = -(-len(values) // most)
            for i in range(n):
                yield Batch(self, f"{method.name}_{i + 1}", {method.name: values[i::n]})
        if self.entry["scores"]:
            yield Batch(self, "scores", {name: [] for name in self.entry["scores"]})


@dataclass(frozen=True)
class Batch:
    """Describe the methods and values of one job.

    Attributes:
        search: the search that the job is a part of.
        label: the name of the job among those of the search.
        values: the values that each method runs for; none for a method that scores.
    """

    search: Search
    label: str
    values: Mapping[str, list[str]]

    @property
    def rule(self) -> str:
        """Return the name of the job's rule."""
        return self.search.rule("circuits", *([] if self.label == "all" else [self.label]))

    @property
    def flags(self) -> list[str]:
        """Return the methods and their values as the command ``circuits`` takes them."""
        return [f"{name}={','.join(values)}" if values else name for name, values in self.values.items()]

    @property
    def outputs(self) -> list[str]:
        """Return the job's files of circuits, traces and scores."""
        return [f"{self.folder}/{path}" for name in self.values for path in self.files(METHODS[name])]

    @property
    def folder(self) -> str:
        """Return the folder of the search."""
        return f"results/{SEARCH}".format(**self.search.labels)

    def files(self, method: Method) -> list[str]:
        """Return the files of a method, below the search's folder."""
        if method.kind == "score":
            return [f"{method.name}/circuits.json", f"{method.name}/scores.csv"]
        names = ("circuit.json", "trace.csv", *(["nodes.csv"] if method.traces_edges else []))
        return [f"{method.name}/{value}/{name}" for value in self.values[method.name] for name in names]

    @property
    def timing(self) -> str:
        """Return the file in which the job says how long its searches took."""
        return f"{self.folder}/timing/{self.label}.csv"

    @property
    def work(self) -> tuple[bool, bool, int, float]:
        """Return a key that sorts jobs by their expected duration, shorter jobs first.

        The key uses only the config: models that are built for tests are small, ACDC takes longer than other methods,
        more prompts take longer, and so do low thresholds.
        """
        slow = [float(v) for name, values in self.values.items() if METHODS[name].traces_edges for v in values]
        prompts = self.search.task["n_prompts"]
        return (self.search.is_of_large_model, bool(slow), prompts, -min(slow, default=0.0))


class Study:
    """Hold a checked config, with every default filled in, and give its searches and files.

    Args:
        config: the config, as Snakemake merged it.
        root: the folder of the repository, which has modules and rules.

    Raises:
        InputError: the config is wrong; one sentence names the key and the remedy.
    """

    def __init__(self, config: Mapping[str, Any], root: Path) -> None:
        self.root = root
        self.config = completed(config, root)
        self.name: str = self.config["study"]
        check(self)

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.config["models"]}

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return self.config["tasks"]

    @cached_property
    def searches(self) -> list[Search]:
        return [
            Search(self.name, task, entry, ablation, self.is_large(task["model"]))
            for task in self.tasks
            for entry in task["searches"]
            for ablation in entry.get("ablations", task["ablations"])
        ]

    def search(self, w: Any) -> Search:
        """Return the search of a job, given the job's wildcards model, task, metric and ablation."""
        key = (w.model, w.task, w.metric, w.ablation)
        return next(s for s in self.searches if tuple(s.labels[name] for name in s.labels if name != "study") == key)

    def task(self, w: Any) -> dict[str, Any]:
        """Return the config's entry of a job's task, given the job's wildcards model and task."""
        return next(task for task in self.tasks if (task["model"], task["name"]) == (w.model, w.task))

    # Models.

    def trained(self, model: str) -> str:
        """Return the model whose circuits are known: for a reset network, the model that it was made from."""
        return self.models[model].get("reset", model)

    def is_large(self, model: str) -> bool:
        """Return whether a model is a real one, not built for tests and controls."""
        return "build" not in self.models[self.trained(model)]

    def wheels(self, model: str) -> list[Wheel]:
        """Return the wheels that a model comes in; none for a model from elsewhere."""
        entry = self.models[model]
        return wheels(model, entry) if "wheel" in entry else []

    def model_inputs(self, w: Any) -> dict[str, Any]:
        """Return the files that a model is made from."""
        parts, entry = range(len(self.wheels(w.model))), self.models[w.model]
        if parts:
            return {"wheel": [f"data/{self.name}/downloads/{w.model}/{part + 1}.whl" for part in parts]}
        return {"reset": f"data/{self.name}/models/{entry['reset']}"} if "reset" in entry else {}

    def model_flags(self, w: Any) -> list[str]:
        """Return the source of a model as flags of the command ``model``."""
        entry = self.models[w.model]
        flags = {key: entry[key] for key in MODEL_FLAGS if key in entry} | self.model_inputs(w)
        values = {key: value if isinstance(value, list) else [str(value)] for key, value in flags.items()}
        switches = [f"--{key.replace('_', '-')}" for key in MODEL_SWITCHES if entry.get(key)]
        return [*(part for key, several in values.items() for part in (f"--{key}", *several)), *switches]

    def model_identity(self, model: str) -> str:
        """Return a text that identifies a model's weights: its source with all pins, and the code that makes it."""
        entry = self.models[model]
        made_by = [
            "acdc.models.sources",
            "acdc.models.convert",
            *([f"acdc.models.toy.{entry['build']}"] if "build" in entry else []),
        ]
        trained = self.model_identity(entry["reset"]) if "reset" in entry else ""
        weights = trained_weights(entry.get("build", ""))
        shipped = fingerprint.of_file(weights) if weights.exists() else ""
        parts = (json.dumps(entry, sort_keys=True), fingerprint.code(*made_by), trained, shipped)
        return " ".join(part for part in parts if part)

    # What jobs are told.

    def method_flags(self, search: Search, values: Mapping[str, list[str]]) -> list[str]:
        """Return the settings of methods and the fractions of their circuits' sizes, as flags.

        Args:
            values: the values of each method, as in a batch.
        """
        given = {name: self.settings(search.task, name) for name in values}
        settings = [
            f"{name}.{setting.name}={own[setting.name]}"
            for name, own in given.items()
            for setting in METHODS[name].settings  # in one order, whatever the config's
            if setting.name in own
        ]
        scores = any(METHODS[name].kind == "score" for name in values)
        return [
            *(["--settings", *settings] if settings else []),
            *(["--fractions", *self.config["scores"]["fractions"]] if scores else []),
        ]

    def settings(self, task: Mapping[str, Any], method: str) -> dict[str, Any]:
        """Return the settings of a method: the config's, and the task's over them."""
        return self.config["methods"].get(method, {}) | task["methods"].get(method, {})

    @cached_property
    def batches(self) -> list[Batch]:
        """Return the jobs that find circuits, the longest first."""
        every = [batch for search in self.searches for batch in search.batches()]
        return sorted(every, key=lambda batch: batch.work, reverse=True)

    def drawings(self) -> list[tuple[Search, Method]]:
        """Return the searches and methods whose sweeps are drawn."""
        return [(search, method) for search in self.searches for method in search.methods if search.drawn(method)]

    def drawing(self, search: Search, method: Method) -> str:
        """Return the path of a sweep's drawings, without the value and the suffix."""
        return f"{FIGURES}/circuit_{{metric}}_{{ablation}}_{{method}}".format(**search.labels, method=method.name)

    def resampled(self, w: Any) -> Batch:
        """Return the job that a resampling repeats: one method of a search."""
        search = self.search(w)
        return Batch(search, w.method, {w.method: search.values(METHODS[w.method])})

    def engine_flags(self, w: Any) -> list[str]:
        """Return the flags of a job's task and model for commands that make an engine."""
        task, graph = self.task(w), self.graph_of_task(w)
        how = ["--device", self.config["device"], "--precision", task["precision"]]
        return ["--model-name", w.model, *self.task_flags(w), *graph, *how]

    def task_flags(self, w: Any) -> list[str]:
        """Return a task as flags: its name and, if it is neither in the package nor an extension, its file."""
        module = self.task(w).get("module")
        return ["--task", w.task, *(["--module", module] if module else [])]

    def prompt_files(self, w: Any) -> list[str]:
        """Return the files of prompts of a task; for prompts on the hub, the downloaded files."""
        return list(self.files_by_key(w).values())

    def files_by_key(self, w: Any) -> dict[str, str]:
        """Return a task's files of prompts, by the keys of the config."""
        given, files = self.task(w), {}
        for key in (key for key in PROMPT_KEYS if key in given):
            files[key] = given[key]
            if isinstance(given[key], Mapping):
                place = PROMPTS.format(study=self.name, key=key, model=w.model, task=w.task)
                files[key] = f"{place}{Path(given[key]['file']).suffix}"
        return files

    def hub_flags(self, w: Any) -> list[str]:
        """Return the place on the hub of a task's prompts, as flags of the command ``prompts``."""
        return [part for key, value in self.task(w)[w.key].items() for part in (f"--{key}", value)]

    def prompt_flags(self, w: Any) -> list[str]:
        """Return a task's files of prompts and its setting ``bos``, as flags of the command ``dataset``."""
        task, files = self.task(w), self.files_by_key(w)
        file = [part for key, path in files.items() for part in (f"--{key.replace('_', '-')}", path)]
        columns = ["--columns", json.dumps(task["columns"])] if "columns" in task else []
        how = [part for key in ("unfit", "answers") if key in task for part in (f"--{key}", task[key])]
        return [*file, *columns, *how, "--bos", str(task["bos"]).lower()]

    def code(self, stage: str, w: Any = None) -> str:
        """Return the fingerprint of the code that a stage runs.

        Args:
            stage: ``dataset``, ``behaviour``, ``evaluate`` (all that measures circuits), ``significance``, ``mib``,
                ``heads``, or a module that makes a table.
        """
        if stage == "dataset":
            return fingerprint.code(*self.task_sources(w.task))
        measuring = {
            "behaviour": ("acdc.analysis.evaluation", "acdc.models.programs"),
            "evaluate": ("acdc.analysis.evaluation", "acdc.analysis.recovery"),
            "significance": ("acdc.analysis.significance",),
            "mib": ("acdc.analysis.mib",),
            "heads": ("acdc.analysis.head_table",),
        }
        if stage in measuring:
            added = [metric.source for metric in METRICS.values() if w.task in metric.tasks]
            sources = dict.fromkeys(ABLATIONS[name].source for name in self.ablations(w))
            known = self.task_sources(w.task) if self.task(w)["known_circuit"] else []
            return fingerprint.code("acdc.engine.load", *measuring[stage], *sources, *added, *known)
        return fingerprint.code(stage)

    def code_of(self, batch: Batch) -> str:
        """Return the fingerprint of the code by which a batch's circuits are found."""
        labels = batch.search.labels
        codes = [fingerprint.of_search(name, labels["metric"], labels["ablation"]) for name in batch.values]
        return fingerprint.of_text(" ".join(codes))

    def ablations(self, w: Any) -> list[str]:
        """Return the ablation of a job, or all ablations of its task."""
        own = getattr(w, "ablation", None)
        return [own] if own else self.ablations_of(self.task(w))

    def ablations_of(self, task: Mapping[str, Any]) -> list[str]:
        """Return the ablations of a task's searches."""
        return list(dict.fromkeys(search.ablation for search in self.searches if search.task is task))

    # Where tasks are from.

    def task_sources(self, name: str) -> list[str | Path]:
        """Return the modules that make a task's prompts; none if a rule makes its dataset."""
        entries = [task for task in self.tasks if task["name"] == name]
        if any("prompts" in task for task in entries):
            return ["acdc.tasks"]
        files = [task["module"] for task in entries if "module" in task]
        if files:
            return [Path(file) for file in dict.fromkeys(files)]
        if (self.root / "acdc/tasks" / f"{name}.py").exists():
            return [f"acdc.tasks.{name}"]
        return [f"acdc_extension_{name}"] if fingerprint.extension_path(name).exists() else []

    def task_rule(self, name: str) -> Path:
        """Return the path of the rule that makes a task's dataset, which need not exist."""
        return Path("workflow/rules/tasks", f"{name}.smk")

    def task_rules(self) -> list[str]:
        """Return the rule files of the tasks that have one."""
        files = dict.fromkeys(self.task_rule(task["name"]) for task in self.tasks)
        return [str(file) for file in files if (self.root / file).exists()]

    def tasks_by_module(self) -> str:
        """Return a pattern that matches the tasks whose datasets the rule ``dataset`` makes."""
        names = {task["name"] for task in self.tasks if not (self.root / self.task_rule(task["name"])).exists()}
        return "|".join(map(re.escape, sorted(names))) or "(?!)"

    # Files of one search.

    def circuits(self, search: Search, method: Method) -> list[str]:
        """Return the files of circuits that a method finds by a search."""
        folder = FOUND.format(**search.labels, method=method.name)
        if method.kind == "score":
            return [f"{folder}/circuits.json"]
        return [f"{folder}/{value}/circuit.json" for value in search.values(method)]

    def traces(self, search: Search, method: Method, name: str) -> list[str]:
        """Return the files of a name, such as trace.csv, beside a search's circuits of one method."""
        return [path.replace("circuit.json", name) for path in self.circuits(search, method)]

    def found(self, w: Any) -> list[str]:
        """Return the files of all circuits of a job's search."""
        search = self.search(w)
        return [file for method in search.methods for file in self.circuits(search, method)]

    def graph_flags(self, w: Any) -> list[str]:
        """Return the flags of a task's graph and known circuit, so that ``dataset`` refuses what does not suit them."""
        return [*self.graph_of_task(w), *self.recovery_flags(w)]

    def graph_of_task(self, w: Any) -> list[str]:
        """Return the settings of a task's graph, as flags; none for the default graph."""
        task = self.task(w)
        split_embed = ["--split-embed"] if task["split_embed"] else []
        return split_embed + (["--kv-heads", task["kv_heads"]] if task["kv_heads"] != "grouped" else [])

    def recovery_flags(self, w: Any) -> list[str]:
        """Return the model whose circuit is known, as a flag; none if no circuit is known."""
        return ["--known-of", self.trained(w.model)] if self.task(w)["known_circuit"] else []

    def significance_flags(self) -> list[str]:
        """Return the number of random circuits for comparison, and their seed, as flags."""
        asked = self.config["significance"]
        return ["--random-circuits", str(asked["random_circuits"]), "--seed", str(asked["seed"])]

    def tested(self, search: Search) -> list[str]:
        """Return the files of a search's circuits to be tested; none if the config asks for no tests."""
        if "significance" not in self.config:
            return []
        asked = self.config["significance"].get("methods", METHODS)
        return [file for method in search.methods if method.name in asked for file in self.circuits(search, method)]

    def of_mib(self, search: Search) -> list[str]:
        """Return the files of a search's circuits for CPR and CMD; none if the config does not ask for them.

        MIB's graph has one input node, and MIB ranks edges. So circuits with split embeddings, or by scores of nodes,
        are left out.
        """
        if not self.config["mib"] or search.task["split_embed"]:
            return []
        by_edges = [method for method in search.methods if method.kind == "search" or method.keeps == "edges"]
        return [file for method in by_edges for file in self.circuits(search, method)]

    def described(self, search: Search) -> list[str]:
        """Return the files of a search's circuits whose heads are described: of methods that search, if there are any.

        Circuits by scores may have any size, and large ones have every head.
        """
        methods = [method for method in search.methods if method.kind == "search"] or search.methods
        return [file for method in methods for file in self.circuits(search, method)]

    def pareto_tables(self, task: Mapping[str, Any]) -> list[str]:
        """Return the tables of evaluation of a task's circuits: of its controls, and of every search."""
        ours = [search for search in self.searches if search.task is task]
        tables = [f"results/{SEARCH}/evaluation.csv".format(**search.labels) for search in ours]
        return [f"results/{PLACE}/controls.csv".format(**ours[0].labels), *tables]

    # Files of the whole study.

    def of_searches(self, pattern: str) -> list[str]:
        """Return the files of a pattern for all searches, without repetition."""
        return list(dict.fromkeys(pattern.format(**search.labels) for search in self.searches))

    def of_known(self, pattern: str) -> list[str]:
        """Return the files of a pattern for the searches whose circuits are known."""
        return [pattern.format(**search.labels) for search in self.searches if search.is_known]

    def stabilities(self) -> list[str]:
        """Return the tables of stability, one for every method of every resampled search."""
        return [
            f"{FOUND}/stability.csv".format(**search.labels, method=method.name)
            for search in self.searches
            for method in search.methods
            if "resamples" in search.entry and method.uses_prompts
        ]

    def significances(self) -> list[str]:
        """Return the tables of significance, one for every search with circuits to be tested."""
        pattern = f"results/{SEARCH}/significance.csv"
        return [pattern.format(**search.labels) for search in self.searches if self.tested(search)]

    def mibs(self) -> list[str]:
        """Return the tables of CPR and CMD, one for every search that has them."""
        pattern = f"results/{SEARCH}/mib.csv"
        return [pattern.format(**search.labels) for search in self.searches if self.of_mib(search)]

    def heads(self) -> list[str]:
        """Return the tables of heads of every search whose task asks for them."""
        asked = [search for search in self.searches if search.task["heads"]]
        return [f"results/{SEARCH}/heads_{split}.csv".format(**one.labels) for one in asked for split in SPLITS]

    def shown_heads(self, search: Search) -> dict[str, str]:
        """Return the files for pages and drawings of a search's heads, by flag, if its task asks for them."""
        files = {"heads": "heads_test.csv", "attention": "attention_test.json"} if search.task["heads"] else {}
        return {flag: f"results/{SEARCH}/{file}".format(**search.labels) for flag, file in files.items()}

    def agreements(self) -> list[str]:
        """Return the tables that compare heads' names with published ones, for searches whose circuits are known."""
        asked = [search for search in self.searches if search.task["heads"] and search.is_known]
        return [f"results/{SEARCH}/agreement.csv".format(**search.labels) for search in asked]

    def all_circuits(self) -> list[str]:
        return [file for search in self.searches for method in search.methods for file in self.circuits(search, method)]

    def all_timings(self) -> list[str]:
        return [batch.timing for batch in self.batches]

    @property
    def has_known(self) -> bool:
        """Return whether some search has a known circuit."""
        return any(search.is_known for search in self.searches)

    def reset_pairs(self) -> list[str]:
        """Return ``RESET=TRAINED`` for every reset network whose search is also one of its trained model."""
        known = [s.labels for s in self.searches if s.is_known]
        pairs = ((labels["model"], self.trained(labels["model"]), labels) for labels in known)
        both = [f"{a}={b}" for a, b, labels in pairs if a != b and {**labels, "model": b} in known]
        return list(dict.fromkeys(both))

    def tables(self) -> list[str]:
        """Return the names of the study's CSV tables."""
        names = ["behaviour", "evaluation", "faithfulness", "timing", "methods"]
        names += ["recovery", "auc"] if self.has_known else []
        names += ["stability"] if any("resamples" in search.entry for search in self.searches) else []
        names += ["significance"] if self.significances() else []
        names += ["mib"] if self.mibs() else []
        names += ["heads"] if self.heads() else []
        names += ["agreement"] if self.agreements() else []
        return names + self.areas()

    def areas(self) -> list[str]:
        """Return the names of the tables of areas under ROC curves, one for each ablation."""
        return [f"auc_{name}" for name in dict.fromkeys(s.ablation for s in self.searches if s.is_known)]

    def table_files(self) -> list[str]:
        files = [f"results/{self.name}/{table}.csv" for table in self.tables()]
        return files + [f"results/{self.name}/{t}.{format}" for t in self.areas() for format in TABLE_FORMATS[1:]]

    def figures(self) -> list[str]:
        """Return the paths of the study's figures, without suffixes."""
        names = self.of_searches(f"{FIGURES}/pareto_{{ablation}}")
        for search, method in self.drawings():
            names += [f"{self.drawing(search, method)}_{value}" for value in search.drawn(method)]
        whole = []
        if any(sum(method.uses_prompts for method in search.methods) >= COMPARED for search in self.searches):
            whole += ["faithfulness", *(f"cost_{cost}" for cost in COSTS)]
        whole += ["trained_and_reset"] if self.reset_pairs() else []
        whole += [f"roc_{level}s" for level in LEVELS] if self.has_known else []
        return names + [f"figures/{self.name}/{name}" for name in whole]

    def figure_files(self) -> list[str]:
        return [f"{figure}.{format}" for figure in self.figures() for format in self.config["figures"]["formats"]]

    def pages(self) -> list[str]:
        """Return an interactive page for every sweep that is drawn."""
        return [f"{self.drawing(search, method)}.html" for search, method in self.drawings()]

    def page_files(self) -> list[str]:
        """Return all interactive pages, one of all of them, and the tables as pages."""
        pages = self.pages()
        pages += [f"figures/{self.name}/circuits.html"] if pages else []
        return pages + [f"figures/{self.name}/tables/{table}.html" for table in self.tables()]

    def targets(self) -> list[str]:
        """Return every file that the study makes for people."""
        return [*self.table_files(), *self.figure_files(), *self.page_files()]
