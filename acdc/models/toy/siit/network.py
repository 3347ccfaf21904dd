"""Compute a small decoder as a differentiable function of its weights, with edges of its own for each prompt.

Edges are those of ``acdc.graph``. An edge that is not kept carries its sender's output on the corrupted prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from acdc.graph import Graph

Tensors = Mapping[str, Tensor]
"""Weights by their names in TransformerLens native models."""
Written = Float[Tensor, "prompt sender pos d_model"]


def config_of(n_layers: int, n_ctx: int, n_tokens: int, **others: Any) -> dict[str, Any]:
    """Return the config of a native model like GPT-2, with few and narrow layers."""
    return {
        "n_layers": n_layers,
        "n_heads": 4,
        "d_model": 32,
        "d_head": 8,
        "d_mlp": 64,
        "n_ctx": n_ctx,
        "d_vocab": n_tokens,
        "d_vocab_out": n_tokens,
        "act_fn": "gelu",
        "normalization_type": "LN",
        "attention_dir": "causal",
        "attn_only": False,
        "gated_mlp": False,
        "positional_embedding_type": "standard",
        "seed": 0,
        **others,
    }


def graph_of(config: Mapping[str, Any]) -> Graph:
    """Return the computational graph of a model."""
    return Graph(config["n_layers"], config["n_heads"], config["n_heads"], has_mlp=not config["attn_only"])


def initial(config: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw initial weights: matrices that preserve the scale of their inputs, and biases of zero."""
    n, d_mlp = config["d_model"], config["d_mlp"]
    width = config["n_heads"] * config["d_head"]
    shapes: dict[str, tuple[int, ...]] = {
        "embed.weight": (config["d_vocab"], n),
        "pos_embed.weight": (config["n_ctx"], n),
    }
    for layer in range(config["n_layers"]):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.attn.{port}.weight": (width, n) for port in "qkv"} | {f"{block}.attn.o.weight": (n, width)}
        if not config["attn_only"]:
            shapes |= {f"{block}.mlp.in.weight": (d_mlp, n), f"{block}.mlp.out.weight": (n, d_mlp)}
    shapes["unembed.weight"] = (config["d_vocab_out"], n)
    tensors = {name: torch.randn(shape, generator=generator) * shape[1] ** -0.5 for name, shape in shapes.items()}
    biased = [name for name in tensors if not name.startswith(("embed", "pos_embed"))]
    biases = {name.replace("weight", "bias"): torch.zeros(len(tensors[name])) for name in biased}
    norms = [f"blocks.{layer}.ln{i}" for layer in range(config["n_layers"]) for i in (1, 2)]
    norms = [norm for norm in norms if not (config["attn_only"] and norm.endswith("ln2"))] + ["ln_final"]
    scales = {f"{norm}.weight": torch.ones(n) for norm in norms} | {f"{norm}.bias": torch.zeros(n) for norm in norms}
    return tensors | biases | scales


@dataclass
class Network:
    """Compute a model's logits.

    Attributes:
        config: the model's config, see ``config_of``.
        tensors: the model's weights.
    """

    config: Mapping[str, Any]
    tensors: Tensors

    def __post_init__(self) -> None:
        self.graph, self.n_heads = graph_of(self.config), self.config["n_heads"]

    @classmethod
    def new(cls, config: Mapping[str, Any], generator: torch.Generator) -> Network:
        """Return a model with random weights, to be trained."""
        return cls(config, {name: tensor.requires_grad_() for name, tensor in initial(config, generator).items()})

    def answers(
        self,
        clean: Int[Tensor, "prompt pos"],
        corrupted: Int[Tensor, "prompt pos"] | None = None,
        kept: Float[Tensor, "prompt sender receiver"] | None = None,
    ) -> Int[Tensor, "prompt"]:
        """Return the likeliest token after each prompt, see ``logits``."""
        with torch.no_grad():
            return self.logits(clean, corrupted, kept)[:, -1].argmax(-1)

    def logits(
        self,
        clean: Int[Tensor, "prompt pos"],
        corrupted: Int[Tensor, "prompt pos"] | None = None,
        kept: Float[Tensor, "prompt sender receiver"] | None = None,
    ) -> Float[Tensor, "prompt pos d_vocab"]:
        """Compute the logits of prompts: with all edges, or with the edges that are kept for each prompt."""
        if corrupted is None or kept is None:
            return self.run(clean)[1]
        return self.run(clean, self.run(corrupted)[0], kept)[1]

    def run(
        self,
        tokens: Int[Tensor, "prompt pos"],
        other: Written | None = None,
        kept: Float[Tensor, "prompt sender receiver"] | None = None,
    ) -> tuple[Written, Float[Tensor, "prompt pos d_vocab"]]:
        """Return the outputs of senders, and the logits.

        Args:
            other: the outputs of senders on the corrupted prompts; None to keep all edges.
            kept: 1 for edges that are kept, else 0; None to keep all edges.
        """
        weights, graph = self.tensors, self.graph
        written = (weights["embed.weight"][tokens] + weights["pos_embed.weight"][: tokens.shape[1]])[:, None]
        bias = torch.zeros(())
        for layer in range(graph.n_layers):
            first = graph.first_receiver(layer)
            ports = [self.read(written, other, kept, first + i * self.n_heads, self.n_heads) + bias for i in range(3)]
            written = torch.cat([written, self.heads(layer, ports)], 1)
            bias = bias + weights[f"blocks.{layer}.attn.o.bias"]
            if graph.has_mlp:
                x = self.read(written, other, kept, first + graph.n_ports, 1) + bias
                written = torch.cat([written, self.mlp(layer, x)], 1)
        final = self.read(written, other, kept, len(graph.receivers) - 1, 1)[:, 0] + bias
        return written, self.linear("unembed", self.norm("ln_final", final))

    def read(
        self,
        written: Written,
        other: Written | None,
        kept: Float[Tensor, "prompt sender receiver"] | None,
        first: int,
        n: int,
    ) -> Float[Tensor, "prompt n pos d_model"]:
        """Return the inputs of ``n`` receivers from ``first`` on, without the biases that heads share."""
        if other is None or kept is None:
            return written.sum(1, keepdim=True).expand(-1, n, -1, -1)
        so_far = other[:, : written.shape[1]]
        shares = kept[:, : written.shape[1], first : first + n]
        return so_far.sum(1, keepdim=True) + torch.einsum("bsr,bspd->brpd", shares, written - so_far)

    def heads(self, layer: int, inputs: list[Tensor]) -> Float[Tensor, "prompt head pos d_model"]:
        """Compute the outputs of a layer's heads, from the inputs of their q, k and v."""
        q, k, v = (self.projected(layer, port, x) for port, x in zip("qkv", inputs, strict=True))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = self.tensors[f"blocks.{layer}.attn.o.weight"].view(-1, self.n_heads, self.config["d_head"])
        return z @ out.permute(1, 2, 0)

    def projected(
        self, layer: int, port: str, x: Float[Tensor, "prompt head pos d_model"]
    ) -> Float[Tensor, "prompt head pos d_head"]:
        """Compute the q, k or v of a layer's heads from their inputs."""
        prefix, shape = f"blocks.{layer}", (self.n_heads, self.config["d_head"])
        weight = self.tensors[f"{prefix}.attn.{port}.weight"].view(*shape, -1)
        bias = self.tensors[f"{prefix}.attn.{port}.bias"].view(shape[0], 1, shape[1])
        return self.norm(f"{prefix}.ln1", x) @ weight.mT + bias

    def patterns(self, tokens: Int[Tensor, "prompt pos"]) -> list[Float[Tensor, "prompt head query key"]]:
        """Return the attention patterns of each layer's heads: Float[prompt head query key]."""
        written, found, bias = self.run(tokens)[0], [], torch.zeros(())
        hidden = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
        for layer in range(self.graph.n_layers):
            x = self.read(written[:, : self.graph.first_sender(layer)], None, None, 0, self.n_heads) + bias
            q, k = (self.projected(layer, port, x) for port in "qk")
            scores = (q @ k.mT / self.config["d_head"] ** 0.5).masked_fill(hidden, -torch.inf)
            found.append(scores.softmax(-1))
            bias = bias + self.tensors[f"blocks.{layer}.attn.o.bias"]
        return found

    def mlp(self, layer: int, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Compute the output of an MLP from its input."""
        prefix = f"blocks.{layer}"
        return self.linear(f"{prefix}.mlp.out", F.gelu(self.linear(f"{prefix}.mlp.in", self.norm(f"{prefix}.ln2", x))))

    def norm(self, name: str, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Apply a LayerNorm."""
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def linear(self, name: str, x: Float[Tensor, "... read"]) -> Float[Tensor, "... written"]:
        """Apply a matrix and its bias."""
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])
