"""Describe a model's architecture in one record, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from acdc.errors import InputError
from acdc.graph import Graph

Norm = Literal["layer", "rms", "none"]
Positions = Literal["learned", "rotary", "shortformer", "alibi"]
Activation = Literal["gelu", "gelu_new", "relu", "relu2", "silu"]
QueryKeyNorm = Literal["each head", "all heads", "each head, rotated"]
KvHeads = Literal["grouped", "per_query_head"]
"""Whether heads that share a key and a value are one port, as they are one weight, or a port each, as in EAP-IG."""


@dataclass(frozen=True)
class Architecture:
    """Declare what differs between transformers whose heads and MLPs add to one residual stream.

    Attributes:
        d_mlp: 0 for attention-only models.
        positions: ``shortformer`` adds position embeddings to the normed inputs of q and k only (Press et al. 2021);
            ``alibi`` lowers attention scores with distance (Press et al. 2022).
        activation: None for attention-only models, and where ``black_box``.
        parallel: whether an MLP reads what its layer's heads read, not what they write (Pythia, GPT-J).
        causal: whether a position sees itself and earlier ones only; else every position sees every other.
        rotary_dim: how many dimensions of a head are rotated; they are the first ones.
        rotary_adjacent: whether rotations pair dimensions (0, 1), (2, 3), ... (TransformerLens native) or else
            (i, i + rotary_dim / 2) (Llama).
        rotations: for each layer, which of the model's tables it rotates by, -1 for none; empty where all layers rotate
            by the only one.
        windows: for each layer, how many positions a query sees, itself among them, 0 for all; empty where all
            layers see all.
        norm_before: whether heads and MLPs read the residual stream through a norm (OLMo 2 does not).
        norm_after: whether what a layer's heads write together goes through a norm, and what its MLP writes, see
            ``acdc.engine.runs.scale_after``.
        query_key_norm: what a norm of q and of k takes together; None without such norms.
        attention_cap, logit_cap: c, where scores or logits x become c tanh(x / c); None where they stay.
        clip: c, where q, k and v are clipped to [-c, c]; None where they are not.
        black_box: whether MLPs are the model's own modules, such as mixtures of experts.
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
    rotations: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    norm_before: bool = True
    norm_after: bool = False
    query_key_norm: QueryKeyNorm | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None
    clip: float | None = None
    black_box: bool = False

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Architecture:
        """Return the architecture of a JSON object of its fields. Raises TypeError for a field that it has not."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return cls(**fields)

    def rotation(self, layer: int) -> int | None:
        """Return which table of rotations a layer uses; None where it does not rotate."""
        table = self.rotations[layer] if self.rotations else 0
        return table if self.positions == "rotary" and table >= 0 else None

    def window(self, layer: int) -> int:
        """Return how many positions a layer's queries see; 0 for all."""
        return self.windows[layer] if self.windows else 0

    @property
    def embeds_positions(self) -> bool:
        """Return whether the model has embeddings of positions, wherever they are added."""
        return self.positions in ("learned", "shortformer")

    @property
    def scales_after(self) -> bool:
        """Return whether the norm before the ports can divide their results in place of their inputs.

        That is so of an RMS norm, which divides a row by one number, if nothing is added behind it.
        """
        return self.norm_before and self.norm == "rms" and self.positions != "shortformer"

    @property
    def is_coupled(self) -> bool:
        """Return whether a layer's heads share a norm, see ``Graph``."""
        return self.norm_after or self.query_key_norm == "all heads"

    def per_query_head(self) -> Architecture:
        """Return the architecture with a key and a value head for each query head."""
        return replace(self, n_kv_heads=self.n_heads)

    def graph(self, split_embed: bool = False) -> Graph:
        """Return the model's graph. Raises InputError where token and position embeddings cannot be told apart."""
        if split_embed:
            self.check_learned("split_embed")
        has_mlp = self.d_mlp > 0
        shape = (self.n_layers, self.n_heads, self.n_kv_heads, has_mlp, split_embed, self.parallel)
        return Graph(*shape, coupled=self.is_coupled)

    def check_learned(self, setting: str) -> None:
        """Raise InputError where the residual stream has no position embeddings, which ``setting`` needs."""
        if self.positions != "learned":
            raise InputError(
                f"{setting} needs position embeddings in the residual stream and this model has {self.positions} ones:"
                " leave it out for this model"
            )
