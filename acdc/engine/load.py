"""Make an engine from weights and a dataset, and collect the settings that determine what a search on it finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from acdc import __version__, fingerprint
from acdc.ablation import Ablation, named
from acdc.catalogue import Precision
from acdc.data import Dataset
from acdc.engine.check import Expected, check_engine
from acdc.engine.linear import products
from acdc.engine.memory import MemoryGiB, check_memory, copies, for_candidates, held, of_weights
from acdc.engine.model import Engine
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.models.architecture import KvHeads

LIBRARIES = ("torch", "transformer_lens", "transformers", "numpy", "scipy")


@dataclass(frozen=True)
class Options:
    """Hold the options by which an engine computes.

    Attributes:
        ablation: the ablation, or its name in the catalogue.
        split_embed: whether token and position embeddings are two senders.
        device: the device, see ``device_of``.
        precision: ``float32``, ``float64`` or ``mixed``. ``mixed`` tries edges in lower precision, and computes in
            float32 where such a measurement could mislead, see ``acdc.engine.mixed``. The circuit is that of float32;
            effects in the trace are less exact.
        memory_gib: the memory for candidates (edges that are tried together), in GiB. Less is slower. Every edge is
            tried in the same order. Effects differ by rounding (float32: some 1e-7 of the metric), so a decision can
            differ only if its effect is that near to the threshold, of which a search warns. ``evaluations`` differs,
            since it counts tries that did not count. ``auto`` takes most of what a GPU has free, and 2 on a CPU, whose
            cache is smaller than that.
        kv_heads: whether query heads that share a key and a value share its ports (``grouped``), or each has its own
            (``per_query_head``), as in EAP-IG and MIB, so that an edge into a key can be removed for one query head.
    """

    ablation: Ablation | str = "corrupted"
    split_embed: bool = False
    device: str = "auto"
    precision: Precision = "float32"
    memory_gib: MemoryGiB = "auto"
    kv_heads: KvHeads = "grouped"

    def place(self, weights: Weights, are_mapped: bool = False) -> Weights:
        """Return the weights on the device and in the precision to compute in.

        Args:
            are_mapped: whether the weights are mapped from their file and not yet in memory.

        Raises:
            InputError: there is no such device, or the weights do not fit into its memory.
        """
        device, dtype = device_of(self.device), torch.float64 if self.precision == "float64" else torch.float32
        is_held = not are_mapped and (weights.embed.device.type, weights.embed.dtype) == (device.type, dtype)
        n_copies = copies(device, dtype) - is_held
        needed = n_copies * of_weights(weights.architecture, dtype.itemsize)
        if self.precision == "mixed" and device.type != "cuda":
            needed += of_weights(weights.architecture, torch.bfloat16.itemsize)
        check_memory(needed, device, "the model's weights")
        placed = weights.to(device, dtype)
        is_shared = placed.architecture.n_kv_heads < placed.architecture.n_heads
        return placed.per_query_head() if is_shared and self.kv_heads == "per_query_head" else placed

    def engine(self, weights: Weights, data: Dataset, expected: Callable[[], Expected] | None) -> Engine:
        """Return the engine of placed weights on a dataset.

        Args:
            expected: a function that returns the logits that the engine must have, called once the prompts fit the
                model; None for no comparison.

        Raises:
            InputError: the prompts do not fit the model or the device's memory, or the logits differ, see
                ``check_engine``.
        """
        check_fits(weights, data)
        if self.memory_gib != "auto" and not self.memory_gib > 0:
            raise InputError(f"memory_gib is {self.memory_gib}: give auto, or more than 0 GiB")
        named(self.ablation).check(data)
        device, graph = weights.embed.device, weights.architecture.graph(self.split_embed)
        is_mixed = self.precision == "mixed"
        needed = held(weights.architecture, graph, data, weights.embed.element_size(), is_mixed)
        check_memory(needed, device, f"{len(data)} prompts of up to {data.clean.shape[1]} tokens")
        memory = for_candidates(device, needed) if self.memory_gib == "auto" else round(self.memory_gib * 2**30)
        made = Engine(
            weights, data, ablation=self.ablation, split_embed=self.split_embed, memory=memory, mixed=is_mixed
        )
        if expected:
            check_engine(made, expected())
        return made


def device_of(name: str) -> torch.device:
    """Return the device of that name: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``, which takes CUDA if there is a GPU.

    Raises:
        InputError: there is no such device.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise InputError(f"acdc does not compute on {name!r}: give auto, cpu, cuda, or cuda:1 for the second GPU")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        has = f"torch finds {n_gpus} of them" if n_gpus else "torch finds no GPU here"
        raise InputError(f"device {name} is a GPU and {has}: give --device cpu, or auto")
    return device


def check_fits(weights: Weights, data: Dataset) -> None:
    """Check that the model takes prompts of this length and has all of their tokens; raise InputError if not."""
    tokens, n_ctx, last = torch.cat([data.clean, data.corrupted]), weights.architecture.n_ctx, len(weights.embed) - 1
    if tokens.shape[1] > n_ctx:
        raise InputError(f"a prompt has {tokens.shape[1]} tokens and the model takes {n_ctx}: shorten the prompts")
    wrong = tokens[(tokens < 0) | (tokens > last)].tolist()
    if wrong:
        raise InputError(
            f"the prompts have token {wrong[0]} and the model's are 0 to {last}: make them with this model's tokenizer"
        )
    largest = max([int(data.targets[name].max()) for name in ("correct", "incorrect") if name in data.targets] or [0])
    if largest >= weights.unembed.shape[1]:
        raise InputError(f"an answer is token {largest} and the model's are 0 to {last}: use this model's tokenizer")


def versions() -> dict[str, str]:
    """Return the versions of acdc and of the libraries that it computes with."""
    return {"acdc": __version__, **{name: version(name) for name in LIBRARIES}}


def settings_of(
    labels: dict[str, str],
    own: dict[str, Any],
    weights_sha256: str,
    data: Dataset,
    *,
    split_embed: bool,
    precision: Precision,
    kv_heads: KvHeads,
) -> dict[str, Any]:
    """Return the settings that determine what a search finds, except the device and the value that sets the size.

    Args:
        labels: the names of ``method``, ``metric`` and ``ablation`` in the catalogue, and further labels of the search
            in tables.
        own: the method's settings.
    """
    return {
        **labels,
        **own,
        "split_embed": split_embed,
        "code_sha256": fingerprint.of_search(labels["method"], labels["metric"], labels["ablation"]),
        "weights_sha256": weights_sha256,
        "dataset_sha256": data.sha256,
        "bos": data.about.get("bos"),
        "versions": versions(),
        "precision": precision,
        "kv_heads": kv_heads,
        # Two ways to multiply round differently, so that a machine's processor is part of what is found.
        "products": products(),
    }
