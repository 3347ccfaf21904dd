"""Run an MLP of a form that the engine does not compute, such as a mixture of experts, by the model's own module."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine.weights import Weights


class BlackBox(torch.nn.Module):
    """Call a Hugging Face module on rows of the residual stream.

    Args:
        module: a module that takes Float[prompt pos d_model] and returns the same shape, alone or first of several.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        out = self.module(x.reshape(1, -1, x.shape[-1]))
        return (out[0] if isinstance(out, tuple) else out).reshape(x.shape)


def load_weights(folder: Path) -> Weights:
    """Read a model's weights as ``Weights.load`` does, and its black boxes, if it has any, from the model itself."""
    weights = Weights.load(folder)
    if weights.architecture.black_box:
        # They are imported here: jobs of other models need neither Transformers nor TransformerLens.
        from acdc.models.bridge import load_bridge
        from acdc.models.convert import weights_of

        for block, of_model in zip(weights.blocks, weights_of(load_bridge(folder)).blocks, strict=True):
            block.black_box = of_model.black_box
    return weights
