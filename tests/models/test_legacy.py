"""Test models in the format of TransformerLens 1.x, and the weight processing that was its default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.models.bridge import PROCESSED, load_bridge
from acdc.models.convert import weights_of
from acdc.models.sources import from_folder
from tests.originals import vector_folder, vector_inputs
from tests.small_models import bridge, build, legacy_folder, prompts, random_circuit

CASES = ("small2l", "tiny3l_mlp")


@pytest.mark.parametrize("case", CASES)
def test_a_legacy_models_logits_are_the_originals(case, tmp_path):
    from_folder(vector_folder(tmp_path / "old", case), tmp_path / "new")
    with torch.no_grad():
        logits = load_bridge(tmp_path / "new")(vector_inputs(case)["clean"])
    torch.testing.assert_close(logits, vector_inputs(case)["clean_logits"], atol=2e-5, rtol=0)


def shortformer(folder: Path, **config) -> Path:
    """Write the tests' shortformer as TransformerLens 1.x would have saved it."""
    model = bridge("shortformer")
    state = {"embed.W_E": model.embed.W_E, "pos_embed.W_pos": model.pos_embed.W_pos, "unembed.W_U": model.unembed.W_U}
    state |= {"unembed.b_U": model.unembed.b_U}
    state |= {f"ln_final.{name[0]}": getattr(model.ln_final, name) for name in ("weight", "bias")}
    for i, block in enumerate(model.blocks):
        state |= {f"blocks.{i}.ln1.{name[0]}": getattr(block.ln1, name) for name in ("weight", "bias")}
        for name in "QKVO":
            state |= {f"blocks.{i}.attn.{kind}_{name}": getattr(block.attn, f"{kind}_{name}") for kind in "Wb"}
    keys = ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab", "act_fn", "attn_only")
    settings = {key: getattr(model.cfg, key) for key in keys} | {"d_mlp": None, "normalization": "LN", **config}
    return legacy_folder(folder, settings, {name: tensor.detach().clone() for name, tensor in state.items()})


@pytest.mark.parametrize(("said", "asked"), [(True, False), (False, True)])
def test_a_shortformer_is_one_where_its_config_or_ours_says_so(said, asked, tmp_path):
    old = shortformer(tmp_path / "old", **({"shortformer_pos": True} if said else {}))
    from_folder(old, tmp_path / "new", shortformer=asked)
    tokens = prompts(True).clean
    with torch.no_grad():
        found, expected = load_bridge(tmp_path / "new")(tokens), bridge("shortformer")(tokens)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_without_a_word_of_it_positions_are_standard_and_the_model_is_another(tmp_path):
    from_folder(shortformer(tmp_path / "old"), tmp_path / "new")
    tokens = prompts(True).clean
    with torch.no_grad():
        found, expected = load_bridge(tmp_path / "new")(tokens), bridge("shortformer")(tokens)
    assert (found - expected).abs().max() > 0.1


def test_what_is_missing_is_named(tmp_path):
    old = vector_folder(tmp_path / "old", "small2l")
    (old / "model_final.pth").unlink()
    with pytest.raises(InputError, match=r"old has 0 files \*\.pth"):
        from_folder(old, tmp_path / "new")
    torch.save({"embed.W_E": torch.zeros(2, 2)}, old / "model_final.pth")
    with pytest.raises((InputError, KeyError)):
        from_folder(old, tmp_path / "new")
    (old / "config.json").write_text("{}")
    with pytest.raises(InputError, match="neither Hugging Face's nor TransformerLens 1.x's: it lacks n_layers"):
        from_folder(old, tmp_path / "new")


def test_a_pickle_of_anything_but_tensors_is_not_loaded(tmp_path):
    old = vector_folder(tmp_path / "old", "small2l")
    torch.save({"embed.W_E": Path("/")}, old / "model_final.pth")
    with pytest.raises(InputError, match="no code of a file is run"):
        from_folder(old, tmp_path / "new")


# Weight processing


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Return a function that makes engines of one model, as it is and processed, by kind and ablation."""

    def of(kind: str, ablation: str) -> list[Engine]:
        folder = tmp_path_factory.mktemp(kind)
        build(kind, folder)
        found = [Engine(weights_of(load_bridge(folder)), prompts(True), ablation=ablation)]
        (folder / PROCESSED).touch()
        return [*found, Engine(weights_of(load_bridge(folder)), prompts(True), ablation=ablation)]

    return of


def differences(engines: list[Engine]) -> list[float]:
    """Return the largest difference of log-probabilities, for all edges and for a few random circuits.

    Centring moves all logits of a row alike, which log-probabilities do not show.
    """
    graph = engines[0].graph
    circuits = [Circuit.full(graph), *(random_circuit(graph, seed, 0.5, 0.9) for seed in range(3))]
    found = [[engine.circuit_logits(circuit).log_softmax(-1) for circuit in circuits] for engine in engines]
    return [(a - b).abs().max().item() for a, b in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", ("gpt2", "layer_norm", "attention_only"))
def test_processing_changes_weights_but_no_circuit_under_corrupted_ablation(kind, engines):
    plain, processed = engines(kind, "corrupted")
    assert (plain.weights.unembed - processed.weights.unembed).abs().max() > 0.01
    assert max(differences([plain, processed])) < 1e-4


@pytest.mark.parametrize("kind", ("gpt2", "layer_norm", "attention_only"))
def test_processing_changes_circuits_under_zero_ablation(kind, engines):
    whole, *circuits = differences(engines(kind, "zero"))
    assert whole < 1e-4 and max(circuits) > 0.01


def test_a_shortformer_must_be_of_transformer_lens(tmp_path):
    build("gpt2", tmp_path / "gpt2")
    with pytest.raises(InputError, match="is Hugging Face's: shortformer is for models of TransformerLens 1.x"):
        from_folder(tmp_path / "gpt2", tmp_path / "new", shortformer=True)
