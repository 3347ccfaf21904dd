"""Multiply by packed weights, and sum chosen terms."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Linear:
    """Compute ``x @ w + b`` with a weight that is packed once for the processor.

    On a CPU in float32 this is oneDNN's product, which torch's compiler uses too. On AMD processors with AVX-512 it is
    more than twice as fast as ``@`` (benchmarks/matmul.py). Gradients with respect to ``x`` are such products too.
    Weights get no gradient.

    Args:
        w: Float[d_in d_out].
        b: Float[d_out].
    """

    def __init__(self, w: Float[Tensor, "d_in d_out"], b: Float[Tensor, "d_out"] | None = None) -> None:
        self.w, self.b = w, b
        self.packed: Tensor | None = None
        if onednn_covers(w):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(w.T.contiguous())

    def __call__(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        if self.packed is not None:
            return Product.apply(x, self) if x.requires_grad else product(x, self.packed, self.b)
        return x @ self.w if self.b is None else x @ self.w + self.b

    @cached_property
    def packed_back(self) -> Tensor:
        """Return the transposed weight, packed, for gradients."""
        return torch.ops.mkldnn._reorder_linear_weight(self.w.contiguous())


def product(x: Float[Tensor, "... d_in"], packed: Tensor, b: Float[Tensor, "d_out"] | None) -> Tensor:
    """Compute oneDNN's product with a packed weight."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, b, "none", [], "")


class Product(torch.autograd.Function):
    """Compute ``Linear`` where ``x`` needs a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "... d_in"], linear: Linear) -> Float[Tensor, "... d_out"]:
        assert linear.packed is not None  # Linear comes here for packed weights only
        ctx.linear = linear
        return product(x, linear.packed, linear.b)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "... d_out"]) -> tuple[Float[Tensor, "... d_in"], None]:
        return product(gradient, ctx.linear.packed_back, None), None


def sums(which: Bool[np.ndarray, "sum term"], terms: Float[Tensor, "term ..."]) -> Float[Tensor, "sum ..."]:
    """Sum some of the terms, for each row of ``which``. It uses oneDNN where ``Linear`` does."""
    flat = terms.flatten(1)
    if len(which) == 1 and flat.device.type == "cpu":
        # A product would read all terms, not only the chosen ones.
        return sum_of([terms[i] for i in which[0].nonzero()[0]])[None]
    weight = torch.from_numpy(which.astype(np.float32)).to(flat.device, flat.dtype)
    if onednn_covers(flat):
        out = torch.ops.mkldnn._linear_pointwise(weight, flat.T, None, "none", [], "")
    else:
        out = weight @ flat
    return out.unflatten(1, terms.shape[1:])


def sum_of(terms: list[Tensor]) -> Tensor:
    """Sum tensors one after another."""
    result = terms[0].clone()
    for term in terms[1:]:
        result += term
    return result


def onednn_covers(x: Tensor) -> bool:
    """Return whether oneDNN multiplies by such a tensor."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
