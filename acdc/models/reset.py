"""Make reset networks: models whose heads and neurons are permuted, so that they have no circuit.

Reset networks are the control of Conmy et al. 2023 (section 4). A method that also recovers a known circuit from a
reset network does not find it by the model's computation. The weights by which attention and MLPs read the residual
stream are permuted, every tensor on its own. The weights that write to it (W_O, W_out), embeddings, norms and
unembedding stay.

Permutations are drawn on the CPU in the order in which TransformerLens 1.x lists its weights, as in the original's
subnetwork_probing/create_reset_networks.py. So its seeds give its permutations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from jaxtyping import Shaped
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc.errors import InputError

RESET = "reset.json"
"""The file beside a model's weights that holds the arguments of ``reset``."""
ATTENTION = ("W_Q", "W_K", "W_V", "b_Q", "b_K", "b_V")
MLP = ("W_in", "b_in")


@torch.no_grad()
def reset(bridge: TransformerBridge, seed: int, head_outputs: bool) -> None:
    """Permute a model's heads and neurons, in place.

    Args:
        seed: the seed of the permutations.
        head_outputs: whether the dimensions inside heads are permuted too, with one permutation for all heads of a
            tensor. Otherwise attention with one head per layer stays as it is.

    Raises:
        InputError: the model's weights cannot be written to, or the permutations leave them as they are (one head and
            one neuron per layer have no other order).
    """
    permuted = list(permuted_weights(bridge, torch.Generator().manual_seed(seed), head_outputs))
    if all(torch.equal(getattr(module, name), weight) for module, name, weight in permuted):
        raise InputError(
            f"reset with seed {seed} leaves the model as it is: give it another seed, or head_outputs where it has"
            " one head a layer"
        )
    for module, name, weight in permuted:
        getattr(module, name).copy_(weight)
    # Some bridges show a copy of a weight, and writing to it changes nothing.
    for module, name, weight in permuted:
        if not torch.equal(getattr(module, name), weight):
            refuse(bridge, name)


def refuse(bridge: TransformerBridge, name: str) -> NoReturn:
    """Raise InputError for a weight that cannot be written to."""
    raise InputError(f"a model of the kind {bridge.cfg.architecture} cannot be reset: its {name} cannot be written to")


def permuted_weights(
    bridge: TransformerBridge, generator: torch.Generator, head_outputs: bool
) -> Iterator[tuple[Any, str, Tensor]]:
    """Yield the module, name and new value of every permuted weight."""
    for block in bridge.blocks:
        for name, weight in weights_named(bridge, block.attn, ATTENTION):
            heads = permute(weight, 0, generator)
            yield block.attn, name, permute(heads, -1, generator) if head_outputs else heads
        if not bridge.cfg.attn_only:
            for name, weight in weights_named(bridge, block.mlp, (*MLP, "W_gate") if bridge.cfg.gated_mlp else MLP):
                yield block.mlp, name, permute(weight, -1, generator)


def weights_named(bridge: TransformerBridge, module: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a block's attention or MLP by these names; raise InputError if one but a bias is missing."""
    for name in names:
        weight = getattr(module, name, None)
        if weight is not None:
            yield name, weight
        elif name.startswith("W"):
            refuse(bridge, name)


def permute(weight: Shaped[Tensor, "..."], dim: int, generator: torch.Generator) -> Shaped[Tensor, "..."]:
    """Return a copy in a random order along one dimension."""
    order = torch.randperm(weight.shape[dim], generator=generator)
    return weight.index_select(dim, order.to(weight.device))
