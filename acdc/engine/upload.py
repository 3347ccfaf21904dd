"""Copy numbers to a device asynchronously, so that the CPU does not wait for the copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from acdc.engine.route import Read
from acdc.engine.runs import Where


def upload(x: Shaped[Tensor, "..."], device: torch.device) -> Shaped[Tensor, "..."]:
    """Copy a CPU tensor to a device, asynchronously from pinned memory for a GPU."""
    if device.type == "cpu":
        return x
    return (x.pin_memory() if device.type == "cuda" and len(x) else x).to(device, non_blocking=True)


class Chosen:
    """Select entries along a tensor's first dimension: as a view if they lie side by side, else as a copy.

    Attributes:
        where: the index of the entries. It is a list until its ``Shipment`` is sent.
    """

    def __init__(self, entries: Sequence[int]) -> None:
        self.entries = list(entries)
        first, n = self.entries[0] if self.entries else 0, len(self.entries)
        is_slice = self.entries == list(range(first, first + n))
        self.where: Where = slice(first, first + n) if is_slice else self.entries

    def __call__(self, x: Shaped[Tensor, "entry ..."]) -> Shaped[Tensor, "chosen ..."]:
        """Return the selected entries."""
        return x[self.where]


class Shipment:
    """Collect indices and weights of sums, and copy them to a device together: one copy for each sort.

    Attributes:
        weights: the weights of each read, Float[receiver term], ones and zeros; available once the shipment is sent.
    """

    def __init__(self) -> None:
        self.indexes: list[Chosen] = []
        self.reads: list[Read] = []
        self.weights: dict[Read, Float[Tensor, "receiver term"]] = {}

    def choose(self, entries: Sequence[int]) -> Chosen:
        """Return the selection of these entries, which can be used once the shipment is sent."""
        chosen = Chosen(entries)
        if not isinstance(chosen.where, slice):
            self.indexes.append(chosen)
        return chosen

    def send(self, like: Tensor) -> None:
        """Copy everything to the device of ``like``, the weights in its precision."""
        if self.indexes:
            numbers = [np.array(chosen.entries) for chosen in self.indexes]
            for chosen, where in zip(self.indexes, together(numbers, torch.int64, like.device), strict=True):
                chosen.where = where
        if self.reads:
            shapes = [read.which.shape for read in self.reads]
            parts = together([read.which.ravel() for read in self.reads], like.dtype, like.device)
            weights = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
            self.weights = dict(zip(self.reads, weights, strict=True))


def together(
    arrays: list[Int[np.ndarray, "_n"]] | list[Bool[np.ndarray, "_n"]], dtype: torch.dtype, device: torch.device
) -> Sequence[Shaped[Tensor, "_n"]]:
    """Copy arrays to a device in one copy."""
    flat = torch.from_numpy(np.concatenate(arrays)).to(dtype)
    return upload(flat, device).split([len(array) for array in arrays])
