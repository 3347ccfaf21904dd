"""Find circuits from Python: a model, prompts, a circuit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from acdc import fingerprint
from acdc.catalogue import METHODS, METRICS, Method
from acdc.data import Dataset
from acdc.engine.load import engine_of, identity
from acdc.errors import InputError
from acdc.found import Found
from acdc.graph import Circuit
from acdc.methods import driver
from acdc.methods.acdc import acdc
from acdc.metrics import Metric
from acdc.models.bridge import load_bridge, load_tokenizer
from acdc.reference import Reference
from acdc.text import Prompt, to_dataset


@dataclass(eq=False)
class Model:
    """A model to find circuits in.

    Attributes:
        name: as it stands in tables.
        bridge: the model in TransformerLens, for whoever wants to look at it.
        tokenizer: the model's; None where it has none.
        sha256: of its weights' files.
    """

    name: str
    bridge: TransformerBridge = field(repr=False)
    tokenizer: Any = field(repr=False)
    sha256: str


def load_model(source: str | Path) -> Model:
    """Load a model from a folder as ``save_pretrained`` writes it, or from the Hugging Face hub by its name.

    Raises:
        InputError: there is neither such a folder nor such a model on the hub.
    """
    folder = Path(source)
    if folder.is_dir():
        return of_folder(folder, folder.name)
    import tempfile

    from acdc.models.sources import from_hub

    with tempfile.TemporaryDirectory() as temporary:
        from_hub(str(source), "main", Path(temporary), shortformer=False)
        return of_folder(Path(temporary), str(source).rpartition("/")[2])


def of_folder(folder: Path, name: str) -> Model:
    return Model(name, load_bridge(folder), load_tokenizer(folder), fingerprint.of_model(folder))


def prompts(
    model: Model, clean: Sequence[str], corrupted: Sequence[str], correct: Sequence[str], incorrect: Sequence[str]
) -> Dataset:
    """Return clean prompts, a corrupted one for each, and two answers that may follow the clean one after a space.

    Args:
        clean, corrupted: texts of as many tokens, pair by pair.
        correct, incorrect: words of one token each.

    Raises:
        InputError: the lists differ in length, a pair of prompts differs in tokens, or an answer is not one token.
    """
    columns = {"clean": clean, "corrupted": corrupted, "correct": correct, "incorrect": incorrect}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not len(clean):
        said = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise InputError(f"prompts need one entry of each kind: there are {said}")
    rows = [Prompt(*row) for row in zip(*columns.values(), strict=True)]
    return to_dataset(model.tokenizer, rows, task="prompts")


def read_prompts(model: Model, path: Path) -> Dataset:
    """Return the prompts of a CSV file with the columns clean, corrupted, correct and incorrect.

    Raises:
        InputError: a column is missing, or as ``prompts``.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := [name for name in Prompt._fields if name not in table]:
        raise InputError(f"{path} has no column {missing[0]}: it needs {', '.join(Prompt._fields)}")
    return prompts(model, *(table[name].tolist() for name in Prompt._fields))


def find(
    model: Model,
    data: Dataset,
    *,
    metric: str,
    method: str = "acdc",
    ablation: str = "corrupted",
    engine: Literal["fast", "plain"] = "fast",
    split_embed: bool = False,
    device: str = "auto",
    precision: str = "float32",
    task: str = "prompts",
    folder: Path | None = None,
    **settings: Any,
) -> Found:
    """Find one circuit.

    Args:
        data: the prompts to find it on, see ``prompts``.
        metric: what is minimised, by its name in the catalogue.
        method, ablation: names in the catalogue.
        engine: ``plain`` runs ACDC as the paper writes it, by one forward pass through TransformerLens per tried edge:
            slow, for whoever doubts the fast one.
        split_embed: token and position embeddings are two senders.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``float32`` or ``float64``.
        task: what tables call the prompts.
        folder: where the circuit and, meanwhile, a checkpoint are written; a killed run goes on from there.
        settings: the method's, and what sets the circuit's size: ``threshold`` of ACDC, ``regularisation`` of SP,
            ``n_edges`` or ``n_nodes`` of methods that score.

    Raises:
        InputError: a name is unknown, a setting is not the method's, or the engine does not cover the model.
    """
    chosen = METHODS[method]
    value, own = sized(chosen, settings)
    labels = {"method": method, "task": task, "model": model.name, "metric": metric, "ablation": ablation}
    full = {
        **labels,
        **chosen.parse({name: str(setting) for name, setting in own.items()}),
        "split_embed": split_embed,
        **identity(labels, model.sha256, data),
        "engine": engine,
        "precision": precision,
    }
    if engine == "plain":
        found = plain(model, data, full | {"size_by": chosen.size_by, "value": value})
    else:
        fast = engine_of(model.bridge, data, ablation, split_embed, device, precision)
        full |= {"device": fast.device.type}
        if chosen.kind == "search":
            return driver.find_one(fast, full, value, folder)  # written when it is found
        (found,) = driver.score(fast, full, sizes=[int(value)])
    if folder:
        found.save(folder)
    return found


def sized(method: Method, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the value that sets a circuit's size, as a text, and the other settings.

    Raises:
        InputError: the value is missing or no number.
    """
    key = method.size_by
    if key not in settings:
        raise InputError(
            f"method {method.name} needs {key}: give it as {key}=NUMBER (--{key.replace('_', '-')} NUMBER)"
        )
    value = str(settings[key])
    try:
        (float if method.kind == "search" else int)(value)
    except ValueError:
        raise InputError(f"{key} must be a number, not {value!r}") from None
    return value, {name: setting for name, setting in settings.items() if name != key}


def plain(model: Model, data: Dataset, settings: dict[str, Any]) -> Found:
    """Run ACDC as the paper writes it, on the oracle.

    Raises:
        InputError: the method is another; only ACDC has a plain form.
    """
    if settings["method"] != "acdc":
        raise InputError(f"method {settings['method']} has no plain form: leave engine out, or take method acdc")
    oracle = Reference(model.bridge, data, ablation=settings["ablation"], split_embed=settings["split_embed"])
    measure = measured_by(oracle, METRICS[settings["metric"]].load())
    progress = acdc(oracle.graph, measure, float(settings["value"]), settings["head_order"])
    more = {"tried": len(progress.trace)}
    outcome = driver.Outcome(progress.circuit, progress.metric, progress.evaluations, progress.trace, more=more)
    return driver.found_of(settings, outcome)


def measured_by(oracle: Reference, kind: type[Metric]) -> Callable[[Circuit], float]:
    """Return what measures a circuit's metric by the oracle: its mean over the dataset."""
    metric = kind(oracle.dataset, oracle.logits(Circuit.full(oracle.graph)))

    def measure(circuit: Circuit) -> float:
        logits = oracle.logits(circuit)
        columns = logits if metric.columns is None else logits.gather(1, metric.columns)
        return torch.dot(metric(columns).double(), oracle.dataset.weight).item()

    return measure


def load(path: str | Path, trace: str | Path | None = None) -> Found:
    """Return the circuit of a file that acdc wrote, with its trace where its file is given.

    Raises:
        InputError: the file holds no circuit.
    """
    return Found.load(Path(path), Path(trace) if trace else None)
