"""Describe a model's architecture in one record, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from acdc.errors import InputError
from acdc.graph import Graph

Norm = Literal["layer", "rms", "none"]
Positions = Literal["learned", "rotary", "shortformer"]
Activation = Literal["gelu", "gelu_new", "relu", "silu"]


@dataclass(frozen=True)
class Architecture:
    """Declare what differs between transformers with pre-norm blocks.

    Attributes:
        d_mlp: 0 for attention-only models.
        positions: ``shortformer`` adds position embeddings to the normed inputs of q and k only (Press et al. 2021).
        parallel: whether an MLP reads what its layer's heads read, not what they write (Pythia, GPT-J).
        causal: whether a position sees itself and earlier ones only; else every position sees every other.
        rotary_dim: how many dimensions of a head are rotated; they are the first ones.
        rotary_adjacent: whether rotations pair dimensions (0, 1), (2, 3), ... (TransformerLens native) or else
            (i, i + rotary_dim / 2) (Llama).
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: Norm
    eps: float
    positions: Positions
    activation: Activation | None
    gated: bool
    parallel: bool = False
    causal: bool = True
    rotary_dim: int | None = None
    rotary_base: float | None = None
    rotary_adjacent: bool = False

    def graph(self, split_embed: bool = False) -> Graph:
        """Return the model's graph. Raises InputError where token and position embeddings cannot be told apart."""
        if split_embed:
            self.check_learned("split_embed")
        return Graph(self.n_layers, self.n_heads, self.n_kv_heads, self.d_mlp > 0, split_embed, self.parallel)

    def check_learned(self, setting: str) -> None:
        """Raise InputError where the residual stream has no position embeddings, which ``setting`` needs."""
        if self.positions != "learned":
            raise InputError(
                f"{setting} needs position embeddings in the residual stream and this model has {self.positions} ones:"
                " leave it out for this model"
            )
