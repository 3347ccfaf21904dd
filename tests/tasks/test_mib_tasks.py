"""Test the tasks in MIB's manner: what is changed in the corrupted prompt, and which incorrect answer that gives."""

from __future__ import annotations

import re

import pytest
import torch

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.models.toy.word_tokenizer import task_tokenizer, word_tokenizer
from acdc.tasks import load
from acdc.tasks.mib_mcqa import COLORS, LETTERS
from tests.gpt2 import gpt2_tokenizer

OPTIONS: dict[str, dict[str, str]] = {"mib_ioi": {}, "mib_arithmetic": {"operator": "-"}, "mib_mcqa": {}}
tasks = pytest.mark.parametrize("task", OPTIONS)


def make(task: str, n_prompts: int = 40, seed: int = 0, **options: str) -> Dataset:
    return load(task).make_dataset(gpt2_tokenizer(), n_prompts, seed, **(options or OPTIONS[task]))


def rows(dataset: Dataset) -> list[tuple[str, str, str, str]]:
    """Return the clean and the corrupted text, the correct and the incorrect answer of every prompt."""
    texts = dataset.about["clean"], dataset.about["corrupted"]
    answers = (map(gpt2_tokenizer().decode, dataset.targets[name]) for name in ("correct", "incorrect"))
    return list(zip(*texts, *answers, strict=True))


@tasks
def test_prompts_are_distinct_aligned_and_decided_by_the_seed(task):
    dataset = make(task)
    assert len({*dataset.about["clean"]}) == len(dataset) == 40
    assert dataset.clean.shape == dataset.corrupted.shape and (dataset.clean != dataset.corrupted).any(1).all()
    assert (dataset.targets["correct"] != dataset.targets["incorrect"]).all()
    assert make(task).about == dataset.about != make(task, seed=1).about


def test_the_indirect_object_gives_and_the_answer_would_be_the_subject():
    dataset = make("mib_ioi")
    assert ((dataset.clean != dataset.corrupted).sum(1) == 1).all()
    for clean, corrupted, correct, incorrect in rows(dataset):
        changed = [pair for pair in zip(clean.split(), corrupted.split(), strict=True) if pair[0] != pair[1]]
        assert changed == [(incorrect.strip(), correct.strip())]
        assert clean.count(incorrect) + clean.startswith(incorrect.strip()) == 2 and clean.count(correct) == 1
    # Both orders, as in task ioi.
    first = [clean.index(correct) < clean.index(incorrect) for clean, _, correct, incorrect in rows(dataset)]
    assert sum(first) == 20


@pytest.mark.parametrize("operator", ["+", "-"])
def test_answers_are_the_results_of_both_problems(operator):
    for clean, corrupted, correct, incorrect in rows(make("mib_arithmetic", operator=operator)):
        for text, result in ((clean, correct), (corrupted, incorrect)):
            a, b = map(int, re.fullmatch(rf"(\d\d)\{operator}(\d\d)=", text).groups())
            assert int(result) == (a + b if operator == "+" else a - b) >= 0
        assert correct.isdecimal() and correct != incorrect


def test_letters_are_others_and_the_choices_are_the_same():
    dataset = make("mib_mcqa")
    assert dataset.padding is None
    for clean, corrupted, correct, incorrect in rows(dataset):
        shown, right = (dict(re.findall(r"\n([A-Z])\. (\w+)", text)) for text in (clean, corrupted))
        assert [*shown] == [*LETTERS] and not {*shown} & {*right}
        assert [*shown.values()] == [*right.values()] and {*shown.values()} <= {*COLORS}
        color = re.match(r"Question: The \w+ is (\w+)\. ", clean).group(1)
        assert shown[correct.strip()] == color == right[incorrect.strip()]
    assert {correct for *_, correct, _ in rows(dataset)} == {f" {letter}" for letter in LETTERS}


def test_an_unknown_operator_is_refused():
    with pytest.raises(InputError, match=r"operator is '\*': it must be \+ or -"):
        make("mib_arithmetic", operator="*")


@pytest.mark.parametrize(
    ("task", "said"),
    [("mib_arithmetic", "fewer than two results of \\+ are one token"), ("mib_mcqa", "0 letters beyond D are one")],
)
def test_a_tokenizer_that_does_not_know_the_answers_is_refused(task, said):
    with pytest.raises(InputError, match=said):
        load(task).make_dataset(word_tokenizer(["one", "two"]), 4, 0)


def test_task_ioi_has_the_same_clean_prompts():
    """Both tasks draw by the same code."""
    tokenizer = task_tokenizer()
    both = [load(task).make_dataset(tokenizer, 10, 0) for task in ("ioi", "mib_ioi")]
    assert both[0].about["clean"] == both[1].about["clean"]
    assert torch.equal(both[0].targets["correct"], both[1].targets["correct"])
