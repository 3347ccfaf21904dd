"""Compute a model in the plainest torch, as its weights and architecture say, and make models to try it on."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    CodeGenConfig,
    CodeGenForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from acdc.engine.weights import Block, Weights
from acdc.models.architecture import Architecture
from acdc.models.convert import weights_of
from tests.small_models import prompts, pythia

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
OTHERS = {
    "sequential Pythia": lambda: pythia(use_parallel_residual=False),
    "Pythia with a quarter rotated": lambda: pythia(rotary_pct=0.25),
    "Phi": lambda: PhiForCausalLM(PhiConfig(**SMALL, max_position_embeddings=16)),
    "GPT-J": lambda: GPTJForCausalLM(
        GPTJConfig(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16, rotary_dim=4)
    ),
    "CodeGen": lambda: CodeGenForCausalLM(
        CodeGenConfig(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16, rotary_dim=4)
    ),
    "StableLM": lambda: StableLmForCausalLM(
        StableLmConfig(**SMALL, num_key_value_heads=2, use_parallel_residual=True, max_position_embeddings=16)
    ),
}


def plain_logits(weights: Weights, tokens: torch.Tensor) -> torch.Tensor:
    """Compute the model's logits in the plainest torch: Float[prompt pos d_vocab]."""
    a = weights.architecture
    positions = 0 if weights.pos_embed is None else weights.pos_embed[: tokens.shape[1]]
    x = weights.embed[tokens] + (positions if a.positions == "learned" else 0)
    for block in weights.blocks:
        after_heads = x + plain_attention(a, block, x, positions if a.positions == "shortformer" else 0)
        if a.d_mlp:
            read = plain_norm(a, x if a.parallel else after_heads, block.ln2_w, block.ln2_b)
            after_heads = after_heads + plain_mlp(a, block, read)
        x = after_heads
    logits = plain_norm(a, x, weights.ln_final_w, weights.ln_final_b) @ weights.unembed
    return logits if weights.b_unembed is None else logits + weights.b_unembed


def plain_attention(a: Architecture, block: Block, x: torch.Tensor, positions: torch.Tensor | int) -> torch.Tensor:
    normed, n_pos = plain_norm(a, x, block.ln1_w, block.ln1_b), x.shape[1]
    ports = [(normed + positions * (i < a.n_heads + a.n_kv_heads)) @ w for i, w in enumerate(block.w_port)]
    ports = [port + b for port, b in zip(ports, block.b_port, strict=True)]
    out = block.b_o
    for head in range(a.n_heads):
        shared = a.n_heads + head // (a.n_heads // a.n_kv_heads)
        q, k, v = ports[head], ports[shared], ports[shared + a.n_kv_heads]
        if a.positions == "rotary":
            q, k = plain_rotation(a, q), plain_rotation(a, k)
        scores = torch.einsum("bqd,bkd->bqk", q, k) / a.d_head**0.5
        if a.causal:
            scores = scores + torch.full((n_pos, n_pos), -torch.inf).triu(1)
        out = out + scores.softmax(-1) @ v @ block.w_o[head]
    return out


def plain_rotation(a: Architecture, x: torch.Tensor) -> torch.Tensor:
    """Turn pairs of dimensions as complex numbers: position p turns pair i by p / base ** (2 i / rotary_dim)."""
    first = torch.arange(0, a.rotary_dim, 2) if a.rotary_adjacent else torch.arange(a.rotary_dim // 2)
    second = first + (1 if a.rotary_adjacent else a.rotary_dim // 2)
    angle = torch.outer(torch.arange(x.shape[1]), a.rotary_base ** -(torch.arange(0, a.rotary_dim, 2) / a.rotary_dim))
    turned = torch.complex(x[..., first], x[..., second]) * torch.polar(torch.ones_like(angle), angle)
    x = x.clone()
    x[..., first], x[..., second] = turned.real, turned.imag
    return x


def plain_norm(a: Architecture, x: torch.Tensor, w: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor:
    if a.norm == "none":
        return x
    centred = x - x.mean(-1, keepdim=True) * (a.norm == "layer")
    return centred / (centred.square().mean(-1, keepdim=True) + a.eps).sqrt() * w + (0 if b is None else b)


def plain_mlp(a: Architecture, block: Block, x: torch.Tensor) -> torch.Tensor:
    activation = {"relu": torch.relu, "silu": F.silu, "gelu": F.gelu, "gelu_new": partial(F.gelu, approximate="tanh")}
    b_in, b_out = (0 if b is None else b for b in (block.b_in, block.b_out))
    hidden = x @ block.w_in + b_in
    act = activation[a.activation]
    return (act(x @ block.w_gate) * hidden if a.gated else act(hidden)) @ block.w_out + b_out


def assert_described(model: TransformerBridge) -> None:
    tokens = prompts(False).clean
    with torch.no_grad():
        torch.testing.assert_close(plain_logits(weights_of(model), tokens), model(tokens), atol=1e-4, rtol=0)
