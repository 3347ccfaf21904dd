"""Make small models and prompts that tests share."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedModel,
)

from acdc import catalogue
from acdc.catalogue import ABLATIONS, METRICS
from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.engine.weights import Weights
from acdc.graph import Circuit, Graph
from acdc.metrics import Metric
from acdc.models.bridge import boot_native, load_bridge, save_native
from acdc.models.convert import weights_of
from acdc.models.toy.word_tokenizer import word_tokenizer
from acdc.reference import Reference

N_VOCAB, N_POS = 50, 7
OF_TEXT: dict[str, type[Metric]] = {name: METRICS[name].load() for name in catalogue.OF_TEXT}
OF_NUMBERS: dict[str, type[Metric]] = {name: METRICS[name].load() for name in catalogue.OF_NUMBERS}

NATIVE: dict[str, Any] = {
    "n_layers": 2,
    "n_heads": 4,
    "d_model": 32,
    "d_head": 8,
    "d_mlp": 48,
    "n_ctx": 16,
    "d_vocab": N_VOCAB,
    "d_vocab_out": N_VOCAB,
    "act_fn": "gelu_new",
    "eps": 1e-5,
    "normalization_type": "LN",
    "attention_dir": "causal",
    "attn_only": False,
    "gated_mlp": False,
    "positional_embedding_type": "standard",
    "initializer_range": 0.3,
    "seed": 0,
}
ROTARY = {"positional_embedding_type": "rotary", "n_key_value_heads": 2, "gated_mlp": True, "act_fn": "silu"}
NATIVE_KINDS: dict[str, dict[str, Any]] = {
    "layer_norm": {},
    "no_norm": {"normalization_type": None, "act_fn": "relu"},
    "attention_only": {"attn_only": True},
    "rotary": {**ROTARY, "normalization_type": "RMS"},
    "shortformer": {"attn_only": True, "positional_embedding_type": "shortformer"},
    "bidirectional": {"attention_dir": "bidirectional", "normalization_type": None, "act_fn": "relu"},
}
COUPLED = ("gemma2", "olmo2")
"""Kinds whose heads share a norm of their outputs, and of their queries and keys too."""
KINDS = ("gpt2", "llama", "pythia", *COUPLED, *NATIVE_KINDS)
LEARNED_POSITIONS = ("gpt2", "layer_norm", "no_norm", "attention_only", "bidirectional")


def ablations_of(kind: str) -> tuple[str, ...]:
    """Return the ablations that a kind of model can have. Only learned position embeddings can be permuted."""
    return tuple(name for name in ABLATIONS if name != "corrupted_permuted" or kind in LEARNED_POSITIONS)


SETUPS = [(kind, ablation) for kind in KINDS for ablation in ablations_of(kind)]
"""Every kind of model with every ablation that it can have."""


HUGGING_FACE_NAMES = {
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_key_value_heads": "num_key_value_heads",
    "d_model": "hidden_size",
}


def build(kind: str, folder: Path, seed: int = 0, **shape: int) -> None:
    """Write a random model of this kind, whose biases and norms are random too, to ``folder``.

    Args:
        shape: what differs from the kind's usual model, in the names of ``NATIVE``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind in NATIVE_KINDS:
            config = NATIVE | NATIVE_KINDS[kind] | shape | {"seed": seed}
            save_native(shaken(boot_native(config)), config, folder)
        else:
            changes = {HUGGING_FACE_NAMES[name]: value for name, value in shape.items()}
            save_hugging_face(HUGGING_FACE[kind](**changes), folder)


def gpt2(**changes) -> PreTrainedModel:
    settings: dict[str, Any] = {
        "vocab_size": N_VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "n_positions": 16,
        "initializer_range": 0.3,
    }
    return GPT2LMHeadModel(GPT2Config(**settings | changes))


def unscaled_gpt2() -> PreTrainedModel:
    """Return a model that TransformerLens 4.3 gets wrong, for it scales the attention of every GPT-2."""
    torch.manual_seed(0)
    return gpt2(initializer_range=0.5, scale_attn_weights=False)


LLAMA: dict[str, Any] = {
    "vocab_size": N_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}


def llama(**changes) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**LLAMA | changes))


def pythia(**changes) -> PreTrainedModel:
    """Return a model of parallel blocks that rotate half of each head."""
    settings: dict[str, Any] = {
        "vocab_size": N_VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        "initializer_range": 0.3,
        "rotary_pct": 0.5,
        "rotary_emb_base": 1000.0,
        "use_parallel_residual": True,
    }
    return GPTNeoXForCausalLM(GPTNeoXConfig(**settings | changes))


def gemma2(**changes) -> PreTrainedModel:
    """Return a model with norms after heads and MLPs, caps, and a window in the first layer."""
    own = {"head_dim": 8, "sliding_window": 3, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
    return Gemma2ForCausalLM(Gemma2Config(**LLAMA | own | changes))


def olmo2(**changes) -> PreTrainedModel:
    """Return a model with norms after heads and MLPs alone, and norms of all heads' queries, and keys, together."""
    return Olmo2ForCausalLM(Olmo2Config(**LLAMA | {"num_hidden_layers": 2} | changes))


HUGGING_FACE = {"gpt2": gpt2, "llama": llama, "pythia": pythia, "gemma2": gemma2, "olmo2": olmo2}


def save_hugging_face(model: PreTrainedModel, folder: Path) -> None:
    shaken(model).save_pretrained(folder)
    word_tokenizer(["one", "two"]).save_pretrained(folder)


@torch.no_grad()
def shaken(model: torch.nn.Module) -> Any:
    """Return the model with noise on every parameter, so that no bias is 0 and no norm's weight 1."""
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def legacy_folder(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    """Write a model in the format of TransformerLens 1.x."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "model_final.pth")
    return folder


@cache
def bridge(kind: str) -> TransformerBridge:
    return random_bridge(kind)


def random_bridge(kind: str, seed: int = 0, **shape: int) -> TransformerBridge:
    """Return what ``build`` writes, loaded."""
    with tempfile.TemporaryDirectory() as folder:
        build(kind, Path(folder), seed, **shape)
        return load_bridge(Path(folder))


@cache
def prompts(several: bool) -> Dataset:
    """Return four prompts, each of which shares its first 0 to 3 tokens with its corrupted one.

    Args:
        several: one prompt is scored at two positions, the first of them in the shared beginning.
    """
    generator = torch.Generator().manual_seed(1)
    clean, corrupted = torch.randint(0, N_VOCAB, (2, 4, N_POS), generator=generator)
    scored = torch.zeros(4, N_POS, dtype=torch.bool)
    for prompt, (shared, position) in enumerate([(0, 3), (2, 6), (1, 5), (3, 6)]):
        corrupted[prompt, :shared] = clean[prompt, :shared]
        scored[prompt, position] = True
    scored[3, 2] = several
    correct = torch.randint(0, N_VOCAB, (4,), generator=generator)
    return Dataset(clean, corrupted, scored, {"correct": correct, "incorrect": (correct + 7) % N_VOCAB})


@cache
def engine(kind: str, ablation: str = "corrupted", split_embed: bool = False, several: bool = False) -> Engine:
    return Engine(weights_of(bridge(kind)), prompts(several), ablation=ablation, split_embed=split_embed)


def double_weights(kind: str) -> Weights:
    """Return a model's weights in float64: a copy, which a test may change."""
    return weights_of(bridge(kind)).to("cpu", torch.float64)


def double_engine(kind: str, ablation: str = "corrupted") -> Engine:
    """Return an engine of ``double_weights``."""
    return Engine(double_weights(kind), prompts(True), ablation=ablation)


@cache
def reference(kind: str, ablation: str = "corrupted", split_embed: bool = False, several: bool = False) -> Reference:
    return Reference(bridge(kind), prompts(several), ablation=ablation, split_embed=split_embed)


@torch.no_grad()
def logits_of(model: TransformerBridge, dataset: Dataset, tokens: Tensor) -> Tensor:
    """Return TransformerLens's logits at the scored positions: Float[scored d_vocab]."""
    return model(tokens)[dataset.scored]


def random_circuit(graph: Graph, seed: int, addition: float, direct: float) -> Circuit:
    """Return a circuit that has every edge with the probability of its kind."""
    rng = np.random.default_rng(seed)
    present = graph.exists & (rng.random(graph.exists.shape) < addition)
    return Circuit(graph, present, graph.has_direct & (rng.random(len(graph.receivers)) < direct))


def measure(metric: Metric, dataset: Dataset, logits: Tensor) -> float:
    """Return a metric of logits at all tokens: the mean over prompts of the mean over a prompt's scored positions."""
    values = metric(logits if metric.columns is None else logits.gather(-1, metric.columns))
    prompt = dataset.scored_rows[0]
    return sum(values[prompt == i].double().mean().item() for i in range(len(dataset))) / len(dataset)
