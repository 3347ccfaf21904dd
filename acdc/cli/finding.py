"""Commands that find circuits, by every method, once or on resampled prompts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from acdc.catalogue import ABLATIONS, METHODS, METRICS
from acdc.cli.flags import EngineFlags, SearchFlags, write_timing
from acdc.errors import InputError
from acdc.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acdc.found import Found


def find(
    *,
    model: str,
    prompts: Path,
    metric: Annotated[str, Parameter(choices=tuple(METRICS))],
    out: Path,
    method: Annotated[str, Parameter(choices=tuple(METHODS))] = "acdc",
    ablation: Annotated[str, Parameter(choices=tuple(ABLATIONS))] = "corrupted",
    engine: Literal["fast", "plain"] = "fast",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "float64"] = "float32",
    **settings: str,
) -> None:
    """Find one circuit of a model on prompts of your own.

    Writes circuit.json, trace.csv of a method that searches, and scores.csv of one that scores. Killed, it goes on from
    its checkpoint. A flag of the method sets the circuit's size: --threshold of acdc, --regularisation of sp, --n-edges
    or --n-nodes of methods that score.

    Try:
      python -m acdc find --model gpt2 --prompts prompts.csv --metric logit_difference --threshold 0.1 --out found/

    Args:
        model: a folder as save_pretrained writes it, a name on the Hugging Face hub, or smollm2-135m-q4
        prompts: a CSV file with the columns clean, corrupted, correct and incorrect
        metric: what is minimised
        out: the folder that is written
        method: how the circuit is found
        ablation: what a removed edge carries
        engine: plain runs Algorithm 1 as the paper writes it, slowly
        device: auto takes CUDA where there is one
        precision: precision of the arithmetic
        settings: what sets the circuit's size, and the method's settings
    """
    from acdc import api

    own: dict[str, Any] = {name.replace("-", "_"): text for name, text in settings.items()}
    api.sized(METHODS[method], own)  # refused before the model is loaded
    loaded = api.load_model(model)
    data = api.prompts(loaded, prompts)
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
    print(f"{found.circuit.n_edges:,} of {found.circuit.graph.n_edges:,} edges: {out / found.FILE}")


def circuit(
    flags: EngineFlags,
    search: SearchFlags,
    *,
    values: list[str],
    out: Path,
    timing: Path | None = None,
    **settings: str,
) -> None:
    """Find circuits by a method that is run for every value: acdc or sp. Killed, it goes on from its checkpoint.

    Writes circuit.json and trace.csv into a folder per value. By ACDC (Conmy et al. 2023, Algorithm 1) the trace has
    every tried edge with the metric before and after; by SP (subnetwork probing, Cao et al. 2021) every step of
    training. First it checks, on these prompts, that the engine computes what TransformerLens does.

    Try:
      python -m acdc circuit --task months --model data/test/models/tiny-llama --model-name tiny-llama \\
          --dataset data/test/datasets/tiny-llama/months/discovery.safetensors --metric kl_divergence \\
          --ablation zero --method acdc --values 0.3 --out found

    Args:
        values: thresholds of acdc in the metric's unit, regularisations of sp; one search after another
        out: the folder that holds a folder per value
        timing: a table of what this call cost
        settings: the method's settings, such as --head-order of acdc and --steps of sp
    """
    from acdc.methods import driver

    if METHODS[search.method].kind != "search":
        raise InputError(f"method {search.method} scores everything once: call score instead of circuit")
    search.check(settings)
    engine = flags.load()
    full = search.settings(flags, engine, settings)
    for _ in driver.find(engine, full, values, out):
        pass  # written when it is found
    write_timing(timing, full, values)


def score(
    flags: EngineFlags,
    search: SearchFlags,
    *,
    fractions: list[float],
    out: Path,
    timing: Path | None = None,
    **settings: str,
) -> None:
    """Score every edge or node once, and cut circuits of the best at several sizes.

    Writes scores.csv, and circuits.json with the circuits. Where at most 200 edges or nodes have a score, a circuit is
    cut at every size that the scores tell apart.

    Try:
      python -m acdc score --task ioi --model data/test/models/tiny-llama --model-name tiny-llama \\
          --dataset data/test/datasets/tiny-llama/ioi/discovery.safetensors --metric logit_difference \\
          --ablation corrupted --method eap --fractions 0.01 0.1 --out scored

    Args:
        fractions: shares of all edges or, by hisp, of nodes that make a circuit
        out: the folder that is written
        timing: a table of what this call cost
        settings: the method's settings
    """
    from acdc.found import Sweep
    from acdc.methods import driver

    if METHODS[search.method].kind != "score":
        raise InputError(f"method {search.method} is run for every value: call circuit instead of score")
    search.check(settings)
    engine = flags.load()
    found = driver.score(engine, search.settings(flags, engine, settings), fractions=fractions)
    Sweep(found).save(out)
    write_timing(timing, found[0].settings, [one.value for one in found])


def stability(
    flags: EngineFlags,
    search: SearchFlags,
    *,
    resamples: int,
    work: Path,
    out: Path,
    values: list[str] | None = None,
    fractions: list[float] | None = None,
    **settings: str,
) -> None:
    """Find circuits on bootstrap resamples of the prompts, and tell how much they overlap.

    Writes a table with the mean Jaccard overlap of all pairs of resamples, of edges and of nodes, and the interval that
    95% of the pairs lie in.

    Args:
        resamples: how many, at least two
        work: a folder for circuits until all are found; killed, it goes on there
        out: the table, .csv
        values: of a method that is run for every value
        fractions: of a method that scores everything once
        settings: the method's settings
    """
    from acdc.analysis.stability import stability_rows

    search.check(settings)
    if resamples < 2:
        raise InputError(f"{resamples} resamples have no overlap: give at least two")
    by_size: dict[tuple[str, str], list] = {}
    for i in range(resamples):
        for found in on_resample(flags, search, i, values or [], fractions or [], work / str(i), settings):
            by_size.setdefault((found.settings["size_by"], found.value), []).append(found.circuit)
    # Where scores are cut at every size, some sizes may be of some resamples only.
    of_all = {size: circuits for size, circuits in by_size.items() if len(circuits) == resamples}
    write_table([{**search.labels(flags), **row} for row in stability_rows(of_all)], out)
    shutil.rmtree(work, ignore_errors=True)


def on_resample(
    flags: EngineFlags,
    search: SearchFlags,
    i: int,
    values: list[str],
    fractions: list[float],
    work: Path,
    settings: dict[str, str],
) -> Iterator[Found]:
    """Yield the circuits of one bootstrap resample; those that a killed job had searched are read from its files."""
    from acdc.methods import driver

    engine = flags.load(resample=i)
    full = search.settings(flags, engine, settings) | {"resample": i}
    if METHODS[search.method].kind == "search":
        yield from driver.find(engine, full, values, work)
    else:
        yield from driver.score(engine, full, fractions=fractions)
