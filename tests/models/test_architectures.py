"""Test the engine on random models of today's architectures, beside Transformers and the oracle."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from transformers import (
    ApertusConfig,
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    CohereConfig,
    DeepseekV3Config,
    Exaone4Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GPTBigCodeConfig,
    GPTNeoConfig,
    GraniteConfig,
    HrmTextConfig,
    HunYuanDenseV1Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    ModernBertDecoderConfig,
    MptConfig,
    NemotronConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
    OlmoeConfig,
    OpenAIGPTConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
    VaultGemmaConfig,
)

from acdc.analysis.attention import patterns, runs_of
from acdc.data import Dataset
from acdc.engine.masked import Mask, masked_models
from acdc.engine.model import Engine
from acdc.engine.runs import run
from acdc.engine.weights import Weights, rotary_tables
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.methods.acdc_fast import acdc_fast
from acdc.metrics import KLDivergence
from acdc.models.bridge import of_hugging_face
from acdc.models.convert import weights_of
from acdc.reference import Reference
from tests.pretend_device import DEVICE, PretendDevice
from tests.search import assert_same
from tests.small_models import random_circuit

FLOAT_ERROR = 1e-4
N_VOCAB, N_POS, N_CTX, ORIGINAL, WINDOW = 50, 12, 64, 32, 5
SIZES = {
    "vocab_size": N_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": N_CTX,
    "initializer_range": 0.3,
    "pad_token_id": 2,
}
GPT = {"vocab_size": N_VOCAB, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1}


def scaled(kind: str, **parameters: float | list[float]) -> dict:
    """Return sizes, and the settings of rotations that are scaled in one way."""
    return SIZES | {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, "factor": 4.0} | parameters}


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": ORIGINAL}
LONGROPE = {
    "short_factor": [1.0, 1.5, 2.0, 2.5],
    "long_factor": [3.0, 3.5, 4.0, 4.5],
    "original_max_position_embeddings": ORIGINAL,
}
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.5,
    "logits_scaling": 0.5,
}
OPT = {
    "vocab_size": N_VOCAB,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": N_CTX,
}
ALTERNATING = ["sliding_attention", "full_attention"]
ONE_KEY = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}
SCALED_ROTATIONS = {
    "llama3": LlamaConfig(**scaled("llama3", **LLAMA3)),
    "yarn": LlamaConfig(**scaled("yarn", original_max_position_embeddings=ORIGINAL)),
    "linear": LlamaConfig(**scaled("linear")),
    "longrope": Phi3Config(**scaled("longrope", **LONGROPE), original_max_position_embeddings=ORIGINAL),
}
CONFIGS = SCALED_ROTATIONS | {
    "dynamic": LlamaConfig(**scaled("dynamic")),
    "llama_biases": LlamaConfig(**SIZES, mlp_bias=True, attention_bias=True),
    "mistral": MistralConfig(**SIZES, sliding_window=WINDOW),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "stablelm": StableLmConfig(**SIZES, qk_layernorm=True),
    "gemma": GemmaConfig(**SIZES, head_dim=8),
    "glm": GlmConfig(**SIZES, head_dim=8),
    "gemma2": Gemma2Config(
        **SIZES,
        head_dim=8,
        sliding_window=WINDOW,
        layer_types=ALTERNATING,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=WINDOW, layer_types=ALTERNATING),
    "glm4": Glm4Config(**SIZES, head_dim=8),
    "exaone4": Exaone4Config(**SIZES, sliding_window=WINDOW, layer_types=ALTERNATING),
    "hunyuan": HunYuanDenseV1Config(**SIZES, head_dim=8),
    "olmo2": Olmo2Config(**SIZES),
    "olmo3": Olmo3Config(**SIZES, sliding_window=WINDOW, layer_types=ALTERNATING),
    "olmo_clipped": OlmoConfig(**SIZES, clip_qkv=0.5),
    "smollm3": SmolLM3Config(**SIZES, no_rope_layers=[1, 0]),
    "cohere2": Cohere2Config(**SIZES, sliding_window=WINDOW, layer_types=ALTERNATING),
    "nemotron": NemotronConfig(**SIZES, head_dim=8),
    "bloom": BloomConfig(**GPT, hidden_size=32, n_layer=2, n_head=4),
    "mpt": MptConfig(vocab_size=N_VOCAB, d_model=32, n_layers=2, n_heads=4, max_seq_len=N_CTX),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
    "olmoe": OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2),
    "apertus": ApertusConfig(**SIZES),
    "granite": GraniteConfig(**SIZES, **GRANITE),
    "cohere": CohereConfig(**SIZES, logit_scale=2.0),
    "olmo": OlmoConfig(**SIZES),
    "starcoder2": Starcoder2Config(**SIZES, sliding_window=None, residual_dropout=0.0, embedding_dropout=0.0),
    "falcon": FalconConfig(**ONE_KEY, alibi=False, bias=False),
    "opt": OPTConfig(**OPT, init_std=0.3, word_embed_proj_dim=32),
    "gpt_neo": GPTNeoConfig(
        **GPT,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=WINDOW,
        max_position_embeddings=N_CTX,
    ),
    "gpt_bigcode": GPTBigCodeConfig(**GPT, n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=N_CTX),
}
N_CTX_OF = {"longrope": ORIGINAL, "bloom": 2048}
"""Longrope changes the rotations of all positions in a prompt beyond the original context. BLOOM has no limit."""
LATENT = {"q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
REFUSED = {
    "keys and values come from a latent vector": DeepseekV3Config(**SIZES, **LATENT, first_k_dense_replace=2),
    "layers without attention": MambaConfig(vocab_size=N_VOCAB, hidden_size=32, num_hidden_layers=2),
    r"its embed has the shape \(50, 16\)": OPTConfig(**OPT, word_embed_proj_dim=16),  # as OPT-350m
    "its MLPs are gated by one half": ModernBertDecoderConfig(**SIZES, layer_types=["full_attention"] * 2),
    "its norms take the residual stream itself": OpenAIGPTConfig(
        vocab_size=N_VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=N_CTX
    ),
}
WINDOWED = ("mistral", "gpt_neo", "gemma2", "gemma3", "exaone4", "olmo3", "cohere2")
configs = pytest.mark.parametrize("kind", CONFIGS)


@cache
def random_model(kind: str) -> PreTrainedModel:
    """Return a model whose biases and norms are random too."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    return model


@cache
def converted(kind: str) -> Weights:
    return weights_of(of_hugging_face(random_model(kind), None))


def random_prompts() -> Dataset:
    clean, corrupted = torch.randint(N_VOCAB, (2, 2, N_POS), generator=torch.Generator().manual_seed(0))
    return Dataset(clean, corrupted, torch.ones_like(clean, dtype=torch.bool), {})


def error(weights: Weights, model: PreTrainedModel) -> float:
    """Return the largest difference between the engine's logits and the model's own."""
    data = random_prompts()
    expected = model(data.clean).logits.flatten(0, 1)
    return (Engine(weights, data, ablation="corrupted").model_logits - expected).abs().max().item()


@configs
def test_the_engine_computes_the_model(kind):
    weights = converted(kind)
    assert error(weights, random_model(kind)) < FLOAT_ERROR
    assert weights.architecture.n_ctx == N_CTX_OF.get(kind, N_CTX)


@pytest.mark.parametrize("kind", ["bloom", "mistral", "gemma3", "olmo3"])
@torch.no_grad()
def test_attention_is_that_of_transformers(kind):
    """These have slopes and windows; tests/analysis/test_heads.py compares other kinds with TransformerLens."""
    model, data = copy.deepcopy(random_model(kind)), random_prompts()
    model.set_attn_implementation("eager")
    theirs = model(data.clean, output_attentions=True).attentions
    run, rows = runs_of(converted(kind), data, data.clean)
    for layer, pattern in enumerate(patterns(converted(kind), run, rows)):
        assert torch.allclose(pattern.transpose(0, 1), theirs[layer], atol=1e-4)


def test_falcon_with_alibi_is_computed_as_transformers_does():
    """TransformerLens computes another model of it, so that it is refused all the same."""
    model = AutoModelForCausalLM.from_config(FalconConfig(**ONE_KEY, alibi=True, bias=True)).eval()
    assert error(weights_of(of_hugging_face(model, None)), model) < FLOAT_ERROR


@configs
@pytest.mark.parametrize("ablation", ("corrupted", "zero", "mean"))
def test_circuits_are_the_oracles(kind, ablation):
    setup = Engine(converted(kind), random_prompts(), ablation=ablation)
    oracle = Reference(of_hugging_face(random_model(kind), None), random_prompts(), ablation=ablation)
    for seed in range(2):
        circuit = random_circuit(setup.graph, seed, 0.7, 0.9)
        expected = oracle.logits(circuit)
        torch.testing.assert_close(setup.circuit_logits(circuit), expected, atol=FLOAT_ERROR, rtol=0)


@configs
@torch.no_grad()
def test_a_pretended_gpu_decides_as_the_cpu(kind):
    """Engines compute a layer at a time on the GPU and a head at a time on the CPU. Numbers are float64."""

    def setup(device: str | torch.device) -> Engine:
        return Engine(converted(kind).to(device, torch.float64), random_prompts(), ablation="corrupted")

    usual = setup("cpu")
    threshold = 0.2 * usual.value(Circuit.empty(usual.graph), KLDivergence)
    expected = acdc_fast(usual, KLDivergence, threshold)
    with PretendDevice():
        other = setup(DEVICE)
        assert other.batched and not usual.batched
        assert_same(acdc_fast(other, KLDivergence, threshold), expected, 1e-9)
    assert 0 < sum(row.removed for row in expected.trace) < len(expected.trace)


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_covered_is_refused_by_its_name(reason):
    model = AutoModelForCausalLM.from_config(REFUSED[reason])
    with pytest.raises(InputError, match=f"the engine does not cover .*{reason}"):
        weights_of(of_hugging_face(model, None))


@pytest.mark.parametrize("kind", WINDOWED)
def test_without_windows_it_is_another_model(kind):
    weights = converted(kind)
    assert WINDOW in weights.architecture.windows and WINDOW < N_POS
    without = replace(weights, architecture=replace(weights.architecture, windows=()))
    assert error(without, random_model(kind)) > 100 * FLOAT_ERROR


@pytest.mark.parametrize("kind", ("gemma2", "olmo2", "glm4", "exaone4"))
def test_senders_add_up_to_the_residual_stream_where_norms_come_after(kind):
    setup = Engine(converted(kind), random_prompts(), ablation="corrupted")
    made = run(setup.weights, setup.dataset.clean, setup.chunks[0].rows)
    torch.testing.assert_close(made.sender.sum(0), made.state["final", 0, 0], atol=FLOAT_ERROR, rtol=0)
    (masked,) = masked_models(setup, len(setup.dataset))
    circuit = random_circuit(setup.graph, 0, 0.7, 0.9)
    logits = masked.logits(Mask.of(circuit, masked.model_logits))
    torch.testing.assert_close(logits, setup.circuit_logits(circuit), atol=FLOAT_ERROR, rtol=0)


@configs
def test_gradients_start_from_the_same_model(kind):
    data = random_prompts()
    setup = Engine(converted(kind), data, ablation="corrupted")
    (masked,) = masked_models(setup, len(data))
    shares = torch.ones(len(setup.graph.receivers) - 1)
    torch.testing.assert_close(masked.logits_of_nodes(shares), setup.model_logits, atol=FLOAT_ERROR, rtol=0)


@pytest.mark.parametrize("kind", SCALED_ROTATIONS)
def test_rotations_that_are_not_scaled_are_another_model(kind):
    model = random_model(kind)
    weights = weights_of(of_hugging_face(model, None))
    weights.rotary_cos, weights.rotary_sin = rotary_tables(weights.architecture)
    assert error(weights, model) > 100 * FLOAT_ERROR


@pytest.mark.parametrize("kind", (HrmTextConfig, VaultGemmaConfig))
def test_what_transformer_lens_cannot_run_is_refused_by_name(kind):
    model = AutoModelForCausalLM.from_config(kind(**SIZES, head_dim=8))
    with pytest.raises(InputError, match=type(model).__name__):
        weights_of(of_hugging_face(model, None))


def test_scaled_rotations_without_a_module_are_refused():
    bridge = of_hugging_face(random_model("linear"), None)
    bridge.original_model.model.rotary_emb = None
    with pytest.raises(InputError, match="rope_type = 'linear' in LlamaForCausalLM"):
        weights_of(bridge)
