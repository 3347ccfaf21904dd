"""Test the check of the engine against the model's own programs, whose logits are kept in a file."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from acdc.engine import check
from acdc.engine.check import Expected, check_engine, evenly_spaced, every_position, rounding_of_logits
from acdc.engine.load import Options
from acdc.engine.model import Engine
from acdc.engine.weights import Weights
from acdc.errors import InputError
from acdc.graph import Circuit
from acdc.models.convert import weights_of
from tests.small_models import bridge, engine, prompts

FLOAT_ERROR = 1e-4

DATA = prompts(False)


def expected(**changed: torch.Tensor) -> Expected:
    """Return what TransformerLens gives, with some tensors, such as scored_clean, in place of its own."""
    (made,) = Expected.of({"TransformerLens": lambda: bridge("llama")}, DATA)
    for name, logits in changed.items():
        part, given = name.split("_")
        getattr(getattr(made, part), given)["TransformerLens"] = logits
    return made


def made_by(name: str, part: str = "scored") -> torch.Tensor:
    return getattr(getattr(expected(), part), name)["TransformerLens"]


@pytest.mark.parametrize("part", ["scored", "whole"])
@pytest.mark.parametrize(("given", "which"), [("clean", "all"), ("corrupted", "no")])
def test_each_of_the_stored_logits_counts(part, given, which):
    other = made_by(given, part).clone()
    other[-1, 3] += 0.01
    check_engine(engine("llama"), expected())
    with pytest.raises(
        InputError, match=f"with {which} edges the engine's logits differ from TransformerLens's by 0.01"
    ):
        check_engine(engine("llama"), expected(**{f"{part}_{given}": other}))


def test_an_ablated_run_that_is_no_plain_run_is_not_compared_at_the_scored_positions():
    other = expected(scored_corrupted=made_by("corrupted") + 1)
    check_engine(engine("llama", "zero"), other)
    with pytest.raises(InputError, match="with no edges"):
        check_engine(engine("llama"), other)


def test_the_sentence_says_with_which_program_the_engine_agrees():
    both = expected()
    for logits in (both.scored, both.whole):
        for given in (logits.clean, logits.corrupted):
            given["Transformers"] = given["TransformerLens"] + 3.5
    with pytest.raises(InputError, match="from TransformerLens's by .*e-.* and from Transformers's by 3.5"):
        check_engine(engine("llama"), both)


def test_logits_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match="nan"):
        check_engine(engine("llama"), expected(scored_clean=made_by("clean") * torch.nan))


def test_logits_of_another_dataset_are_refused():
    with pytest.raises(InputError, match="of another dataset"):
        check_engine(engine("llama"), replace(expected(), dataset_sha256="0" * 64))


def test_what_the_engines_own_rounding_explains_passes(monkeypatch):
    """A reset SmolLM2 needs it: its activations are hundreds, and two ways to add give logits that differ by 0.003."""
    monkeypatch.setattr(check, "TOLERANCE", 0.0)
    setup = Engine(weights_of(bridge("llama")).to("cpu", torch.float32), DATA, ablation="corrupted")
    own = setup.circuit_logits(Circuit.full(setup.graph))
    rounding = rounding_of_logits(setup, Circuit.full(setup.graph))
    assert 0 < rounding < FLOAT_ERROR
    exact = expected()
    exact.scored.corrupted.clear(), exact.whole.clean.clear(), exact.whole.corrupted.clear()
    exact.scored.clean["TransformerLens"] = own + 2 * rounding
    check_engine(setup, exact)
    exact.scored.clean["TransformerLens"] = own + 20 * rounding
    with pytest.raises(InputError, match="with all edges"):
        check_engine(setup, exact)


def test_a_file_brings_the_logits_back(tmp_path):
    path = tmp_path / "some" / "logits.safetensors"
    expected().save(path)
    check_engine(engine("llama"), Expected.load(path))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["expected"])["dataset_sha256"] == DATA.sha256
        assert file.get_tensor("scored.clean.TransformerLens").shape == (int(DATA.scored.sum()), 50)
        assert file.get_tensor("whole.clean.TransformerLens").shape == (2 * DATA.clean.shape[1], 50)


def test_of_many_rows_some_are_kept(monkeypatch):
    monkeypatch.setattr(check, "MOST_BYTES", 3 * 50 * 4)
    kept = expected()
    assert len(kept.scored.rows) <= 3 and len(kept.whole.rows) <= 6
    check_engine(engine("llama"), kept)


def test_evenly_spaced_numbers_have_both_ends():
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(3, 100).tolist() == [0, 1, 2]
    assert evenly_spaced(5, 0).tolist() == [0, 4]


def test_every_position_of_the_first_prompts_is_scored():
    data = every_position(DATA)
    assert len(data) == 2 and data.scored.all() and torch.equal(data.clean, DATA.clean[:2])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "pythia", "shortformer", "no_norm", "attention_only"])
def test_weights_come_back_from_their_files_as_they_are(kind, tmp_path):
    weights = weights_of(bridge(kind))
    weights.save(tmp_path)
    loaded = Weights.load(tmp_path)
    assert loaded.architecture == weights.architecture
    before, after = dict(weights.named()), dict(loaded.named())
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    options = Options(precision="float64")
    one, other = (options.engine(options.place(w), DATA, None) for w in (weights, loaded))
    torch.testing.assert_close(one.model_logits, other.model_logits, atol=1e-12, rtol=0)


def test_a_folder_that_was_not_converted_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no engine.safetensors: make it by `acdc model`"):
        Weights.load(tmp_path)
    weights_of(bridge("gpt2")).save(tmp_path)
    described = json.loads((tmp_path / "architecture.json").read_text())
    (tmp_path / "architecture.json").write_text(json.dumps(described | {"n_wheels": 4}))
    with pytest.raises(InputError, match="another version's .*n_wheels.*: make it again"):
        Weights.load(tmp_path)
