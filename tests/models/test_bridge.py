"""Models load from folders, are described as what they are, and are refused by name where the engine does not go."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    BertConfig,
    BertLMHeadModel,
    CodeGenConfig,
    CodeGenForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from acdc.engine.weights import Block, Weights
from acdc.errors import InputError
from acdc.models.architecture import Architecture
from acdc.models.bridge import architecture_of, boot_native, check_folder, load_bridge, load_tokenizer, weights_of
from acdc.models.toy import tiny_llama
from acdc.models.toy.word_tokenizer import task_tokenizer
from tests.small_models import KINDS, NATIVE, bridge, prompts, pythia, save_hugging_face

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def native(**changes) -> TransformerBridge:
    return TransformerBridge.boot_native(NATIVE | changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attn_scores_soft_cap": 30.0}, "attn_scores_soft_cap = 30.0"),
        ({"output_logits_soft_cap": 20.0}, "output_logits_soft_cap = 20.0"),
        ({"normalization_type": "LNPre"}, "normalization_type = 'LNPre'"),
        ({"parallel_attn_mlp": True}, "parallel_attn_mlp = True in TransformerLens native models"),
    ],
)
def test_models_that_the_engine_does_not_cover_are_refused_by_setting(changes, named):
    with pytest.raises(InputError, match=named):
        architecture_of(native(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_local_attn", True),
        ("scale_attn_by_inverse_layer_idx", True),
        ("use_qk_norm", True),
        ("num_experts", 4),
        ("positional_embedding_type", "alibi"),
        ("logit_scale", 0.0625),
    ],
)
def test_settings_that_a_config_carries_are_refused(name, value):
    model = native()
    setattr(model.cfg, name, value)
    with pytest.raises(InputError, match=f"{name} = {value!r}"):
        architecture_of(model)


def test_encoders_of_hugging_face_are_refused(tmp_path):
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=16,
        is_decoder=True,
    )
    save_hugging_face(BertLMHeadModel(config), tmp_path)
    with pytest.raises(InputError, match="attention_dir = 'bidirectional' in BertLMHeadModel"):
        architecture_of(load_bridge(tmp_path))


def test_scaled_rotations_are_refused(tmp_path):
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    )
    save_hugging_face(LlamaForCausalLM(config), tmp_path)
    with pytest.raises(InputError, match="rope_type = 'linear'"):
        weights_of(load_bridge(tmp_path))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("gpt2", {"n_layers": 2, "n_kv_heads": 4, "norm": "layer", "positions": "learned", "gated": False}),
        ("llama", {"n_layers": 3, "n_kv_heads": 2, "norm": "rms", "rotary_dim": 8, "gated": True, "parallel": False}),
        ("pythia", {"parallel": True, "rotary_dim": 4, "rotary_base": 1000.0, "rotary_adjacent": False}),
        ("rotary", {"n_kv_heads": 2, "norm": "rms", "rotary_adjacent": True, "activation": "silu", "rotary_dim": 8}),
        ("no_norm", {"norm": "none", "activation": "relu", "d_mlp": 48, "causal": True, "rotary_dim": None}),
        ("attention_only", {"d_mlp": 0, "activation": None, "norm": "layer"}),
        ("shortformer", {"d_mlp": 0, "positions": "shortformer", "rotary_base": None, "parallel": False}),
        ("bidirectional", {"causal": False, "positions": "learned", "norm": "none"}),
    ],
)
def test_architecture_says_what_the_model_is(kind, expected):
    found = asdict(architecture_of(bridge(kind)))
    assert expected.items() <= found.items()
    assert found["d_model"] == 32 and found["d_vocab"] == 50


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_the_shapes_of_the_graph(kind):
    weights = weights_of(bridge(kind))
    architecture, graph = weights.architecture, weights.architecture.graph()
    for block in weights.blocks:
        assert block.w_port.shape == (graph.n_ports, architecture.d_model, architecture.d_head)
        assert block.w_o.shape == (graph.n_heads, architecture.d_head, architecture.d_model)
        assert (block.w_in is not None) == graph.has_mlp
    assert len(weights.blocks) == graph.n_layers


def plain_logits(weights: Weights, tokens: torch.Tensor) -> torch.Tensor:
    """The model as its weights and architecture say it is, in the plainest torch: Float[prompt pos d_vocab]."""
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
    """Pairs of dimensions are complex numbers; position p turns pair i by p / base ** (2 i / rotary_dim)."""
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


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_architecture_are_the_whole_model(kind):
    assert_described(bridge(kind))


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


@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_other_parallel_blocks_and_rotations_of_hugging_face_are_described(build, tmp_path):
    save_hugging_face(build(), tmp_path)
    assert_described(load_bridge(tmp_path))


def test_rotation_of_a_part_of_each_head_of_a_native_model_is_described():
    model = native(positional_embedding_type="rotary", rotary_dim=4, rotary_base=100)
    assert architecture_of(model).rotary_dim == 4
    assert_described(model)


def test_shortformer_stays_one_whatever_hooks_come_and_go():
    model, tokens = bridge("shortformer"), prompts(False).clean
    with torch.no_grad():
        logits = model(tokens)
        model.reset_hooks()
        assert torch.equal(model(tokens), logits)
        seen = []
        hooks = [("blocks.0.attn.hook_q", lambda x, hook: seen.append(x))]
        assert torch.equal(model.run_with_hooks(tokens, fwd_hooks=hooks), logits)
        kept, cache = model.run_with_cache(tokens)
        assert torch.equal(kept, logits) and torch.equal(cache["blocks.0.attn.hook_q"], seen[0])
        assert torch.equal(model(tokens), logits)
    assert torch.equal(cache["blocks.0.hook_resid_pre"], model.embed.W_E[tokens])


def test_shortformer_adds_positions_to_the_normed_inputs_of_q_and_k_only():
    changes = {"attn_only": True, "positional_embedding_type": "shortformer", "n_layers": 1}
    model, tokens = boot_native(NATIVE | changes), prompts(False).clean
    attention, normed = model.blocks[0].attn, F.layer_norm(model.embed.W_E[tokens], (32,))
    read = {"q": normed + model.pos_embed.W_pos[: tokens.shape[1]], "v": normed}
    read["k"] = read["q"]
    with torch.no_grad():
        cache = model.run_with_cache(tokens)[1]
        for port, x in read.items():
            expected = torch.einsum("bpm,hmd->bphd", x, getattr(attention, f"W_{port.upper()}"))
            torch.testing.assert_close(cache[f"blocks.0.attn.{port}.hook_out"], expected, atol=1e-5, rtol=0)


def test_folder_that_is_missing_or_incomplete_is_refused_with_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no config\.json"):
        load_bridge(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no weights.*\.safetensors"):
        load_bridge(tmp_path)


def test_tiny_llama_loads_with_the_tasks_tokenizer_and_is_the_same_every_time(tmp_path):
    for name in "ab":
        tiny_llama.build(tmp_path / name)
    first, second = (load_bridge(tmp_path / name) for name in "ab")
    assert load_tokenizer(tmp_path / "a").get_vocab() == task_tokenizer().get_vocab()
    tokens = prompts(False).clean
    with torch.no_grad():
        assert torch.equal(first(tokens), second(tokens))
    assert architecture_of(first).d_vocab == len(task_tokenizer())
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_folder_without_tokenizer_has_none(tmp_path):
    assert load_tokenizer(tmp_path) is None
