"""Hold clean and corrupted prompts with their scored positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from acdc.errors import reading
from acdc.fingerprint import of_tensors
from acdc.tensor_files import read_tensors, write_tensors

NO_ANSWER = -1
"""The entry in targets of several answers where a prompt has fewer answers than others."""
NOWHERE = -1
"""The entry in labels where a prompt has no token of that label."""
OF_POSITIONS = ("next", "outputs", "corrupted_outputs")
"""The targets that have an entry per position."""


@dataclass(eq=False)
class Dataset:
    """Hold clean prompts, each with its corrupted prompt, as token ids.

    Prompts shorter than the longest are padded on the right. Where attention is causal, padding after the scored
    positions changes nothing. A model whose attention is not causal needs prompts of one length.

    Attributes:
        clean, corrupted: Int[prompt pos], token ids.
        scored: Bool[prompt pos], the positions whose next-token logits the metric reads.
        targets: by name, one entry per prompt. ``correct`` and ``incorrect`` are answer tokens: Int[prompt], or
            Int[prompt answer] of several, with ``NO_ANSWER`` where a prompt has fewer. ``outputs`` are the right logits
            of a model that computes a known function, Float[prompt pos d_vocab_out]; ``corrupted_outputs`` are those
            for the corrupted prompts.
        about: where the prompts come from: task, seed, tokenizer, texts.
        mean_over: what a metric is averaged over: ``prompts`` (each prompt's mean over its scored positions) or
            ``positions`` (all scored positions with equal weight).
        padding: the token that prompts shorter than the longest are padded with; None where all are of one length.
        labels: by label, such as ``IO``, the position of the labelled word's last token in the clean and in the
            corrupted prompt: Int[prompt 2], ``NOWHERE`` where there is none. No circuit depends on them.
        pool: Int[pool pos], the corrupted prompts over which mean ablation takes the mean. A selection of prompts has
            the pool of the whole dataset. The pool is not saved: that of a loaded dataset is its corrupted prompts.
    """

    clean: Int[Tensor, "prompt pos"]
    # Of one shape with ``clean``: __post_init__ compares them, and its message names all three.
    corrupted: Int[Tensor, "_prompt _pos"]
    scored: Bool[Tensor, "_prompt _pos"]
    targets: dict[str, Shaped[Tensor, "prompt ..."]]
    about: dict[str, Any] = field(default_factory=dict)
    mean_over: Literal["prompts", "positions"] = "prompts"
    padding: int | None = None
    labels: dict[str, Int[Tensor, "prompt 2"]] = field(default_factory=dict)
    pool: Int[Tensor, "pool pos"] = field(init=False)

    def __post_init__(self) -> None:
        self.pool = self.corrupted
        if not self.clean.shape == self.corrupted.shape == self.scored.shape:
            shapes = [tuple(t.shape) for t in (self.clean, self.corrupted, self.scored)]
            raise ValueError(f"clean, corrupted and scored must have one shape; they have {shapes}")
        unscored = (~self.scored.any(1)).nonzero().flatten().tolist()
        if unscored:
            raise ValueError(f"prompt {unscored[0]} has no scored position")

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def scored_rows(self) -> tuple[Int[Tensor, "row"], Int[Tensor, "row"]]:
        """Return the prompt and the position of every scored position, by prompt, then position: Int[row] each."""
        prompt, pos = self.scored.nonzero(as_tuple=True)
        return prompt, pos

    @property
    def weight(self) -> Float[Tensor, "row"]:
        """Return the weight of every scored position in a metric's mean, see ``mean_over``: Float[row], float64."""
        prompt, _ = self.scored_rows
        if self.mean_over == "positions":
            return torch.full((len(prompt),), 1.0 / len(prompt), dtype=torch.float64)
        return 1.0 / (self.scored.sum(1)[prompt].double() * len(self))

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of everything that results depend on: tokens, scored positions and targets."""
        tensors = {"clean": self.clean, "corrupted": self.corrupted, "scored": self.scored, **self.targets}
        return of_tensors(tensors, beside=self.mean_over)

    def share(self, part: Dataset) -> float:
        """Return the weight that the mean over a part of the prompts has in the mean over this dataset."""
        if self.mean_over == "prompts":
            return len(part) / len(self)
        return (part.scored.sum() / self.scored.sum()).item()

    def select(self, prompts: slice | list[int]) -> Dataset:
        """Return a dataset of some of the prompts, with their texts in ``about``."""
        chosen = range(len(self))[prompts] if isinstance(prompts, slice) else prompts
        texts: dict[str, Any] = {
            k: [self.about[k][i] for i in chosen] for k in ("clean", "corrupted") if k in self.about
        }
        about = {**self.about, **texts}
        targets = {name: t[prompts] for name, t in self.targets.items()}
        tokens = self.clean[prompts], self.corrupted[prompts], self.scored[prompts]
        labels = {name: t[prompts] for name, t in self.labels.items()}
        part = Dataset(*tokens, targets, about, self.mean_over, self.padding, labels)
        part.pool = self.pool
        return part

    def __getitem__(self, prompts: int | slice | list[int]) -> Dataset:
        """Return a dataset of some of the prompts, as ``select`` does."""
        return self.select([prompts] if isinstance(prompts, int) else prompts)

    def __repr__(self) -> str:
        size = f"{len(self)} prompts of up to {self.clean.shape[1]} tokens, {int(self.scored.sum())} scored positions"
        return f"Dataset({size}; {', '.join(self.targets)})"

    def to(self, device: torch.device | str) -> Dataset:
        """Return the dataset with its tensors on a device; the dataset itself if they are there."""
        if self.clean.device == torch.device(device):
            return self
        clean, corrupted, scored = (tensor.to(device) for tensor in (self.clean, self.corrupted, self.scored))
        targets = {name: tensor.to(device) for name, tensor in self.targets.items()}
        labels = {name: tensor.to(device) for name, tensor in self.labels.items()}
        moved = Dataset(clean, corrupted, scored, targets, self.about, self.mean_over, self.padding, labels)
        moved.pool = self.pool.to(device)
        return moved

    def resample(self, seed: int) -> Dataset:
        """Return a bootstrap resample: as many prompts, drawn with replacement."""
        return self.select(np.random.default_rng(seed).integers(len(self), size=len(self)).tolist())

    def save(self, path: Path) -> None:
        """Write the dataset to a safetensors file; ``about``, ``mean_over`` and ``padding`` are JSON in its header."""
        tensors = {"clean": self.clean, "corrupted": self.corrupted, "scored": self.scored}
        tensors |= {f"target.{name}": t for name, t in self.targets.items()}
        tensors |= {f"label.{name}": t for name, t in self.labels.items()}
        said = {"about": self.about, "mean_over": self.mean_over, "padding": self.padding}
        write_tensors(tensors, path, "dataset", said)

    @classmethod
    def load(cls, path: Path) -> Dataset:
        """Read a dataset from the file that ``save`` wrote; raise InputError if the file is damaged."""
        with reading(path, "make it again by `acdc dataset`"):
            tensors, said = read_tensors(path, "dataset")
            targets, labels = (
                {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
                for prefix in ("target.", "label.")
            )
            return cls(tensors["clean"], tensors["corrupted"], tensors["scored"], targets, labels=labels, **said)


def answers(targets: dict[str, Shaped[Tensor, "prompt ..."]], name: str) -> Int[Tensor, "prompt answer"]:
    """Return the answers of every prompt: Int[prompt answer], filled up with ``NO_ANSWER``."""
    return targets[name].reshape(len(targets[name]), -1)


def pad(rows: list[list[int]], token: int) -> Int[Tensor, "prompt pos"]:
    """Pad lists of token ids on the right with ``token``, to one tensor."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [token] * (longest - len(row)) for row in rows])
