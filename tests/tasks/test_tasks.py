"""Test the tasks of text: what is asked for is what the tokens say, and what cannot be asked is refused by name."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GPT2Config, LlamaConfig

from acdc.data import NOWHERE, Dataset
from acdc.errors import InputError
from acdc.models.toy.word_tokenizer import task_tokenizer, task_words, word_tokenizer
from acdc.tasks import ioi, load
from acdc.tasks.months import MONTHS
from acdc.text import Prompt, to_dataset, words

SIZES = {"ioi": 60, "months": 12, "months_sequence": 60}
TOKENIZER = task_tokenizer()
tasks = pytest.mark.parametrize("task", SIZES)


def make(task: str, n_prompts: int | None = None, seed: int = 0, tokenizer=TOKENIZER) -> Dataset:
    return load(task).make_dataset(tokenizer, n_prompts or SIZES[task], seed)


def answers(dataset: Dataset, target: str) -> list[str]:
    return [TOKENIZER.decode(token) for token in dataset.targets[target]]


def names_in(text: str) -> list[str]:
    names = words("names")
    return [word for word in re.findall(r"\w+", text) if word in names]


def months_in(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text) if word in MONTHS]


@tasks
def test_tokens_are_the_texts_padded_on_the_right(task):
    dataset = make(task)
    assert len(dataset) == len(dataset.about["clean"]) == len(dataset.about["corrupted"]) == SIZES[task]
    for kind in ("clean", "corrupted"):
        for row, text in zip(getattr(dataset, kind), dataset.about[kind], strict=True):
            length = len(TOKENIZER(text).input_ids)
            assert TOKENIZER.decode(row[:length]) == text
            assert (row[:length] != TOKENIZER.pad_token_id).all() and (row[length:] == TOKENIZER.pad_token_id).all()
            assert TOKENIZER.unk_token_id not in row


def test_prompts_of_ioi_differ_in_length_so_that_padding_is_tested():
    assert (make("ioi").clean == TOKENIZER.pad_token_id).any()


@tasks
def test_scored_is_the_last_real_token_of_both_prompts(task):
    dataset = make(task)
    prompt, pos = dataset.scored_rows
    assert prompt.tolist() == list(range(len(dataset)))
    for kind in ("clean", "corrupted"):
        real = getattr(dataset, kind) != TOKENIZER.pad_token_id
        assert torch.equal(pos, real.sum(1) - 1)


@tasks
def test_prompts_are_distinct_so_that_splits_are_disjoint(task):
    dataset = make(task)
    half = len(dataset) // 2
    first, second = dataset.select(slice(0, half)), dataset.select(slice(half, None))
    assert len({*first.about["clean"]} | {*second.about["clean"]}) == len(dataset)
    assert not {*map(tuple, first.clean.tolist())} & {*map(tuple, second.clean.tolist())}


@tasks
def test_seed_decides_the_prompts(task):
    first, again, other = make(task), make(task), make(task, seed=1)
    assert first.about == again.about
    assert torch.equal(first.clean, again.clean) and torch.equal(first.corrupted, again.corrupted)
    assert all(torch.equal(first.targets[name], again.targets[name]) for name in first.targets)
    assert first.about["clean"] != other.about["clean"]
    # All twelve prompts of months are in every dataset; elsewhere another seed is a new draw.
    assert ({*first.about["clean"]} == {*other.about["clean"]}) == (task == "months")


@tasks
def test_a_file_gives_back_the_dataset(task, tmp_path):
    dataset = make(task)
    dataset.save(tmp_path / "dataset.safetensors")
    loaded = Dataset.load(tmp_path / "dataset.safetensors")
    assert loaded.about == dataset.about and torch.equal(loaded.scored, dataset.scored)


@tasks
def test_no_token_is_put_before_the_prompt(task):
    tokenizer = task_tokenizer()
    first = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", tokenizer.unk_token_id)])
    tokenizer.backend_tokenizer.post_processor = first
    assert tokenizer("done").input_ids[0] == tokenizer.unk_token_id
    assert torch.equal(make(task, tokenizer=tokenizer).clean, make(task).clean)


def is_abba(text: str) -> bool:
    first, second, giver = names_in(text)
    assert giver in (first, second)
    return giver == second


@pytest.mark.parametrize("n_prompts", [60, 7])
def test_ioi_orders_are_half_and_half_and_mixed(n_prompts):
    abba = [is_abba(text) for text in make("ioi", n_prompts).about["clean"]]
    assert sum(abba) == (n_prompts + 1) // 2
    assert abba != [i % 2 == 0 for i in range(n_prompts)]


def test_ioi_answers_are_the_other_name_and_the_giver():
    dataset = make("ioi")
    for text, correct, incorrect in zip(
        dataset.about["clean"], answers(dataset, "correct"), answers(dataset, "incorrect"), strict=True
    ):
        *pair, giver = names_in(text)
        assert incorrect == f" {giver}"
        assert {correct.strip(), giver} == {*pair} and correct.startswith(" ")


def test_ioi_corruption_changes_the_names_and_nothing_else():
    dataset = make("ioi")
    changed = (dataset.clean != dataset.corrupted).sum(1)
    assert (changed == 3).all()
    for clean, corrupted in zip(dataset.about["clean"], dataset.about["corrupted"], strict=True):
        assert len({*names_in(corrupted)}) == 3
        assert not {*names_in(clean)} & {*names_in(corrupted)}


def test_labels_are_the_positions_of_the_words_that_they_name():
    names = make("ioi", 20)
    for i, prompt in enumerate(names.clean.tolist()):
        io, first, second = (prompt[names.labels[label][i, 0]] for label in ("IO", "S1", "S2"))
        assert (io, first, second) == (names.targets["correct"][i], *[names.targets["incorrect"][i]] * 2)
        assert names.labels["S1"][i, 0] < names.labels["S2"][i, 0]
        corrupted = {int(names.corrupted[i, names.labels[label][i, 1]]) for label in names.labels}
        assert len(corrupted) == 3 and not corrupted & set(prompt)


def test_a_prompt_without_the_word_of_a_label_has_no_position():
    months_of = make("months", 12)
    at = months_of.labels["month"]
    assert (months_of.clean[range(12), at[:, 0]] == months_of.targets["incorrect"]).all()
    assert (at[:, 1] == NOWHERE).all()


def test_the_label_of_a_sequence_is_its_last_member():
    sequence = make("months_sequence", 5)
    at = sequence.labels["last"]
    assert (sequence.clean[range(5), at[:, 0]] == sequence.targets["incorrect"]).all()
    assert (sequence.corrupted[range(5), at[:, 1]] != sequence.targets["incorrect"]).all()


def test_ioi_uses_every_template():
    patterns = [re.compile(re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(template))) for template in ioi.TEMPLATES]
    texts = make("ioi", 200).about["clean"]
    assert all(sum(bool(p.fullmatch(text)) for p in patterns) == 1 for text in texts)
    assert all(any(p.fullmatch(text) for text in texts) for p in patterns)


def test_ioi_leaves_out_names_that_the_tokenizer_splits_or_does_not_know():
    known = word_tokenizer(task_words() - {"Mary"}, split="Michael")
    assert {*words("names")} - {*ioi.usable_names(known)} == {"Mary", "Michael"}


def test_ioi_needs_five_names():
    names = words("names")
    other_words = task_words() - {*names}
    make("ioi", 5, tokenizer=word_tokenizer(other_words | {*names[:5]}))
    tokenizer = word_tokenizer(other_words | {*names[:4]})
    tokenizer.name_or_path = "models/tiny"
    with pytest.raises(InputError, match=r"names\.txt has 4 names .* models/tiny"):
        make("ioi", 5, tokenizer=tokenizer)


def test_ioi_prompts_can_be_exhausted(monkeypatch):
    """Every prompt that is said to exist is found, and not one more is promised."""
    few = {"names": ["Ann", "Bob", "Cyd", "Dan", "Eve"], "places": ["shop"], "objects": ["pen"]}
    monkeypatch.setattr(ioi, "words", few.__getitem__)
    tokenizer = word_tokenizer(task_words() | {"Ann", "Bob", "Cyd", "Dan", "Eve"})
    exist = 2 * len(ioi.TEMPLATES) * 20
    assert len({*make("ioi", exist, tokenizer=tokenizer).about["clean"]}) == exist
    with pytest.raises(InputError, match=f"{exist} distinct prompts and {exist + 1} were asked for"):
        make("ioi", exist + 1, tokenizer=tokenizer)


def test_months_answers_follow_the_given_month():
    dataset = make("months")
    (given,) = zip(*map(months_in, dataset.about["clean"]), strict=True)
    following = dict(pairwise((*MONTHS, "January")))
    assert {*given} == {*MONTHS}
    assert answers(dataset, "correct") == [f" {following[month]}" for month in given]
    assert answers(dataset, "incorrect") == [f" {month}" for month in given]
    assert {*dataset.about["corrupted"]} == {"This time it is here and last time it was"}


@pytest.mark.parametrize("n_prompts", [13, -1])
def test_months_has_twelve_prompts(n_prompts):
    with pytest.raises(
        InputError, match=f"months has 12 distinct prompts and {n_prompts} were asked for: ask for 1 to"
    ):
        make("months", n_prompts)


def test_sequence_is_in_order_and_continued():
    dataset = make("months_sequence")
    following = dict(pairwise((*MONTHS, "January")))
    for i, text in enumerate(dataset.about["clean"]):
        given = months_in(text)
        assert len(given) == 4 and all(following[a] == b for a, b in pairwise(given))
        assert answers(dataset, "correct")[i] == f" {following[given[-1]]}"
        assert answers(dataset, "incorrect")[i] == f" {given[-1]}"


def test_sequence_corruption_keeps_the_items_and_breaks_the_order():
    dataset = make("months_sequence", 300)
    following = dict(pairwise((*MONTHS, "January")))
    assert ((dataset.clean != dataset.corrupted).sum(1) == 4).all()
    for clean, corrupted in zip(dataset.about["clean"], dataset.about["corrupted"], strict=True):
        months = months_in(corrupted)
        assert len({*months}) == 4
        assert all(following[a] != b for a, b in pairwise(months))
        assert re.sub("|".join(MONTHS), "", clean) == re.sub("|".join(MONTHS), "", corrupted)


@pytest.mark.parametrize("task", ["months", "months_sequence"])
def test_answers_of_two_tokens_are_refused_by_name(task):
    with pytest.raises(InputError, match=r"answer ' February' must be one known token and is 2 \(' Feb' 'ruary'\)"):
        make(task, tokenizer=task_tokenizer(split="February"))


@pytest.mark.parametrize("month", [month for month in MONTHS if len(month) > 3])
def test_sequence_refuses_any_split_month_even_where_no_answer_is_one(month):
    """Two split months in both prompts could make their lengths equal and their positions not."""
    with pytest.raises(InputError, match=f"answer ' {month}'"):
        make("months_sequence", 1, tokenizer=task_tokenizer(split=month))


def test_unknown_answers_are_refused_by_name():
    with pytest.raises(InputError, match=r"answer ' February' .* is 1 \('<unk>'\)"):
        make("months", tokenizer=word_tokenizer(task_words() - {"February"}))


def test_prompts_of_different_lengths_are_refused_with_both():
    with pytest.raises(InputError, match=r"'Last month it was \w+ so.* has 10 tokens and .*'This time.* has 11 in"):
        make("months", tokenizer=task_tokenizer(split="here"))


@tasks
def test_a_model_without_a_tokenizer_is_refused(task):
    with pytest.raises(InputError, match="need a tokenizer"):
        make(task, tokenizer=None)


@pytest.mark.parametrize(("special", "expected"), [({"pad_token": "a"}, 2), ({"eos_token": "b"}, 3), ({}, 0)])
def test_padding_falls_back_to_the_end_token_and_to_zero(special, expected):
    tokenizer = word_tokenizer(["a", "b"])
    tokenizer.pad_token = None
    for name, token in special.items():
        setattr(tokenizer, name, token)
    dataset = to_dataset(tokenizer, [Prompt("a a", "b b", " a", " b"), Prompt("a", "b", " a", " b")])
    assert dataset.clean[1, 1] == dataset.corrupted[1, 1] == expected


@pytest.mark.parametrize("config", [None, GPT2Config, LlamaConfig])
def test_the_small_tokenizer_survives_its_file(config, tmp_path):
    """A model's configuration may stand beside it, by which AutoTokenizer might choose another class."""
    TOKENIZER.save_pretrained(tmp_path)
    if config:
        config().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for task in SIZES:
        assert torch.equal(make(task, tokenizer=loaded).clean, make(task).clean)
    assert loaded.decode(loaded("Then, Mary and").input_ids) == "Then, Mary and"
