"""Test reset networks: they are the trained model with what reads the residual stream permuted, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc import tasks
from acdc.cli import main
from acdc.data import Dataset
from acdc.engine.check import Expected, check_engine
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.models.bridge import PROCESSED, load_bridge
from acdc.models.convert import weights_of
from acdc.models.reset import RESET
from acdc.models.sources import from_builder, from_model
from acdc.models.toy import tracr_proportion, tracr_reverse, tracr_sort
from tests.plain_model import OTHERS, assert_described
from tests.small_models import KINDS, build, prompts, save_hugging_face

PROGRAMS = {"tracr_reverse": tracr_reverse, "tracr_proportion": tracr_proportion, "tracr_sort": tracr_sort}
MODELS = (*KINDS, "processed gpt2", *PROGRAMS)
PERMUTABLE = tuple(name for name in MODELS if name != "tracr_proportion")
"""Without ``head_outputs``: tracr_proportion has one head and one neuron a layer."""
SEED = 1
ATTENTION, MLP = ("W_Q", "W_K", "W_V", "b_Q", "b_K", "b_V"), ("W_in", "b_in", "W_gate")
UNTOUCHED = ("embed", "pos_embed", "unembed", "b_unembed", "ln_final_w", "ln_final_b")
UNTOUCHED_IN_BLOCKS = ("w_o", "b_o", "w_out", "b_out", "ln1_w", "ln1_b", "ln2_w", "ln2_b")
all_models = pytest.mark.parametrize("name", MODELS)
both = pytest.mark.parametrize("head_outputs", (False, True))
resets = pytest.mark.parametrize(
    ("name", "head_outputs"), [*((name, True) for name in MODELS), *((name, False) for name in PERMUTABLE)]
)

Load = Callable[..., TransformerBridge]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that writes a model, and returns its folder."""

    @cache
    def of(name: str) -> Path:
        folder = tmp_path_factory.mktemp("trained")
        if name in PROGRAMS:
            from_builder(name, folder)
        else:
            build(name.removeprefix("processed "), folder)
        if name.startswith("processed"):
            (folder / PROCESSED).touch()
        return folder

    return of


@pytest.fixture(scope="module")
def load(trained, tmp_path_factory) -> Load:
    """Return a function that loads a model, or its reset network."""

    @cache
    def of(name: str, head_outputs: bool | None = None, seed: int = SEED) -> TransformerBridge:
        if head_outputs is None:
            return load_bridge(trained(name))
        folder = tmp_path_factory.mktemp("reset")
        from_model(trained(name), folder, seed=seed, head_outputs=head_outputs)
        return load_bridge(folder)

    return of


def dataset(name: str) -> Dataset:
    return tasks.load(name).make_dataset(None, 6, 0) if name in PROGRAMS else prompts(True)


def weights(model: TransformerBridge) -> dict[str, Tensor]:
    """Return the weights that are permuted, by TransformerLens's names: heads first, d_head or neurons last."""
    found = {}
    for i, block in enumerate(model.blocks):
        parts = {"attn": (block.attn, ATTENTION)}
        if not model.cfg.attn_only:
            parts["mlp"] = (block.mlp, MLP)
        for part, (module, names) in parts.items():
            found |= {f"blocks.{i}.{part}.{name}": getattr(module, name, None) for name in names}
    return {name: weight.clone() for name, weight in found.items() if weight is not None}


def in_order(x: Tensor, dim: int) -> list[list[float]]:
    """Return what stands along one dimension, sorted, so that it is the same whatever the order was."""
    return sorted(part.flatten().tolist() for part in x.unbind(dim))


@pytest.mark.parametrize("name", PERMUTABLE)
def test_heads_and_neurons_are_the_trained_models_in_another_order(name, load):
    before, after, config = weights(load(name)), weights(load(name, False)), load(name).cfg
    assert before.keys() == after.keys()
    for key in before:
        dim = 0 if ".attn." in key else -1
        assert in_order(before[key], dim) == in_order(after[key], dim), key
    for part in ["attn"] * (config.n_heads > 1) + ["mlp"] * (not config.attn_only):
        assert any(not torch.equal(before[key], after[key]) for key in before if f".{part}." in key), part


@resets
def test_everything_else_stays(name, head_outputs, load):
    before, after = weights_of(load(name)), weights_of(load(name, head_outputs))
    pairs = [(getattr(before, field), getattr(after, field)) for field in UNTOUCHED]
    for old, new in zip(before.blocks, after.blocks, strict=True):
        pairs += [(getattr(old, field), getattr(new, field)) for field in UNTOUCHED_IN_BLOCKS]
    assert all(old is new is None or torch.equal(old, new) for old, new in pairs)


@all_models
def test_head_outputs_permutes_the_dimensions_inside_heads_too(name, load):
    before, after = weights(load(name)), weights(load(name, True))
    for key in before:
        old, new = before[key], after[key]
        if ".attn." in key:  # each head as the set of its dimensions
            old, new = (torch.tensor([in_order(head, -1) for head in x]) for x in (old, new))
        dim = 0 if ".attn." in key else -1
        assert in_order(old, dim) == in_order(new, dim), key
    attention = [key for key in before if ".attn.W_" in key]
    assert any(in_order(before[key], 0) != in_order(after[key], 0) for key in attention)


@both
def test_permutations_are_the_originals(head_outputs, load):
    """They are those of torch's own generator, drawn in the order of a TransformerLens 1.x state dict."""
    before, after = weights(load("layer_norm")), weights(load("layer_norm", head_outputs))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for layer in range(2):
            for name in ATTENTION:
                key = f"blocks.{layer}.attn.{name}"
                expected = before[key][torch.randperm(4)]
                if head_outputs:
                    expected = expected[..., torch.randperm(8)]
                assert torch.equal(after[key], expected)
            for name in ("W_in", "b_in"):
                key = f"blocks.{layer}.mlp.{name}"
                assert torch.equal(after[key], before[key][..., torch.randperm(48)])


@resets
def test_the_engine_and_transformer_lens_compute_the_same_other_model(name, head_outputs, load):
    model, data = load(name, head_outputs), dataset(name)
    with torch.no_grad():
        trained, clean = load(name)(data.clean), model(data.clean)
    assert (clean - trained).abs().max() > 0.01
    engine = Engine(weights_of(model), data, ablation="corrupted")
    (expected,) = Expected.of({"TransformerLens": lambda: model}, data)
    check_engine(engine, expected)


@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_other_models_of_hugging_face_are_reset_too(build, tmp_path):
    save_hugging_face(build(), tmp_path / "trained")
    from_model(tmp_path / "trained", tmp_path / "reset", seed=SEED, head_outputs=True)
    before, after = (weights(load_bridge(tmp_path / name)) for name in ("trained", "reset"))
    assert not any(torch.equal(before[key], after[key]) for key in before if ".W_" in key)
    assert_described(load_bridge(tmp_path / "reset"))


def test_a_seed_gives_the_same_model_and_another_seed_another(load, trained, tmp_path):
    from_model(trained("gpt2"), tmp_path, seed=SEED, head_outputs=False)
    first, again, other = (weights(m) for m in (load("gpt2", False), load_bridge(tmp_path), load("gpt2", False, 2)))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_loading_a_reset_network_leaves_torchs_own_generator_alone(trained, tmp_path):
    from_model(trained("no_norm"), tmp_path, seed=SEED, head_outputs=True)
    states = []
    for folder in (trained("no_norm"), tmp_path):
        torch.manual_seed(0)
        load_bridge(folder)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class TestRefusals:
    def test_a_reset_network_of_a_reset_network(self, trained, tmp_path):
        from_model(trained("gpt2"), tmp_path / "once", seed=0, head_outputs=False)
        with pytest.raises(InputError, match="once is a reset network already"):
            from_model(tmp_path / "once", tmp_path / "twice", seed=0, head_outputs=False)
        assert not (tmp_path / "twice").exists()

    def test_a_model_that_stays_as_it_is(self, trained, tmp_path):
        from_model(trained("tracr_proportion"), tmp_path, seed=3, head_outputs=False)
        with pytest.raises(InputError, match="seed 3 leaves the model as it is: .* head_outputs"):
            load_bridge(tmp_path)

    def test_a_folder_without_a_model(self, tmp_path):
        with pytest.raises(InputError, match="nowhere does not exist"):
            from_model(tmp_path / "nowhere", tmp_path / "reset", seed=0, head_outputs=False)

    @pytest.mark.parametrize(
        ("part", "name", "shown"),
        [
            ("attn", "W_K", lambda bridge: bridge.k.weight.clone().unflatten(0, (4, 8)).transpose(1, 2)),
            ("attn", "b_V", lambda bridge: bridge.v.bias.clone().unflatten(0, (4, 8))),
            ("mlp", "W_in", lambda bridge: None),
        ],
        ids=("a copy of a weight", "a copy of a bias", "nothing"),
    )
    def test_a_model_that_shows_something_else_than_it_computes_with(
        self, part, name, shown, trained, tmp_path, monkeypatch
    ):
        from_model(trained("no_norm"), tmp_path, seed=0, head_outputs=True)
        component = type(getattr(load_bridge(tmp_path).blocks[0], part))
        monkeypatch.setattr(component, name, property(shown))
        with pytest.raises(InputError, match=f"TransformerLensNative cannot be reset: its {name} cannot be written to"):
            load_bridge(tmp_path)


def test_the_stage_model_notes_seed_and_head_outputs_beside_a_copy(trained, tmp_path):
    source = trained("tracr_sort")
    main(["model", "--reset", str(source), "--seed", "7", "--head-outputs", "--out", str(tmp_path / "reset")])
    assert json.loads((tmp_path / "reset" / RESET).read_text()) == {"seed": 7, "head_outputs": True}
    for path in source.iterdir():
        assert (tmp_path / "reset" / path.name).read_bytes() == path.read_bytes()
