"""Test loading from folders: models are described as what they are, and refused by name where the engine cannot go."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformer_lens.model_bridge import TransformerBridge
from transformers import BertConfig, BertLMHeadModel

from acdc.errors import InputError
from acdc.models.bridge import boot_native, load_bridge
from acdc.models.convert import architecture_of, weights_of
from acdc.models.files import check_folder
from acdc.models.tokenizer import load_tokenizer
from acdc.models.toy import tiny_llama
from acdc.models.toy.word_tokenizer import task_tokenizer
from tests.plain_model import OTHERS, assert_described
from tests.small_models import COUPLED, KINDS, NATIVE, bridge, build, prompts, save_hugging_face


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


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in COUPLED])
def test_weights_and_architecture_are_the_whole_model(kind):
    assert_described(bridge(kind))


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


def test_weights_that_a_folder_lacks_are_not_drawn_at_random(tmp_path):
    build("gpt2", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["transformer.h.0.ln_1.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks weights, transformer\.h\.0\.ln_1\.bias and 0 more"):
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
