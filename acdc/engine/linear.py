"""Multiply by weights in the way that is fastest on the processor, and sum chosen terms."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

WIDE = 2**14
"""The number of columns from which a weight is packed on every processor. ``@`` walks along its columns and finds few
in the cache: it multiplies by an unembedding at two thirds of oneDNN's rate or less (benchmarks/matmul.py)."""


def products() -> str:
    """Return the library by which this machine multiplies: ``onednn``, or ``matmul`` for all but wide weights.

    The processor's features decide, not a timing, so that a machine always computes the same bytes. With AVX-512 oneDNN
    is more than twice as fast as ``@`` on AMD. Without AVX-512, ``@`` is as fast or faster, and needs no second copy of
    the weights (benchmarks/README.md).
    """
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return "onednn" if has_avx512 and torch.backends.mkldnn.is_available() else "matmul"


def multiply_in_full() -> None:
    """Make torch multiply float32 numbers in float32, whatever the environment or another library has set.

    In TF32 or bfloat16, the error of products would be a thousand times the rounding that the engine reports.
    """
    torch.set_float32_matmul_precision("highest")


class Linear:
    """Compute ``x @ w + b``, with a weight that is packed once for the processor where that is faster.

    Weights are packed by oneDNN, which torch's compiler uses too, on a CPU in float32. Gradients with respect to ``x``
    are computed by such products too. Weights get no gradient.

    Args:
        w: Float[d_in d_out].
        b: Float[d_out].
    """

    def __init__(self, w: Float[Tensor, "d_in d_out"], b: Float[Tensor, "d_out"] | None = None) -> None:
        self.w, self.b = w, b
        self.packed: Tensor | None = None
        if onednn_covers(w) and (products() == "onednn" or w.shape[1] >= WIDE):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(w.T.contiguous())

    def __call__(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        if self.packed is not None:
            return Product.apply(x, self) if x.requires_grad else product(x, self.packed, self.b)
        return F.linear(x, self.w.T, self.b)

    def write(self, x: Float[Tensor, "... d_in"], out: Float[Tensor, "... d_out"]) -> None:
        """Write ``x @ w`` into the contiguous tensor ``out``; there must be no bias."""
        assert self.b is None  # only heads' outputs are written into a buffer
        if self.packed is None:
            torch.mm(x.flatten(0, -2), self.w, out=out.flatten(0, -2))
        else:
            out.copy_(self(x))

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
    """Sum some of the terms for each row of ``which``, by the library that ``products`` names."""
    flat = terms.flatten(1)
    if len(which) == 1 and flat.device.type == "cpu":
        # A product would read all terms, not only the chosen ones.
        return sum_of([terms[i] for i in which[0].nonzero()[0]])[None]
    weight = torch.from_numpy(which.astype(np.float32)).to(flat.device, flat.dtype)
    if onednn_covers(flat) and products() == "onednn":
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
