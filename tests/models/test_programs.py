"""Test a model's own programs: they run it, and where they and the engine differ it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from acdc.cli import main
from acdc.engine.check import Expected
from acdc.engine.model import Engine
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.models.black_box import load_weights
from acdc.models.bridge import PROCESSED, load_bridge, load_hugging_face
from acdc.models.convert import weights_of
from acdc.models.programs import programs_of, try_model
from acdc.models.sources import from_model
from tests.small_models import build, llama, prompts, unscaled_gpt2


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "model"


def converted(folder: Path) -> Weights:
    return weights_of(load_bridge(folder))


@pytest.mark.parametrize(
    ("kind", "processed", "names"),
    [
        ("llama", False, ["Transformers", "TransformerLens"]),
        ("gpt2", True, ["Transformers", "TransformerLens"]),
        ("layer_norm", False, ["TransformerLens"]),
        ("layer_norm", True, ["the unprocessed model", "TransformerLens"]),
    ],
)
def test_every_program_of_a_model_is_compared(kind, processed, names, folder):
    build(kind, folder)
    if processed:
        (folder / PROCESSED).touch()
    assert list(programs_of(folder)) == names
    try_model(folder, converted(folder))


def test_a_reset_network_is_transformer_lens_only(folder, tmp_path):
    build("gpt2", tmp_path / "trained")
    from_model(tmp_path / "trained", folder, seed=0, head_outputs=False)
    assert list(programs_of(folder)) == ["TransformerLens"]
    try_model(folder, converted(folder))


def test_other_weights_are_refused(folder):
    build("llama", folder)
    weights = converted(folder)
    weights.blocks[1].w_o = weights.blocks[1].w_o * 1.1
    with pytest.raises(InputError, match="with all edges the engine's logits differ from Transformers's by"):
        try_model(folder, weights)


def test_a_shortformer_whose_weights_are_processed_is_another_model(folder):
    """LayerNorm cannot be folded into W_Q where positions are added behind it."""
    build("shortformer", folder)
    try_model(folder, converted(folder))
    (folder / PROCESSED).touch()
    with pytest.raises(InputError, match="from the unprocessed model's by"):
        try_model(folder, converted(folder))


def test_the_command_refuses_a_model_that_transformer_lens_gets_wrong(tmp_path):
    unscaled_gpt2().save_pretrained(tmp_path / "source")
    with pytest.raises(SystemExit) as ended:
        main(["model", "--folder", str(tmp_path / "source"), "--out", str(tmp_path / "out")])
    said = ended.value.code
    assert "it agrees with Transformers, but TransformerLens computes another model" in said
    assert "and from TransformerLens's by" in said and said.startswith("acdc: with all edges")


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_a_checkpoint_of_half_precision_is_computed_in_float32(tmp_path, dtype):
    llama().to(dtype).save_pretrained(tmp_path / "source")
    main(["model", "--folder", str(tmp_path / "source"), "--out", str(tmp_path / "out")])
    weights = Weights.load(tmp_path / "out")
    assert {tensor.dtype for _, tensor in weights.named()} == {torch.float32}
    assert torch.equal(weights.embed.to(dtype).float(), weights.embed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}, "brings code of its own"),
        ({}, "Transformers cannot load model folder .*: .* model type `mine`"),
    ],
)
def test_a_model_that_transformers_does_not_know_is_refused_and_its_code_is_not_run(tmp_path, changes, said):
    llama().save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"model_type": "mine"} | changes))
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(InputError, match=said):
        load_hugging_face(tmp_path)


def test_a_program_that_fails_is_named():
    def broken(tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no component\nmore of it")

    with pytest.raises(InputError, match="^TransformerLens cannot run this model: no component$"):
        Expected.of({"TransformerLens": lambda: broken}, prompts(False))


def test_a_mixture_of_experts_is_read_from_a_folder_with_its_black_boxes(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=50, **sizes, num_key_value_heads=2, num_local_experts=4, initializer_range=0.3)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "source")
    main(["model", "--folder", str(tmp_path / "source"), "--out", str(tmp_path / "out")])
    weights, prompt = load_weights(tmp_path / "out"), prompts(False)
    expected = MixtralForCausalLM.from_pretrained(tmp_path / "source")(prompt.clean).logits[prompt.scored]
    for dtype in (torch.float32, torch.float64):
        found = Engine(weights.to("cpu", dtype), prompt, ablation="corrupted").model_logits
        torch.testing.assert_close(found.float(), expected, atol=1e-4, rtol=0)


def test_the_command_writes_what_the_engine_reads(tmp_path):
    main(["model", "--build", "tiny_llama", "--out", str(tmp_path)])
    weights, again = Weights.load(tmp_path), converted(tmp_path)
    assert weights.architecture == again.architecture
    assert all(torch.equal(a, dict(again.named())[name]) for name, a in weights.named())
