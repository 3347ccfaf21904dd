"""Flags that several stages share, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acdc.data import Dataset
    from acdc.engine import Engine


@dataclass(frozen=True)
class EngineFlags:
    """The flags that an engine is made of; the stages that have one share them."""

    model: Path
    dataset: Path
    ablation: str
    split_embed: bool
    device: str
    precision: str
    memory_gib: float
    threads: int


@dataclass(frozen=True)
class MethodFlags:
    """How a method finds circuits; the stages that find some share them. Every method has some of them."""

    task: str
    model_name: str
    metric: str
    method: str
    thresholds: list[str]
    head_order: str
    steps: int
    learning_rate: float
    prompts_per_step: int
    seed: int
    ig_steps: int
    fractions: list[str]


OF_METHOD = {
    "acdc": ("head_order",),
    "sp": ("steps", "learning_rate", "prompts_per_step", "seed"),
    "eap_ig": ("ig_steps",),
}
"""The flags that are written down with what a method finds."""


def load_engine(flags: EngineFlags, resample: int | None = None) -> Engine:
    """The engine for a model and a dataset, compared with TransformerLens on all prompts before it is used.

    Args:
        resample: of the dataset, see ``Dataset.resample``.
    """
    import torch

    from acdc.data import Dataset
    from acdc.engine import Engine
    from acdc.evaluation import check_engine
    from acdc.models.bridge import load_bridge, weights_of

    set_threads(flags.threads)
    data, bridge = Dataset.load(flags.dataset), load_bridge(flags.model)
    data = data if resample is None else data.resample(resample)
    place = flags.device if flags.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    weights = weights_of(bridge).to(place, getattr(torch, flags.precision))
    memory = round(flags.memory_gib * 2**30)
    engine = Engine(weights, data, ablation=flags.ablation, split_embed=flags.split_embed, memory=memory)
    corrupted = bridge_logits(bridge, data, data.corrupted).to(place) if flags.ablation == "corrupted" else None
    check_engine(engine, bridge_logits(bridge, data, data.clean).to(place), corrupted)
    return engine


def bridge_logits(bridge: Any, data: Dataset, tokens: Any) -> Any:
    """TransformerLens's logits at the scored positions: Float[scored d_vocab]."""
    import torch

    with torch.no_grad():
        return bridge(tokens)[data.scored]


def set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def settings_of(engine: Engine, flags: EngineFlags, how: MethodFlags) -> dict[str, Any]:
    """What a found circuit's file says of how it was found."""
    from acdc.models.sources import sha256_of

    return {
        "method": how.method,
        "task": how.task,
        "model": how.model_name,
        "metric": how.metric,
        **{name: getattr(how, name) for name in OF_METHOD.get(how.method, ())},
        "ablation": flags.ablation,
        "split_embed": flags.split_embed,
        "dataset_sha256": sha256_of(flags.dataset),
        "versions": versions(),
        "device": engine.device.type,
        "precision": flags.precision,
    }


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformer_lens", "transformers", "numpy")}
