"""Clean and corrupted prompts, and what of them is judged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(eq=False)
class Dataset:
    """Clean prompts with a corrupted one for each, token by token.

    Prompts shorter than the longest are padded on the right: where attention is causal, padding after the
    scored positions changes nothing. A model whose attention is not needs prompts of one length.

    Attributes:
        clean, corrupted: Int[prompt pos], token ids.
        scored: Bool[prompt pos], the positions whose next-token logits the metric reads.
        targets: by name, one entry a prompt: answer tokens such as ``correct`` and ``incorrect``, Int[prompt];
            ``outputs``, the right logits of a model that computes something known, Float[prompt pos d_vocab_out], and
            ``corrupted_outputs``, those of the corrupted prompts.
        about: what the file should say of itself: task, seed, tokenizer, texts.
        mean_over: what a metric's mean is over: ``prompts`` (of each prompt's mean over its scored positions) or
            ``positions`` (all scored ones alike).
        pool: Int[prompt pos], the corrupted prompts that mean ablation takes the mean over: a selection's are those of
            the dataset that it is of. Not saved: a loaded dataset's are its own.
    """

    clean: Int[Tensor, "prompt pos"]
    corrupted: Int[Tensor, "prompt pos"]
    scored: Bool[Tensor, "prompt pos"]
    targets: dict[str, Shaped[Tensor, "prompt ..."]]
    about: dict[str, Any] = field(default_factory=dict)
    mean_over: Literal["prompts", "positions"] = "prompts"
    pool: Int[Tensor, "prompt pos"] = None  # its own, see __post_init__

    def __post_init__(self) -> None:
        self.pool = self.corrupted if self.pool is None else self.pool
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
        """Prompt and position of every scored position, by prompt and then position."""
        prompt, pos = self.scored.nonzero(as_tuple=True)
        return prompt, pos

    @property
    def weight(self) -> Float[Tensor, "row"]:
        """Return the weights by which the mean of a metric sums its values, in float64, see ``mean_over``."""
        prompt, _ = self.scored_rows
        if self.mean_over == "positions":
            return torch.full((len(prompt),), 1.0 / len(prompt), dtype=torch.float64)
        return 1.0 / (self.scored.sum(1)[prompt].double() * len(self))

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of tokens, scored positions and targets: what results are computed of."""
        digest = hashlib.sha256(self.mean_over.encode())
        parts = {"clean": self.clean, "corrupted": self.corrupted, "scored": self.scored, **self.targets}
        for name, tensor in sorted(parts.items()):
            digest.update(
                f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes()
            )
        return digest.hexdigest()

    def share(self, part: Dataset) -> float:
        """How much of this dataset's mean is that of a part of it."""
        if self.mean_over == "prompts":
            return len(part) / len(self)
        return (part.scored.sum() / self.scored.sum()).item()

    def select(self, prompts: slice | list[int]) -> Dataset:
        """Some of the prompts, with their texts in ``about``."""
        chosen = range(len(self))[prompts] if isinstance(prompts, slice) else prompts
        texts = {k: [self.about[k][i] for i in chosen] for k in ("clean", "corrupted") if k in self.about}
        about = {**self.about, **texts}
        targets = {name: t[prompts] for name, t in self.targets.items()}
        tokens = self.clean[prompts], self.corrupted[prompts], self.scored[prompts]
        return Dataset(*tokens, targets, about, self.mean_over, self.pool)

    def resample(self, seed: int) -> Dataset:
        """As many prompts, drawn with replacement: a bootstrap resample."""
        return self.select(np.random.default_rng(seed).integers(len(self), size=len(self)).tolist())

    def save(self, path: Path) -> None:
        """One safetensors file; ``about`` and ``mean_over`` are JSON in its header."""
        tensors = {"clean": self.clean, "corrupted": self.corrupted, "scored": self.scored}
        tensors |= {f"target.{name}": t for name, t in self.targets.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        # One entry: the order of several would not be the same on every run.
        header = {"dataset": json.dumps({"about": self.about, "mean_over": self.mean_over})}
        save_file({k: t.contiguous() for k, t in tensors.items()}, path, header)

    @classmethod
    def load(cls, path: Path) -> Dataset:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            header = json.loads(file.metadata()["dataset"])
        targets = {k.removeprefix("target."): t for k, t in tensors.items() if k.startswith("target.")}
        return cls(tensors["clean"], tensors["corrupted"], tensors["scored"], targets, **header)


def pad(rows: list[list[int]], token: int) -> Int[Tensor, "prompt pos"]:
    """Token lists of any lengths as one tensor, padded on the right with ``token``."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [token] * (longest - len(row)) for row in rows])
