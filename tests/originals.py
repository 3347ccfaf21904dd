"""Load the original implementation's models, inputs and runs, see vectors/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc.data import Dataset
from acdc.graph import Edge
from acdc.metrics import L2, KLDivergence, Metric
from tests.small_models import NATIVE, legacy_folder
from tests.vector_files import VECTORS


def vector_folder(folder: Path, case: str, **changes: Any) -> Path:
    """Write the model of a case as it is, in the format of TransformerLens 1.x, with changes of its config."""
    config = json.loads((VECTORS / case / "config.json").read_text())
    return legacy_folder(folder, config | changes, load_file(VECTORS / case / "model.safetensors"))


@cache
def vector_bridge(case: str) -> TransformerBridge:
    """Return the model of a case, its TransformerLens 1.x weights rearranged."""
    config = json.loads((VECTORS / case / "config.json").read_text())
    model = TransformerBridge.boot_native({key: config[key] for key in NATIVE})
    old = load_file(VECTORS / case / "model.safetensors")
    model.load_state_dict({name: old_weight(old, name) for name in model.state_dict()})
    model.enable_compatibility_mode(no_processing=True)
    return model.requires_grad_(False).eval()


def old_weight(old: dict[str, Tensor], name: str) -> Tensor:
    """Return what a native bridge calls ``name``, from a state dict of TransformerLens 1.x."""
    module, kind = name.rsplit(".", 1)
    parent, _, leaf = module.rpartition(".")
    if module in ("embed", "pos_embed"):
        return old[f"{module}.{'W_E' if module == 'embed' else 'W_pos'}"]
    if parent.endswith(("attn", "mlp")):
        suffix = leaf.upper() if parent.endswith("attn") else leaf
        tensor = old[
            f"{parent}.{kind[0].replace('w', 'W')}_{suffix}"
        ]  # [head d_model d_head], o: [head d_head d_model]
        if kind == "bias":
            return tensor.flatten()
        if leaf in ("q", "k", "v"):
            return tensor.transpose(1, 2).flatten(0, 1)
        return tensor.flatten(0, -2).T
    if module == "unembed":
        return old["unembed.W_U"].T if kind == "weight" else old["unembed.b_U"]
    return old[f"{module}.{kind[0]}"]


@cache
def vector_inputs(case: str) -> dict[str, Tensor]:
    return load_file(VECTORS / case / "inputs.safetensors")


@cache
def vector_dataset(case: str) -> Dataset:
    """Return the original's prompts, scored at the last position; tracr's at all positions after the first."""
    inputs = vector_inputs(case)
    scored = torch.zeros_like(inputs["clean"], dtype=torch.bool)
    scored[:, 1 if case.startswith("tracr") else -1 :] = True
    return Dataset(inputs["clean"], inputs["corrupted"], scored, {})


def vector_model_logits(case: str) -> Tensor:
    """Return the logits of the original's model on the clean prompts, at scored positions: Float[scored output].

    Of tracr_proportion the file holds the first output only.
    """
    inputs = vector_inputs(case)
    if case == "tracr_proportion":
        return inputs["model_out"].flatten()[:, None]
    return inputs["model_out"].flatten(0, 1) if case == "tracr_reverse" else inputs["clean_logits"][:, -1]


# Its runs.


class FirstLogitL2(L2):
    """Measure the first logit alone: the original unembeds tracr_proportion's one output and three positions."""

    def __init__(self, dataset: Dataset, model_logits: Tensor) -> None:
        super().__init__(dataset, model_logits[:, :1])
        self.columns = torch.zeros_like(self.model_logits, dtype=torch.long)


FILES = sorted(f"{path.parent.name}/{path.stem}" for path in VECTORS.glob("*/acdc_t*.json"))
METRICS: dict[str, type[Metric]] = {
    "tiny3l_mlp": KLDivergence,
    "small2l": KLDivergence,
    "tracr_reverse": L2,
    "tracr_proportion": FirstLogitL2,
}
COUNTED = ("ADDITION", "DIRECT_COMPUTATION")


@dataclass
class Original:
    """Hold one run of the original, and what ours is given to repeat it."""

    file: str
    data: dict[str, Any]

    @property
    def case(self) -> str:
        return self.file.split("/")[0]

    @property
    def metric(self) -> type[Metric]:
        return METRICS[self.case]

    @property
    def threshold(self) -> float:
        return self.data["summary"]["threshold"]

    @property
    def arguments(self) -> dict[str, Any]:
        summary = self.data["summary"]
        permuted = summary["use_pos_embed"] and "NOSCRAMBLE" not in self.file
        corrupted = "corrupted_permuted" if permuted else "corrupted"
        return {"ablation": "zero" if summary["zero_ablation"] else corrupted, "split_embed": summary["use_pos_embed"]}

    @property
    def head_order(self) -> str:
        return "ascending" if self.data["summary"]["indices_mode"] == "reverse" else "descending"


@cache
def load(file: str) -> Original:
    return Original(file, json.loads((VECTORS / f"{file}.json").read_text()))


def key(edge: Edge) -> tuple:
    """Return an edge's name in the original: receiver hook, index, sender hook, index."""
    return (*edge.receiver_hook, *edge.sender_hook)


def original_key(row: list) -> tuple:
    return (row[0], tuple(row[1]), row[2], tuple(row[3]))
