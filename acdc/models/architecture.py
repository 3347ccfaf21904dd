"""What the engine must know of a model: one declared record and its weights. No TransformerLens here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc.errors import InputError
from acdc.graph import Graph

Norm = Literal["layer", "rms", "none"]
Positions = Literal["learned", "rotary", "shortformer"]
Activation = Literal["gelu", "gelu_new", "relu", "silu"]


@dataclass(frozen=True)
class Architecture:
    """A transformer with pre-norm blocks; what differs between models is declared here.

    Attributes:
        d_mlp: 0 for attention-only models.
        positions: ``shortformer`` adds position embeddings to the normed inputs of q and k only (Press et al. 2021).
        parallel: an MLP reads what its layer's heads read, not what they write (Pythia, GPT-J).
        causal: a position sees itself and earlier ones only; else every position sees every other.
        rotary_dim: how many dimensions of a head are rotated, the first ones.
        rotary_adjacent: rotary positions pair dimensions (0, 1), (2, 3), ... (TransformerLens native), else
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
        """Raises InputError where token and position embeddings cannot be told apart."""
        if split_embed:
            self.check_learned("split_embed")
        return Graph(self.n_layers, self.n_heads, self.n_kv_heads, self.d_mlp > 0, split_embed, self.parallel)

    def check_learned(self, setting: str) -> None:
        """Raises InputError where the residual stream has no position embeddings; ``setting`` needs them."""
        if self.positions != "learned":
            raise InputError(
                f"{setting} needs position embeddings in the residual stream and this model has {self.positions} ones:"
                " leave it out for this model"
            )


def rotary_tables(
    architecture: Architecture,
) -> tuple[Float[Tensor, "n_ctx rotary_dim"], Float[Tensor, "n_ctx rotary_dim"]]:
    """Cosine and sine of every position's rotation (Su et al. 2021), in the architecture's pairing of dimensions."""
    dim = architecture.rotary_dim
    frequency = 1.0 / architecture.rotary_base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.outer(torch.arange(architecture.n_ctx, dtype=torch.float32), frequency)
    angle = angle.repeat_interleave(2, -1) if architecture.rotary_adjacent else torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


class Linear:
    """``x @ w + b`` with a weight that is packed once for the processor.

    On a CPU in float32 this is oneDNN's product, as torch's compiler uses it: on AMD processors with AVX-512
    it is more than twice as fast as the one behind ``@`` (benchmarks/matmul.py). Gradients with respect to ``x``
    are such products too; with respect to weights there are none.

    Args:
        w: Float[d_in d_out].
        b: Float[d_out].
    """

    def __init__(self, w: Float[Tensor, "d_in d_out"], b: Float[Tensor, "d_out"] | None = None) -> None:
        self.w, self.b, self.packed = w, b, None
        if onednn_covers(w):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(w.T.contiguous())

    def __call__(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        if self.packed is not None:
            return Product.apply(x, self) if x.requires_grad else product(x, self.packed, self.b)
        return x @ self.w if self.b is None else x @ self.w + self.b

    @cached_property
    def packed_back(self) -> Tensor:
        """The transposed weight, for gradients."""
        return torch.ops.mkldnn._reorder_linear_weight(self.w.contiguous())


def product(x: Float[Tensor, "... d_in"], packed: Tensor, b: Float[Tensor, "d_out"] | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, b, "none", [], "")


class Product(torch.autograd.Function):
    """``Linear`` where ``x`` wants a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "... d_in"], linear: Linear) -> Float[Tensor, "... d_out"]:
        ctx.linear = linear
        return product(x, linear.packed, linear.b)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "... d_out"]) -> tuple[Float[Tensor, "... d_in"], None]:
        return product(gradient, ctx.linear.packed_back, None), None


def sums(which: Bool[np.ndarray, "sum term"], terms: Float[Tensor, "term ..."]) -> Float[Tensor, "sum ..."]:
    """Sums of some of the terms, by oneDNN where ``Linear`` uses it."""
    flat = terms.flatten(1)
    if len(which) == 1 and flat.device.type == "cpu":
        # A product would read all terms.
        return sum_of([terms[i] for i in which[0].nonzero()[0]])[None]
    weight = torch.from_numpy(which.astype(np.float32)).to(flat.device, flat.dtype)
    if onednn_covers(flat):
        out = torch.ops.mkldnn._linear_pointwise(weight, flat.T, None, "none", [], "")
    else:
        out = weight @ flat
    return out.unflatten(1, terms.shape[1:])


def sum_of(terms: list[Tensor]) -> Tensor:
    result = terms[0].clone()
    for term in terms[1:]:
        result += term
    return result


def onednn_covers(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


@dataclass
class Block:
    """Weights of one layer. Ports are the q heads, then k, then v: the order of ``Graph.receivers``.

    Norm weights are None without a norm; a bias of None is zero. ``w_gate`` is None in ungated MLPs.
    """

    ln1_w: Float[Tensor, "d_model"] | None
    ln1_b: Float[Tensor, "d_model"] | None
    w_port: Float[Tensor, "port d_model d_head"]
    b_port: Float[Tensor, "port d_head"]
    w_o: Float[Tensor, "head d_head d_model"]
    b_o: Float[Tensor, "d_model"]
    ln2_w: Float[Tensor, "d_model"] | None = None
    ln2_b: Float[Tensor, "d_model"] | None = None
    w_gate: Float[Tensor, "d_model d_mlp"] | None = None
    w_in: Float[Tensor, "d_model d_mlp"] | None = None
    b_in: Float[Tensor, "d_mlp"] | None = None
    w_out: Float[Tensor, "d_mlp d_model"] | None = None
    b_out: Float[Tensor, "d_model"] | None = None

    @cached_property
    def ports(self) -> list[Linear]:
        """The projection of each port."""
        return [Linear(w, b) for w, b in zip(self.w_port, self.b_port, strict=True)]

    @cached_property
    def all_ports(self) -> Linear:
        """The projections of all ports side by side."""
        return Linear(self.w_port.transpose(0, 1).flatten(1), self.b_port.flatten())

    @cached_property
    def all_outputs(self) -> Linear:
        """The sum of what all heads project back to the residual stream, and the bias that they share."""
        return Linear(self.w_o.flatten(0, 1), self.b_o)

    @cached_property
    def outputs(self) -> list[Linear]:
        """Each head's projection back to the residual stream, without the bias that all share."""
        return [Linear(w) for w in self.w_o]

    @cached_property
    def gate(self) -> Linear:
        """The MLP's gate projection."""
        return Linear(self.w_gate)

    @cached_property
    def up(self) -> Linear:
        """The MLP's projection to its hidden layer."""
        return Linear(self.w_in, self.b_in)

    @cached_property
    def down(self) -> Linear:
        """The MLP's projection back to the residual stream."""
        return Linear(self.w_out, self.b_out)


@dataclass
class Weights:
    """A model as the engine computes it."""

    architecture: Architecture
    embed: Float[Tensor, "d_vocab d_model"]
    pos_embed: Float[Tensor, "n_ctx d_model"] | None
    blocks: list[Block]
    ln_final_w: Float[Tensor, "d_model"] | None
    ln_final_b: Float[Tensor, "d_model"] | None
    unembed: Float[Tensor, "d_model d_vocab"]
    b_unembed: Float[Tensor, "d_vocab"] | None
    rotary_cos: Float[Tensor, "n_ctx rotary_dim"] | None = None
    rotary_sin: Float[Tensor, "n_ctx rotary_dim"] | None = None

    @cached_property
    def readout(self) -> Linear:
        """The unembedding."""
        return Linear(self.unembed, self.b_unembed)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Weights:
        """A copy with every tensor on ``device`` in ``dtype``."""

        def move(record):
            values = {field.name: getattr(record, field.name) for field in fields(record)}
            return {k: v.to(device, dtype) if isinstance(v, Tensor) else v for k, v in values.items()}

        return Weights(**{**move(self), "blocks": [Block(**move(block)) for block in self.blocks]})
