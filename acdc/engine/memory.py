"""Bound the memory, in bytes, that a search needs beside the model's weights.

The memory that a search always holds grows with the prompts (``resident``). The memory for candidates on top
(``per_candidate``) is capped by ``Engine.memory``: with less, fewer candidates are tried at once. If one candidate of
all prompts does not fit, the prompts go through the model in chunks. Neither changes a decision. A test compares the
engine with these bounds.

The formulas leave out the pruned receiver's own input in float64, attention scores, the temporary memory of the plain
runs while a chunk is made, and the senders' fixed outputs under zero and mean ablation, which are of one prompt.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Literal

import torch

from acdc.data import Dataset
from acdc.engine.linear import products
from acdc.engine.resident import resident
from acdc.engine.route import Plan
from acdc.engine.runs import Rows
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.graph import Graph, any_along
from acdc.models.architecture import Architecture

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Settings of glibc's ``mallopt`` (malloc.h)."""
DEFAULT = 2**31
"""The bytes for candidates on a CPU."""
MemoryGiB = float | Literal["auto"]


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for reuse, instead of returning it to the operating system.

    A search frees and takes tensors of tens of MiB all the time. The operating system fills fresh pages with zeros,
    which took a fifth of a KL search's time (benchmarks/history.md). This is for a process that does nothing else, and
    works only with glibc.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_TRIM_THRESHOLD, -1)  # never trim
        library.mallopt(M_MMAP_MAX, 0)  # take large blocks from the heap too


def of_weights(architecture: Architecture, itemsize: int) -> int:
    """Return the bytes of a model's weights as the engine holds them, without biases, norms and rotations.

    The projections of heads are held twice where an RMS norm's weight is multiplied into them.
    """
    a = architecture
    ports = a.n_layers * (a.n_heads + 2 * a.n_kv_heads) * a.d_model * a.d_head
    outputs = a.n_layers * a.n_heads * a.d_head * a.d_model
    mlps = a.n_layers * (2 + a.gated) * a.d_model * a.d_mlp
    numbers = 2 * a.d_vocab * a.d_model + (2 if a.norm == "rms" else 1) * ports + outputs + mlps
    return itemsize * numbers


def copies(device: torch.device, dtype: torch.dtype) -> int:
    """Return the number of copies of the weights in memory: 2 if they are packed (``acdc.engine.linear``), else 1."""
    return 2 if device.type == "cpu" and dtype == torch.float32 and products() == "onednn" else 1


def held(architecture: Architecture, graph: Graph, dataset: Dataset, itemsize: int, mixed: bool = False) -> int:
    """Return the bytes that a search on a dataset always holds beside the weights, if all its rows are live."""
    return resident(architecture, graph, dataset.clean.numel(), int(dataset.scored.sum()), itemsize, mixed)


def free(device: torch.device) -> int | None:
    """Return the bytes that a device has free for this process; None if the system does not tell."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    told = Path("/proc/meminfo")  # Linux
    if device.type != "cpu" or not told.exists():
        return None
    lines = dict(line.split(":") for line in told.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 2**10


def for_candidates(device: torch.device, needed: int) -> int:
    """Return the default bytes for candidates: most of what a GPU has free, or 2 GiB.

    Args:
        needed: the bytes of everything else that will be held on the device.
    """
    available = free(device) if device.type == "cuda" else None
    return DEFAULT if available is None else max(DEFAULT, (available - needed) * 3 // 4)


def check_memory(needed: int, device: torch.device, what: str) -> None:
    """Check that a device has as many bytes free as something needs; raise InputError with both numbers if not."""
    available = free(device)
    if available is not None and needed > available:
        raise InputError(
            f"{what} need {needed / 2**30:.1f} GiB on {device} and {available / 2**30:.1f} GiB are free:"
            " take fewer or shorter prompts, a smaller model, or a machine with more memory"
        )


def per_candidate(
    architecture: Architecture, plan: Plan, layer: int, rows: Rows, itemsize: int, mixed: bool = False
) -> int:
    """Return an upper bound of the bytes that one candidate needs for a change in ``layer``.

    All later nodes may change. The candidate needs the changes of senders, and the inputs and values of receivers that
    some edge enters. While the widest layer is computed it needs the sums into its ports, or its MLP's hidden layer.
    Logits come on top, see ``acdc.engine.model.LOGIT_BYTES``.

    Args:
        mixed: whether the candidate is computed by products of changes, which are held beside their factors.
    """
    a, graph = architecture, plan.graph
    n_scored, n_live = plan.capacity(slice(graph.first_sender(layer), None))
    first = graph.first_receiver(layer)
    alive = any_along(plan.present[:, first:], 0)
    all_live = int((alive & plan.all_live[first:]).sum())
    inputs = (all_live + n_live) * len(rows.live) + (len(alive) - all_live + n_scored) * len(rows.scored)
    changes = n_live * len(rows.live) + n_scored * len(rows.scored)
    # A port's value is kept at all rows, and with it, at most, its share of z.
    values = 2 * (all_live * rows.n + (len(alive) - all_live) * len(rows.scored))
    busy = (1 + mixed) * max(2 * graph.n_ports * a.d_model, (2 + a.gated) * a.d_mlp)
    busy *= len(rows.live) if all_live else len(rows.scored)
    return itemsize * ((inputs + changes) * a.d_model + values * a.d_head + busy)


def prompts_per_chunk(weights: Weights, graph: Graph, dataset: Dataset, memory: int) -> int:
    """Return for how many prompts a candidate that changes everything fits into ``memory`` bytes; at least one."""
    a = weights.architecture
    of_layer = (graph.n_ports + 3) * a.d_model + 2 * graph.n_ports * a.d_head
    busy = max(2 * graph.n_ports * a.d_model, (2 + a.gated) * a.d_mlp)
    per_row = (a.n_layers * of_layer + len(graph.senders) * a.d_model + busy) * weights.embed.element_size()
    return max(1, min(len(dataset), memory // (per_row * dataset.clean.shape[1])))
