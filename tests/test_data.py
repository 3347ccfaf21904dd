"""Test datasets: they survive the disk, are cut with their texts, and refuse what cannot be scored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from acdc.data import Dataset, pad
from tests.small_models import prompts

ABOUT = {"task": "ioi", "clean": ["a", "b", "é", "d"], "corrupted": ["w", "x", "y", "z"]}


def dataset() -> Dataset:
    return replace(prompts(True), about=ABOUT)


def assert_same(found: Dataset, expected: Dataset) -> None:
    for name in ("clean", "corrupted", "scored"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert found.targets.keys() == expected.targets.keys()
    assert all(torch.equal(found.targets[name], expected.targets[name]) for name in expected.targets)
    assert found.about == expected.about


def test_dataset_survives_the_disk(tmp_path):
    path = tmp_path / "new" / "ioi.safetensors"
    dataset().save(path)
    assert_same(Dataset.load(path), dataset())


def test_saved_twice_is_the_same_bytes(tmp_path):
    for name in "ab":
        dataset().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_selection_that_is_saved_is_what_was_selected(tmp_path):
    dataset().select(slice(1, 3)).save(tmp_path / "part")
    assert_same(Dataset.load(tmp_path / "part"), dataset().select(slice(1, 3)))


def test_select_cuts_prompts_targets_and_texts_alike():
    whole, part = dataset(), dataset().select(slice(1, 3))
    assert len(part) == 2 and len(whole) == 4
    assert torch.equal(part.clean, whole.clean[1:3]) and torch.equal(part.scored, whole.scored[1:3])
    assert torch.equal(part.corrupted, whole.corrupted[1:3])
    assert torch.equal(part.targets["correct"], whole.targets["correct"][1:3])
    assert part.about == {"task": "ioi", "clean": ["b", "é"], "corrupted": ["x", "y"]}
    assert whole.about == ABOUT


def test_a_selections_pool_is_the_whole_datasets_until_it_is_saved(tmp_path):
    whole, part = dataset(), dataset().select(slice(1, 3)).select([1, 0])
    assert torch.equal(whole.pool, whole.corrupted) and torch.equal(part.pool, whole.corrupted)
    part.save(tmp_path / "part")
    assert torch.equal(Dataset.load(tmp_path / "part").pool, part.corrupted)


def test_select_needs_no_texts():
    assert prompts(True).select(slice(0, 1)).about == {}


def test_scored_rows_go_by_prompt_and_then_position():
    prompt, pos = dataset().scored_rows
    assert list(zip(prompt.tolist(), pos.tolist(), strict=True)) == [(0, 3), (1, 6), (2, 5), (3, 2), (3, 6)]


@pytest.mark.parametrize("name", ("clean", "corrupted", "scored"))
def test_shapes_that_differ_are_refused(name, unchecked):
    with pytest.raises(ValueError, match=r"one shape.*\(4, 6\)"):
        replace(dataset(), **{name: getattr(dataset(), name)[:, :-1]})


def test_prompt_without_scored_position_is_refused_by_number():
    scored = dataset().scored.clone()
    scored[2] = False
    with pytest.raises(ValueError, match="prompt 2 has no scored position"):
        replace(dataset(), scored=scored)


def test_pad_fills_on_the_right():
    assert pad([[1, 2, 3], [4], []], 9).tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]]


def test_a_resample_draws_as_many_prompts_with_replacement():
    whole = dataset()
    parts = [whole.resample(seed) for seed in range(20)]
    for part in parts:
        drawn = [ABOUT["clean"].index(text) for text in part.about["clean"]]
        assert len(part) == 4 and torch.equal(part.clean, whole.clean[drawn])
        assert torch.equal(part.scored, whole.scored[drawn])
        assert torch.equal(part.targets["correct"], whole.targets["correct"][drawn])
        assert part.about["corrupted"] == [ABOUT["corrupted"][i] for i in drawn]
    assert any(len(set(part.about["clean"])) < 4 for part in parts)
    assert len({tuple(part.about["clean"]) for part in parts}) > 10
    assert_same(whole.resample(3), parts[3])
