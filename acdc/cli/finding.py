"""Define the commands that find circuits, by every method, once or on resampled prompts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from acdc.catalogue import ABLATIONS, METHODS, METRICS, Precision
from acdc.cli.flags import (
    BOS,
    AblationFlags,
    AnswersName,
    BosName,
    OutFile,
    OutFolder,
    Run,
    SearchFlags,
    UnfitName,
    json_object,
    timing_row,
)
from acdc.errors import InputError
from acdc.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acdc.data import Dataset
    from acdc.found import Found


def find(
    *,
    model: str,
    prompts: Path,
    metric: Annotated[str, Parameter(choices=tuple(METRICS))],
    out: OutFolder,
    method: Annotated[str, Parameter(choices=tuple(METHODS))] = "acdc",
    ablation: Annotated[str, Parameter(choices=tuple(ABLATIONS))] = "corrupted",
    engine: Literal["fast", "plain"] = "fast",
    device: str = "auto",
    precision: Precision = "float32",
    columns: str | None = None,
    unfit: UnfitName = "refuse",
    answers: AnswersName = "whole",
    bos: BosName = "auto",
    **settings: str,
) -> None:
    """Find one circuit of a model on your own prompts.

    Writes circuit.json, and trace.csv for a method that searches or scores.csv for one that scores. After a kill it
    resumes from its checkpoint. A flag of the method sets the circuit's size: --threshold of acdc, --regularisation of
    sp, --sparsity-target of edge_pruning, --n-edges or --n-nodes of methods that score.

    Try:
      python -m acdc find --model gpt2 --prompts prompts.csv --metric logit_difference --threshold 0.1 --out found/

    Args:
        model: a folder as save_pretrained writes it, a name on the Hugging Face hub, or smollm2-135m-q4
        prompts: a .csv, .tsv, .json, .jsonl or .parquet file with the columns clean, corrupted, correct and incorrect
        metric: the metric to minimise
        out: the folder to write
        method: the method that finds the circuit
        ablation: the activations that removed edges carry
        engine: plain runs Algorithm 1 as the paper writes it, slowly
        device: auto takes CUDA where there is one; or cpu, cuda, cuda:1
        precision: precision of the arithmetic; mixed finds float32's circuit and tries edges in less
        columns: the file's own names of clean, corrupted, correct and incorrect, as JSON
        unfit: whether rows that do not fit the model's tokenizer are refused, or left out with a warning
        answers: whether answers are one token as they stand after the prompt (whole), or are encoded by themselves and
            their first tokens taken, as in MIB
        bos: whether the tokenizer's beginning-of-sequence token is put before prompts; auto: as the tokenizer does it
        settings: the value that sets the circuit's size, and the method's settings
    """
    from acdc import api
    from acdc.found import PRUNED

    own: dict[str, Any] = {name.replace("-", "_"): text for name, text in settings.items()}
    api.sized(METHODS[method], own)  # refused before the model is loaded
    loaded = api.load_model(model)
    own_columns = json_object(columns or "{}", "--columns")
    data = api.prompts(loaded, prompts, columns=own_columns, bos=BOS[bos], unfit=unfit, answers=answers)
    found = api.find(
        loaded,
        data,
        metric=metric,
        method=method,
        ablation=ablation,
        engine=engine,
        device=device,
        precision=precision,
        task=prompts.stem,
        folder=out,
        **own,
    )
    pruned = found.sizes[PRUNED]
    without = f" ({pruned:,} dead ones pruned)" if pruned else ""
    print(f"{found.circuit.n_edges:,} of {found.circuit.graph.n_edges:,} edges{without}: {out / found.FILE}")


def circuits(flags: AblationFlags, search: SearchFlags, *, out: OutFolder, timing: OutFile | None = None) -> None:
    """Find the circuits of a search, by one method or several; resume from checkpoints after a kill.

    A method that is run for values, such as acdc, writes OUT/METHOD/VALUE/circuit.json and trace.csv. The trace of ACDC
    (Conmy et al. 2023, Algorithm 1) has every tried edge with the metric before and after; nodes.csv has the effect of
    every node. The trace of SP (subnetwork probing, Cao et al. 2021) and of Edge Pruning (Bhaskar et al. 2024) has
    every step of training. A method that scores writes OUT/METHOD/scores.csv, and circuits.json with the circuits of
    largest scores. If at most 200 edges or nodes have a score, there is a circuit for every size that the scores tell
    apart. First the engine's logits are compared with the model's.

    Try:
      python -m acdc circuits --task months --model data/test/models/tiny-llama --model-name tiny-llama \\
          --dataset data/test/datasets/tiny-llama/months/discovery.safetensors \\
          --logits data/test/datasets/tiny-llama/months/discovery.logits.safetensors --metric kl_divergence \\
          --ablation zero --methods acdc=0.3,1 --out found

    Args:
        out: the folder that holds a folder per method
        timing: a table of the time and memory of each search
    """
    from acdc.analysis.evaluation import node_table
    from acdc.found import Found, Sweep
    from acdc.methods import driver

    runs = search.runs()
    engine, costs = flags.load(), []
    for run in runs:
        settings, folder = search.settings_of(flags, engine, run), out / run.method.name
        if run.method.kind == "score":
            found = driver.score(engine, settings, fractions=search.fractions)
            Sweep(found).save(folder)
            costs.append(timing_row(found))
            continue
        for one in driver.find(engine, settings, run.values, folder):
            costs.append(timing_row([one]))
            if run.method.traces_edges:
                kind = search.metrics()[search.metric]
                write_table(node_table(engine, kind, [one]), folder / one.value / Found.NODES)
    if timing:
        write_table(costs, timing)


def stability(flags: AblationFlags, search: SearchFlags, *, resamples: int, work: OutFolder, out: OutFile) -> None:
    """Find circuits on bootstrap resamples of the prompts, and measure how much they overlap.

    Writes a table with the mean Jaccard index of all pairs of resamples, for edges and for nodes, and the interval that
    holds 95% of the pairs.

    Args:
        resamples: number of resamples, at least two
        work: a folder for circuits until all are found; after a kill the command resumes from it
        out: the table, .csv
    """
    from acdc.analysis.stability import stability_rows

    runs = search.runs()
    if resamples < 2:
        raise InputError(f"{resamples} resamples have no overlap: give at least two")
    whole, rows = flags.load(), []
    for run in runs:
        by_size: dict[tuple[str, str], list] = {}
        for i in range(resamples):
            for found in on_resample(flags, search, run, whole.dataset.resample(i), i, work / run.method.name):
                by_size.setdefault((found.settings["size_by"], found.value), []).append(found.circuit)
        # Where scores are cut at every size, some sizes may be of some resamples only.
        of_all = {size: circuits for size, circuits in by_size.items() if len(circuits) == resamples}
        rows += [{**search.labels(flags, run.method), **row} for row in stability_rows(of_all)]
    write_table(rows, out)
    shutil.rmtree(work, ignore_errors=True)


def on_resample(
    flags: AblationFlags, search: SearchFlags, run: Run, data: Dataset, i: int, work: Path
) -> Iterator[Found]:
    """Yield the circuits found on one bootstrap resample; read those that a killed job had found already."""
    from acdc.methods import driver

    engine = flags.options(flags.ablation).engine(flags.weights, data, None)
    settings = search.settings_of(flags, engine, run) | {"resample": i}
    if run.method.kind == "search":
        yield from driver.find(engine, settings, run.values, work / str(i))
    else:
        yield from driver.score(engine, settings, fractions=search.fractions)
