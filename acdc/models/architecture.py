"""Describe a model's architecture in one object; torch is not needed."""

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
"""Whether query heads that share a key and a value share its ports, as they share its weights, or each has its own
ports, as in EAP-IG."""


@dataclass(frozen=True)
class Architecture:
    """Describe how a transformer differs from others whose heads and MLPs add to one residual stream.

    Attributes:
        d_mlp: the width of the MLPs' hidden layers; 0 for attention-only models.
        positions: how positions enter. ``shortformer`` adds position embeddings to the normed inputs of q and k only
            (Press et al. 2021); ``alibi`` lowers attention scores with distance (Press et al. 2022).
        activation: the activation function of MLPs; None for attention-only models, and if ``black_box``.
        parallel: whether an MLP reads the residual stream before its layer's heads write to it (Pythia, GPT-J).
        causal: whether a position sees only itself and earlier ones; otherwise every position sees every other.
        rotary_dim: the number of dimensions of a head that are rotated, the first ones.
        rotary_adjacent: whether rotations pair dimensions (0, 1), (2, 3), ... (TransformerLens native) or else
            (i, i + rotary_dim / 2) (Llama).
        rotations: for each layer, the index of its table of rotations, -1 for none; empty if all layers use the only
            table.
        windows: for each layer, the number of positions that a query sees, itself among them, 0 for all; empty if
            queries in all layers see all.
        norm_before: whether heads and MLPs read the residual stream through a norm (not so in OLMo 2).
        norm_after: whether the sum of a layer's heads goes through a norm, and the output of its MLP, see
            ``acdc.engine.runs.scale_after``.
        query_key_norm: whether norms of q and k take each head by itself or all heads together; None without norms.
        attention_cap, logit_cap: c, where attention scores or logits x become c tanh(x / c); None for no cap.
        clip: c, where q, k and v are clipped to [-c, c]; None for no clipping.
        black_box: whether MLPs are computed by the model's own modules, such as mixtures of experts.
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
        """Return the architecture that a JSON object of its fields describes; raise TypeError for an unknown field."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return cls(**fields)

    def rotation(self, layer: int) -> int | None:
        """Return the index of the table of rotations that a layer uses; None if the layer does not rotate q and k."""
        table = self.rotations[layer] if self.rotations else 0
        return table if self.positions == "rotary" and table >= 0 else None

    def window(self, layer: int) -> int:
        """Return the number of positions that a layer's queries see; 0 for all."""
        return self.windows[layer] if self.windows else 0

    @property
    def embeds_positions(self) -> bool:
        """Return whether the model has position embeddings, wherever they are added."""
        return self.positions in ("learned", "shortformer")

    @property
    def scales_after(self) -> bool:
        """Return whether the norm before the ports can divide their results in place of their inputs.

        An RMS norm divides a row by one number, so it can, if nothing is added after the norm.
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
        """Return the model's graph; raise InputError if token and position embeddings cannot be two senders."""
        if split_embed:
            self.check_learned("split_embed")
        has_mlp = self.d_mlp > 0
        shape = (self.n_layers, self.n_heads, self.n_kv_heads, has_mlp, split_embed, self.parallel)
        return Graph(*shape, coupled=self.is_coupled)

    def check_learned(self, setting: str) -> None:
        """Check that the residual stream has position embeddings, which ``setting`` needs; raise InputError if not."""
        if self.positions != "learned":
            raise InputError(
                f"{setting} needs position embeddings in the residual stream and this model has {self.positions} ones:"
                " leave it out for this model"
            )
