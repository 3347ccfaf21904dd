"""Modify the gradients of parts of the model, without changing their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from acdc.engine.masked import NOTHING, Added, Given, Mask, MaskedModel

Rules = Mapping[Callable[..., Any], Callable[..., Any]]
"""Replacements of torch's functions."""


class Modified(TorchFunctionMode):
    """Replace functions of torch by others inside a ``with`` block."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.rules.get(func, func)(*args, **(kwargs or {}))


class ModifiedModel(MaskedModel):
    """Compute the masked model's logits, with the gradients of some functions modified."""

    rules: ClassVar[Rules] = {}
    """Replacements of torch's functions by others of the same values."""

    def logits(
        self,
        mask: Mask,
        given: Given = NOTHING,
        added: Added = NOTHING,
    ) -> Float[Tensor, "scored d_vocab"]:
        with Modified(self.rules):
            return super().logits(mask, given, added)


def partly(x: Float[Tensor, "..."], part: float | Tensor) -> Float[Tensor, "..."]:
    """Return x, but multiply its gradient by a factor."""
    return part * x + ((1 - part) * x).detach()


def layer_norm(
    x: Float[Tensor, "... d"], shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Float[Tensor, "... d"]:
    """Apply a LayerNorm whose standard deviation counts as a constant in the gradient."""
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + eps).rsqrt().detach()
    out = centred * scale if weight is None else centred * scale * weight
    return out if bias is None else out + bias


def rms_norm(
    x: Float[Tensor, "... d"], shape: Sequence[int], weight: Tensor | None, eps: float
) -> Float[Tensor, "... d"]:
    """Apply an RMSNorm whose root mean square counts as a constant in the gradient."""
    out = x * (x.square().mean(-1, keepdim=True) + eps).rsqrt().detach()
    return out if weight is None else out * weight


NORMS: Rules = {
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    # The scale of an RMS norm where the engine applies it after a projection.
    Tensor.rsqrt: lambda x: x.rsqrt().detach(),
}
"""Replacements by which the scales of norms count as constants in the gradient."""
