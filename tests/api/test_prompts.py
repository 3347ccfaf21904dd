"""Test prompts of lists, tokens, tables and files: they are read, or one sentence says what does not fit."""

from __future__ import annotations

from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

import acdc
from acdc import tasks
from acdc.errors import InputError
from acdc.models.toy.word_tokenizer import task_tokenizer, word_tokenizer
from tests.api.conftest import ANSWERS, CLEAN, COLUMNS, CORRUPTED


def test_prompts_and_answers_are_tokens_of_the_model(model, data):
    tokenizer = model.tokenizer
    assert [tokenizer.decode(row) for row in data.clean] == CLEAN
    assert [tokenizer.decode(row) for row in data.corrupted] == CORRUPTED
    assert [tokenizer.decode(token) for token in data.targets["correct"]] == ANSWERS["correct"]
    assert data.scored[:, -1].all() and data.scored.sum() == len(data)


def csv(folder, encoding="utf-8"):
    rows = [",".join(COLUMNS), *(",".join(row) for row in zip(*COLUMNS.values(), strict=True))]
    (folder / "prompts.csv").write_text("\n".join(rows), encoding=encoding)
    return folder / "prompts.csv"


TABLES = {
    "DataFrame": lambda _: pd.DataFrame(COLUMNS).assign(more=1),
    "datasets.Dataset": lambda _: datasets.Dataset.from_dict(COLUMNS | {"more": [1, 2, 3]}),
    "dictionary": lambda _: COLUMNS | {"more": [1, 2, 3]},
    "CSV file": csv,
    "path of a CSV file": lambda folder: str(csv(folder)),
    "CSV file of a spreadsheet": lambda folder: csv(folder, "utf-8-sig"),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_has_the_columns_in_place_of_the_lists(table, model, data, tmp_path):
    assert acdc.prompts(model, table(tmp_path)).sha256 == data.sha256


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_column_that_is_missing_is_named(table, model, tmp_path, monkeypatch):
    monkeypatch.delitem(COLUMNS, "corrupted")
    with pytest.raises(InputError, match="there is no column corrupted: it needs clean, corrupted, correct, incorrect"):
        acdc.prompts(model, table(tmp_path))


def test_columns_of_other_names(model, data):
    table = pd.DataFrame(COLUMNS).rename(columns={"clean": "text", "correct": "right"})
    assert acdc.prompts(model, table, columns={"clean": "text", "correct": "right"}).sha256 == data.sha256


def test_several_answers(model):
    data = acdc.prompts(model, **COLUMNS | {"correct": [[" one", 7], [" two"], [" one"]]})
    assert data.targets["correct"].shape == (3, 2) and data.targets["incorrect"].shape == (3,)
    assert acdc.find(model, data, metric="logit_difference", threshold=1).settings["bos"] is False


def test_prompts_that_do_not_fit_are_left_out(model, data):
    columns = {name: [*column, column[0]] for name, column in COLUMNS.items()} | {
        "correct": [*ANSWERS["correct"], " six"]
    }
    with pytest.warns(UserWarning, match="1 of 4 prompts are left out, the first: row 4: answer ' six'"):
        assert acdc.prompts(model, columns, unfit="leave_out").sha256 == data.sha256


def test_answers_by_their_first_tokens(model, data):
    """An answer without its space is another token: `one` and ` one` are two."""
    by_themselves = {name: [word.strip() for word in words] for name, words in ANSWERS.items()}
    first = acdc.prompts(model, **COLUMNS | by_themselves, answers="first_token")
    for name, words in by_themselves.items():
        assert first.targets[name].tolist() == [model.tokenizer(word).input_ids[0] for word in words]
        assert not torch.equal(first.targets[name], data.targets[name])


def test_an_answer_that_the_model_has_not(model):
    data = acdc.prompts(model, **COLUMNS | {"correct": [50] * 3})
    with pytest.raises(
        InputError, match="an answer is token 50 and the model's are 0 to 49: use this model's tokenizer"
    ):
        acdc.find(model, data, metric="logit_difference", threshold=1)


def test_prompts_begin_as_is_said(model):
    tokenizer = word_tokenizer(["<s>", "one", "two"])
    tokenizer.bos_token = "<s>"
    with_bos = replace(model, tokenizer=tokenizer)
    plain, begun = (acdc.prompts(with_bos, **COLUMNS, bos=bos) for bos in ("auto", True))
    assert begun.clean[:, 0].tolist() == [tokenizer.bos_token_id] * 3 and torch.equal(begun.clean[:, 1:], plain.clean)
    assert (plain.about["bos"], begun.about["bos"]) == (False, True)
    ids = {
        name: column.tolist()
        for name, column in {"clean": plain.clean, "corrupted": plain.corrupted, **plain.targets}.items()
    }
    assert acdc.prompts(with_bos, **ids).sha256 == plain.sha256


def test_mean_ablation_by_the_plain_engine_is_refused_too(model):
    data = acdc.prompts(model, clean=["one two", "one"], corrupted=["two one", "two"], correct=[1, 1], incorrect=[2, 2])
    for engine in ("fast", "plain"):
        with pytest.raises(InputError, match="mean ablation"):
            acdc.find(model, data, metric="kl_divergence", threshold=1, ablation="mean", engine=engine)


@pytest.mark.parametrize("kind", (torch.tensor, np.array, list), ids=("tensor", "array", "list"))
def test_tokens_need_no_tokenizer(kind, model, data):
    rows = {"clean": data.clean.tolist(), "corrupted": data.corrupted.tolist()}
    answers = {name: data.targets[name].tolist() for name in ("correct", "incorrect")}
    given = acdc.prompts(model, **{name: kind(column) for name, column in (rows | answers).items()})
    assert given.sha256 == data.sha256


def test_tokens_of_several_lengths_are_padded_on_the_right(model):
    data = acdc.prompts(
        model, clean=[[1, 2, 3], [4, 5]], corrupted=[[6, 7, 8], [9, 9]], correct=[1, 2], incorrect=[3, 4]
    )
    assert data.clean.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert data.scored.tolist() == [[False, False, True], [False, True, False]]


def test_some_of_the_prompts(data):
    assert [len(data[:2]), len(data[2:]), len(data[[0, 2]]), len(data[1])] == [2, 1, 2, 1]
    assert data[1].about["clean"] == [CLEAN[1]] and sum(1 for _ in data) == 3
    assert repr(data) == "Dataset(3 prompts of up to 3 tokens, 3 scored positions; correct, incorrect)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": CLEAN[:2]}, "there are 2 clean, 3 corrupted, 3 correct, 3 incorrect"),
        ({"incorrect": [" two"]}, "3 correct, 1 incorrect"),
        ({"clean": [], "corrupted": [], "correct": [], "incorrect": []}, "there are 0 clean"),
        ({"corrupted": ["two one", *CORRUPTED[1:]]}, "has 3 tokens and .* has 2"),
        ({"correct": [" three", " two", " one"]}, "row 1: answer ' three' must be one known token"),
        ({"clean": [[1, 1, 1], *CLEAN[1:]]}, "row 1: the clean and the corrupted prompt are both texts or both"),
        ({"clean": [[1, 1, 1], *CLEAN[1:]], "corrupted": [[2, 2, 2], *CORRUPTED[1:]], "correct": [1] * 3,
          "incorrect": [2] * 3}, "prompts are all texts or all token ids"),
        ({"clean": [[1], [2], [3]], "corrupted": [[1, 2], [2], [3]], "correct": [1] * 3, "incorrect": [2] * 3},
         r"row 1: prompt \[1\] has 1 tokens and its corrupted prompt \[1, 2\] has 2"),
        ({"clean": [[]], "corrupted": [[]], "correct": [1], "incorrect": [2]}, "row 1: the prompt has no token"),
    ],
)  # fmt: skip
def test_prompts_that_do_not_fit_are_refused(change, message, model):
    with pytest.raises(InputError, match=message):
        acdc.prompts(model, **{**COLUMNS, **change})


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[50, 1]], "have token 50 and the model's are 0 to 49: make them with this model's tokenizer"),
        ([[1] * 17], "a prompt has 17 tokens and the model takes 16"),
    ],
)
def test_prompts_of_another_model_are_refused_before_anything_is_computed(tokens, message, model):
    data = acdc.prompts(model, clean=tokens, corrupted=[[2] * len(tokens[0])], correct=[1], incorrect=[2])
    with pytest.raises(InputError, match=message):
        acdc.find(model, data, metric="kl_divergence", threshold=1)


# Tasks.

TASK = """
from acdc.tasks import Task
from acdc.text import Prompt, to_dataset

def make_dataset(tokenizer, n_prompts, seed, first="one"):
    rows = [Prompt(f"{first} two one", "two two two", " one", " two")] * n_prompts
    return to_dataset(tokenizer, rows, seed=seed)

TASK = Task(make_dataset=make_dataset)
"""


def test_a_task_that_ships(model):
    tokens = task_tokenizer()
    data = acdc.task_prompts(replace(model, tokenizer=tokens), "ioi", 4, seed=3)
    assert data.about["task"] == "ioi" and data.sha256 == tasks.load("ioi").make_dataset(tokens, 4, 3).sha256
    with pytest.raises(InputError, match=r"names\.txt has 0 names"):
        acdc.task_prompts(model, "ioi", 4)


def test_a_task_in_a_file_of_ones_own(model, tmp_path):
    file = tmp_path / "my task.py"
    file.write_text(TASK)
    for given in (file, str(file)):
        data = acdc.task_prompts(model, given, 2, seed=5, first="two")
        assert data.about["clean"] == ["two two one"] * 2 and data.about["seed"] == 5
    with pytest.raises(InputError, match="has no option 'last': it has first"):
        acdc.task_prompts(model, file, 2, last="two")
    file.write_text(TASK.replace("two two two", "one one one"))
    assert acdc.task_prompts(model, file, 1).about["corrupted"] == ["one one one"]  # the file is read again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "task file .* does not exist"),
        ("1 / 0", "does not load: ZeroDivisionError"),
        ("def", "does not load: SyntaxError"),
        ("TASK = 3", "assigns no TASK"),
    ],
)
def test_a_file_that_is_no_task_is_refused(text, message, model, tmp_path):
    if text is not None:
        (tmp_path / "task.py").write_text(text)
    with pytest.raises(InputError, match=message):
        acdc.task_prompts(model, tmp_path / "task.py", 1)
