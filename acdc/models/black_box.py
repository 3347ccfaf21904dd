"""Run an MLP that the engine has no form for, such as a mixture of experts, as the model's own module."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor


class BlackBox(torch.nn.Module):
    """Call a Hugging Face module on rows of the residual stream.

    Args:
        module: takes Float[prompt pos d_model] and returns as much, alone or first of several.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        out = self.module(x.reshape(1, -1, x.shape[-1]))
        return (out[0] if isinstance(out, tuple) else out).reshape(x.shape)


def modules_in(folder: Path) -> list[torch.nn.Module | None]:
    """Return every layer's black box of the model in a folder, which Transformers and TransformerLens load."""
    from acdc.models.bridge import load_bridge
    from acdc.models.convert import weights_of

    return [block.black_box for block in weights_of(load_bridge(folder)).blocks]
