"""Models load from folders, are described as what they are, and are refused by name where the engine does not go."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from acdc.errors import InputError
from acdc.models import tiny_llama
from acdc.models.bridge import architecture_of, check_folder, load_bridge, load_tokenizer, weights_of
from acdc.models.word_tokenizer import task_tokenizer
from tests.models import KINDS, NATIVE, bridge, prompts, save_hugging_face


def native(**changes) -> TransformerBridge:
    return TransformerBridge.boot_native(NATIVE | changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attn_scores_soft_cap": 30.0}, "attn_scores_soft_cap = 30.0"),
        ({"output_logits_soft_cap": 20.0}, "output_logits_soft_cap = 20.0"),
        ({"attention_dir": "bidirectional"}, "attention_dir = 'bidirectional'"),
        ({"normalization_type": "LNPre"}, "normalization_type = 'LNPre'"),
        ({"positional_embedding_type": "rotary", "rotary_dim": 4}, "rotary_dim = 4"),
    ],
)
def test_models_that_the_engine_does_not_cover_are_refused_by_setting(changes, named):
    with pytest.raises(InputError, match=named):
        architecture_of(native(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parallel_attn_mlp", True),
        ("use_local_attn", True),
        ("scale_attn_by_inverse_layer_idx", True),
        ("use_qk_norm", True),
        ("num_experts", 4),
        ("positional_embedding_type", "shortformer"),
    ],
)
def test_settings_that_a_config_carries_are_refused(name, value):
    model = native()
    setattr(model.cfg, name, value)
    with pytest.raises(InputError, match=f"{name} = {value!r}"):
        architecture_of(model)


def test_parallel_blocks_of_a_hugging_face_model_are_refused(tmp_path):
    config = GPTNeoXConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    save_hugging_face(GPTNeoXForCausalLM(config), tmp_path)
    with pytest.raises(InputError, match="parallel_attn_mlp = True"):
        weights_of(load_bridge(tmp_path))


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
        ("llama", {"n_layers": 3, "n_kv_heads": 2, "norm": "rms", "positions": "rotary", "gated": True}),
        ("rotary", {"n_kv_heads": 2, "norm": "rms", "rotary_adjacent": True, "activation": "silu"}),
        ("no_norm", {"norm": "none", "activation": "relu", "d_mlp": 48}),
        ("attention_only", {"d_mlp": 0, "activation": None, "norm": "layer"}),
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
