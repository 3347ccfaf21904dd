"""Compute the parts of one layer, as pure functions of tensors with any leading dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from acdc.engine.weights import Block
from acdc.models.architecture import Architecture

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "silu": F.silu,
}


def norm(
    architecture: Architecture,
    x: Float[Tensor, "... d_model"],
    w: Float[Tensor, "d_model"] | None,
    b: Float[Tensor, "d_model"] | None,
) -> Float[Tensor, "... d_model"]:
    """Apply the architecture's norm, with weight ``w`` and bias ``b``."""
    if architecture.norm == "layer":
        return F.layer_norm(x, x.shape[-1:], w, b, architecture.eps)
    if architecture.norm == "rms":
        return F.rms_norm(x, x.shape[-1:], w, architecture.eps)
    return x


def rms_scale(architecture: Architecture, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... 1"]:
    """Return the factor by which an RMS norm multiplies each row: one over its root mean square."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    return (mean_square + architecture.eps).rsqrt()


def mlp(architecture: Architecture, block: Block, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """Compute an MLP's output (``hook_mlp_out``) from its input (``hook_mlp_in``), norms included."""
    out = hidden(architecture, block, norm_before_mlp(architecture, block, x))
    return norm(architecture, out, block.ln2_post_w, None) if architecture.norm_after else out


def norm_before_mlp(
    architecture: Architecture, block: Block, x: Float[Tensor, "... d_model"]
) -> Float[Tensor, "... d_model"]:
    """Apply the norm before an MLP; return ``x`` unchanged if there is none."""
    return norm(architecture, x, block.ln2_w, block.ln2_b) if architecture.norm_before else x


def hidden(architecture: Architecture, block: Block, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """Compute an MLP without its norms."""
    if block.black_box is not None:
        return block.black_box(x)
    return block.down(activated(architecture, block.up(x), block.gate(x) if architecture.gated else None))


def activated(
    architecture: Architecture, up: Float[Tensor, "... d_mlp"], gate: Float[Tensor, "... d_mlp"] | None
) -> Float[Tensor, "... d_mlp"]:
    """Compute an MLP's hidden layer from its projections; ``gate`` is None in ungated MLPs."""
    assert architecture.activation is not None  # only attention-only models have none, which have no MLP
    activation = ACTIVATIONS[architecture.activation]
    return activation(up) if gate is None else activation(gate) * up


def rotate(
    x: Float[Tensor, "... row d_head"],
    cos: Float[Tensor, "row rotary_dim"],
    sin: Float[Tensor, "row rotary_dim"],
    adjacent: bool,
) -> Float[Tensor, "... row d_head"]:
    """Rotate the first dimensions by the rows' positions (rotary position embedding, Su et al. 2021)."""
    x, rest = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], -1)
    if adjacent:
        turned = torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)
    else:
        first, second = x.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
    return torch.cat([x * cos + turned * sin, rest], -1)


def attend(
    q: Float[Tensor, "... query d_head"],
    k: Float[Tensor, "... key d_head"],
    v: Float[Tensor, "... key d_head"],
    hidden: Bool[Tensor, "... query key"],
    bias: Float[Tensor, "... query key"] | None = None,
    most: float | None = None,
) -> Float[Tensor, "... query d_head"]:
    """Compute scaled dot-product attention, see ``pattern``."""
    return pattern(q, k, hidden, bias, most) @ v


def pattern(
    q: Float[Tensor, "... query d_head"],
    k: Float[Tensor, "... key d_head"],
    hidden: Bool[Tensor, "... query key"],
    bias: Float[Tensor, "... query key"] | None = None,
    most: float | None = None,
) -> Float[Tensor, "... query key"]:
    """Compute the attention pattern: the share of its attention that each query gives to each key.

    Args:
        hidden: the keys that each query does not see.
        bias: a bias that is added to the scores; None for none.
        most: the cap of the scores, see ``cap``; None for none.
    """
    scores = cap((q @ k.transpose(-1, -2)).div_(q.shape[-1] ** 0.5), most)
    scores = scores if bias is None else scores + bias
    return scores.masked_fill_(hidden, -torch.inf).softmax(-1)


def cap(x: Float[Tensor, "..."], most: float | None) -> Float[Tensor, "..."]:
    """Return ``most tanh(x / most)``, which stays below ``most`` (Gemma 2); return ``x`` unchanged without a cap."""
    return x if most is None else most * torch.tanh(x / most)
