"""Test files of prompts: several formats and layouts are read, and one sentence says what is wrong with a file."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from acdc.errors import InputError
from acdc.prompt_files import COLUMNS, Prompt, check_count, check_held_out, distinct_prompts, held_out, in_order, read

ROWS: list[dict[str, Any]] = [
    {"clean": "one, two,", "corrupted": "two, one,", "correct": " three", "incorrect": " one"},
    {"clean": 'the "é"', "corrupted": "a 1", "correct": "99", "incorrect": " 99"},
]
SEVERAL = {**ROWS[0], "correct": [" three", " four"], "incorrect": [7, " one"]}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format that the file's name ends with."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


def fields(prompts: list[Prompt]) -> list[tuple]:
    return [prompt[:4] for prompt in prompts]


EXPECTED = [(row["clean"], row["corrupted"], [row["correct"]], [row["incorrect"]]) for row in ROWS]


@pytest.mark.parametrize("suffix", ("csv", "tsv", "json", "jsonl", "parquet"))
@pytest.mark.parametrize("change", (str.lower, str.upper), ids=("lower case", "upper case"))
def test_every_format_has_the_same_prompts(suffix, change, tmp_path):
    path = write(tmp_path / f"prompts.{suffix}", ROWS).rename(tmp_path / f"prompts.{change(suffix)}")
    prompts = read(path)
    assert fields(prompts) == EXPECTED and prompts[1].where == f"{path}: row 2: "


def test_numbers_and_missing_words_of_a_csv_file_stay_text(tmp_path):
    rows = [{**ROWS[0], "correct": "007", "incorrect": "NA"}, {**ROWS[1], "correct": "None", "incorrect": "1.0"}]
    answers = [(prompt.correct, prompt.incorrect) for prompt in read(write(tmp_path / "a.csv", rows))]
    assert answers == [(["007"], ["NA"]), (["None"], ["1.0"])]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"prompts": ROWS, "word_idxs": {"IO": 1}}),
        json.dumps({name: [row[name] for row in ROWS] for name in COLUMNS}),
    ],
    ids=("under a key", "lists by column"),
)
def test_json_may_have_the_prompts_under_a_key_or_by_column(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    assert fields(read(tmp_path / "a.json")) == EXPECTED


@pytest.mark.parametrize("suffix", ("json", "jsonl"))
def test_several_answers_are_a_list_of_texts_and_token_ids(suffix, tmp_path):
    (prompt,) = read(write(tmp_path / f"a.{suffix}", [SEVERAL]))
    assert (prompt.correct, prompt.incorrect) == ([" three", " four"], [7, " one"])


@pytest.mark.parametrize(
    ("entry", "answers"),
    [
        (" three| four", [" three", " four"]),
        ('[" three", " four"]', [" three", " four"]),
        ("[' three', 7]", [" three", 7]),
        ('["|"]', ["|"]),
        ("[sic]", ["[sic]"]),
        ("7", ["7"]),
    ],
)
def test_several_answers_of_a_csv_file_are_split_or_a_list(entry, answers, tmp_path):
    (prompt,) = read(write(tmp_path / "a.csv", [{**ROWS[0], "correct": entry}]))
    assert prompt.correct == answers


def test_token_ids_of_a_csv_file_are_lists_and_numbers(tmp_path):
    row = {"clean": "[1, 2]", "corrupted": "[3, 4]", "correct": "5|6", "incorrect": "7"}
    assert fields(read(write(tmp_path / "a.csv", [row]))) == [([1, 2], [3, 4], [5, 6], [7])]


def test_parquet_has_lists_and_token_ids(tmp_path):
    row = {"clean": [1, 2], "corrupted": [3, 4], "correct": [5, 6], "incorrect": [7]}
    assert fields(read(write(tmp_path / "a.parquet", [row]))) == [([1, 2], [3, 4], [5, 6], [7])]


# Files of other tools, in small.

LAYOUTS: dict[str, tuple[str, Any, tuple]] = {
    "EAP-IG, ioi": (
        "csv",
        {"": 826, "clean": "Ann gave Bob", "corrupted": "Cyd gave Bob", "corrupted_hard": "x", "correct_idx": 14235,
         "incorrect_idx": 16753},
        ("Ann gave Bob", "Cyd gave Bob", [14235], [16753]),
    ),
    "EAP-IG, gender": (
        "csv",
        {"clean": "The nurse", "corrupted": "The man", "clean_answer_idx": 673, "corrupted_answer_idx": 339},
        ("The nurse", "The man", [673], [339]),
    ),
    "EAP-IG, countries": (
        "csv",
        {"clean": " Bern, the capital of", "capital": "Bern", "country": "Switzerland", "country_idx": 7,
         "corrupted": " Oslo, the capital of", "corrupted_capital": "Oslo", "corrupted_country_idx": 8},
        (" Bern, the capital of", " Oslo, the capital of", [7], [8]),
    ),
    "EAP-IG, hypernyms": (
        "csv",
        {"clean": ", oaks and other", "answers": "['tree', 'trees']", "answers_idx": "[16, 23]",
         "corrupted": ", rubies and other", "corrupted_answers": "['gems']", "corrupted_answers_idx": "[70]"},
        (", oaks and other", ", rubies and other", [16, 23], [70]),
    ),
    "auto-circuit": (
        "json",
        {"clean": "The cows ate", "corrupt": "The cats ate", "answers": [" hay"], "wrong_answers": [" mice", " fish"]},
        ("The cows ate", "The cats ate", [" hay"], [" mice", " fish"]),
    ),
    "MIB, ioi": (
        "jsonl",
        {"prompt": "Ann gave", "metadata": {"indirect_object": "Ann", "subject": "Bob"},
         "s2_io_flip_counterfactual": {"prompt": "Bob gave", "choices": ["Ann"]}},
        ("Ann gave", "Bob gave", [" Ann"], [" Bob"]),
    ),
    "MIB, arithmetic": (
        "parquet",
        {"prompt": "1 plus 1 is", "label": 2, "operator": "+",
         "random_counterfactual": {"prompt": "1 plus 2 is", "label": 3}},
        ("1 plus 1 is", "1 plus 2 is", ["2"], ["3"]),
    ),
    "MIB, choices": (
        "parquet",
        {"prompt": "A. hay", "choices": {"label": ["A", "B"], "text": ["hay", "mice"]}, "answerKey": 1,
         "symbol_counterfactual":
             {"prompt": "C. hay", "choices": {"label": ["C", "D"], "text": ["hay", "mice"]}, "answerKey": 0}},
        ("A. hay", "C. hay", ["B"], ["C"]),
    ),
    "MIB, choices by numbers": (  # texts, and no token ids
        "parquet",
        {"prompt": "A. hay", "choices": {"label": ["A", "B"], "text": ["hay", "mice"]}, "answerKey": 1,
         "symbol_counterfactual":
             {"prompt": "1. hay", "choices": {"label": [1, 2], "text": ["hay", "mice"]}, "answerKey": 0}},
        ("A. hay", "1. hay", ["B"], ["1"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "row", "prompt"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_of_other_tools_are_known(suffix, row, prompt, tmp_path):
    assert fields(read(write(tmp_path / f"a.{suffix}", [row]))) == [prompt]


def test_columns_of_any_name_are_named(tmp_path):
    row = {"q": "one", "other": {"q": "two"}, "a": {"word": "three", "id": 7}}
    columns = {"clean": "q", "corrupted": "other.q", "correct": " {a.word}{q}", "incorrect": "a.id"}
    assert fields(read(write(tmp_path / "a.jsonl", [row]), columns)) == [("one", "two", [" threeone"], [7])]


def test_one_column_is_named_and_the_others_are_as_usual(tmp_path):
    row = {"clean": "one", "corrupt": "two", "answers": [" a"], "wrong_answers": [" b"], "mine": " c"}
    (prompt,) = read(write(tmp_path / "a.json", [row]), {"correct": "mine"})
    assert (prompt.correct, prompt.incorrect) == ([" c"], [" b"])


def test_an_entry_of_a_list_is_chosen_by_its_number(tmp_path):
    rows = [{"all": ["one", "two"], "i": i, "corrupted": "three", "correct": "a", "incorrect": "b"} for i in (1, 0, 2)]
    columns = {"clean": "so {all[i]}"}
    assert [prompt.clean for prompt in read(write(tmp_path / "a.json", rows[:2]), columns)] == ["so two", "so one"]
    with pytest.raises(InputError, match=r"row 3: so \{all\[i\]\} is empty"):
        read(write(tmp_path / "a.json", rows), columns)
    assert len(read(tmp_path / "a.json", columns, skip_empty=True)) == 2
    with pytest.raises(InputError, match="there is no column j"):
        read(tmp_path / "a.json", {"clean": "all[j]"})


def test_whole_numbers_stay_whole_beside_entries_that_are_missing(tmp_path):
    rows = [{**ROWS[0], "correct": None, "other": {"n": 7}}, {**ROWS[0], "correct": None, "other": None}]
    columns = {"correct": "{other.n}"}
    (prompt,) = read(write(tmp_path / "a.parquet", rows), columns, skip_empty=True)
    assert prompt.correct == ["7"]


def test_tables_in_memory_have_token_ids_of_any_kind():
    table = {"clean": np.array([[1, 2]]), "corrupted": [(3, 4)], "correct": pd.Series([5]), "incorrect": [np.int64(6)]}
    assert fields(read(table)) == [([1, 2], [3, 4], [5], [6])]


# What is wrong.

REFUSED: dict[str, tuple[str, str, str]] = {
    "no column": ("a.csv", "clean,corrupted,label\na,b,c\n", r"a\.csv: there is no column correct: .*, label\)"),
    "an empty entry": ("a.csv", "clean,corrupted,correct,incorrect\na,b,c,d\na,b,,d\n", "row 2: correct is empty"),
    "a comma without quotes": (
        "a.csv",
        "clean,corrupted,correct,incorrect\na, b,c,d,e\n",
        "row 1 has 5 entries and the header 4: put texts with commas in quotes",
    ),
    "a row that ends early": ("a.csv", "clean,corrupted,correct,incorrect\na,b\n", "row 1 has 2 entries and the head"),
    "an open quote": ("a.csv", 'clean,corrupted,correct,incorrect\n"a,b,c,d\n', r"a\.csv cannot be read: "),
    "no row": ("a.csv", "clean,corrupted,correct,incorrect\n", r"a\.csv has no prompts"),
    "no text": ("a.csv", "", r"a\.csv has no prompts"),
    "an empty answer": ("a.csv", "clean,corrupted,correct,incorrect\na,b,c|,d\n", "row 1: correct has an answer"),
    "no token id": ("a.csv", "clean,corrupted,correct_idx,incorrect_idx\na,b,x,1\n", "correct_idx has 'x', which is"),
    "broken JSON": ("a.json", "[", r"a\.json cannot be read: "),
    "JSON of something else": ("a.json", "[1]", "has no list of prompts"),
    "a broken line": ("a.jsonl", '{"clean": "a"}\n{\n', "line 2 is no JSON"),
    "a fraction": (
        "a.json",
        '[{"clean": [1.5], "corrupted": [1], "correct": 1, "incorrect": 2}]',
        r"row 1: clean has 1\.5, which is neither a text nor a token id",
    ),
    "a negative id": ("a.json", json.dumps([{**ROWS[0], "correct": -1}]), "row 1: correct has -1, which is neither"),
    "text and ids": ("a.json", json.dumps([{**ROWS[0], "clean": [1]}]), "both texts or both token ids: one is each"),
    "a text after ids": (
        "a.json",
        json.dumps([{**ROWS[0], "clean": [1], "corrupted": [2]}]),
        "row 1: correct has ' three', which is no token id, as the prompts",
    ),
    "an entry that a line lacks": ("a.jsonl", json.dumps(ROWS[0]) + '\n{"clean": "a"}', "row 2: corrupted is empty"),
    "another format": ("a.txt", "a", r"a\.txt is no file of prompts: its name must end in \.csv, .*\.parquet"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_a_file_is_said(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value) and name in str(refused.value)


def test_a_file_that_is_not_there_or_not_in_utf_8_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the file of prompts \S+/a\.csv does not exist"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes("clean,é".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.csv is not in UTF-8"):
        read(tmp_path / "a.csv")


def test_a_name_that_is_none_of_the_four_is_refused():
    with pytest.raises(InputError, match="there is no column answer to name: prompts have clean, corrupted"):
        read({}, {"answer": "correct"})


def test_parquet_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(
        InputError, match=r"a\.parquet needs the package pyarrow: install it, or save the table as \.jsonl"
    ):
        read(tmp_path / "a.parquet")


# Of a task.


def many(folder: Path, n: int = 12) -> Path:
    return write(folder / "many.csv", [{**ROWS[0], "clean": f"prompt {i}"} for i in range(n)])


def test_the_order_is_the_seeds(tmp_path):
    prompts = read(many(tmp_path))
    first, again, other = in_order(prompts, 0), in_order(prompts, 0), in_order(prompts, 1)
    assert first == again and sorted(first) == sorted(other) == sorted(prompts) and first != other


def test_a_prompt_that_stands_twice_is_taken_once(tmp_path):
    rows = [{**ROWS[0], "clean": f"prompt {i % 3}"} for i in range(7)]
    prompts = distinct_prompts(write(tmp_path / "a.csv", rows))
    assert [prompt.where[-3:] for prompt in prompts] == ["1: ", "2: ", "3: "]


def test_more_than_there_are_is_refused_with_both_numbers(tmp_path):
    prompts = distinct_prompts(many(tmp_path))
    check_count(prompts, Path("many.csv"), 5, 7)
    with pytest.raises(InputError, match=r"many\.csv has 12 distinct prompts and n_prompts 6 and n_test_prompts 7 ask"):
        check_count(prompts, Path("many.csv"), 6, 7)


def test_held_out_prompts_are_none_of_those_for_discovery(tmp_path):
    prompts = distinct_prompts(many(tmp_path, 3))
    rows = [{**ROWS[0], "clean": f"prompt {i}"} for i in (1, 4, 5, 4)]
    found = held_out(prompts, write(tmp_path / "test.csv", rows))
    assert [one.clean for one in found] == ["prompt 4", "prompt 5"]
    check_held_out(found, Path("test.csv"), 2)
    for n in (0, 3):
        with pytest.raises(
            InputError, match=rf"test\.csv has 2 distinct prompts .*n_test_prompts is {n}: ask for 1 to 2"
        ):
            check_held_out(found, Path("test.csv"), n)


def test_held_out_token_ids_do_not_fit_texts(tmp_path):
    ids = {"clean": [1, 2], "corrupted": [3, 4], "correct": 5, "incorrect": 6}
    with pytest.raises(InputError, match=r"test\.jsonl and the prompts for discovery are both texts or both token ids"):
        held_out(distinct_prompts(many(tmp_path)), write(tmp_path / "test.jsonl", [ids]))


LABELLED = [{**row, "clean_labels": {"first": [0, 3]}, "corrupted_labels": {"second": [2, 3]}} for row in ROWS]


@pytest.mark.parametrize("suffix", ("csv", "json"))
def test_labels_are_spans_of_characters(suffix, tmp_path):
    rows = [{k: json.dumps(v) if "labels" in k and suffix == "csv" else v for k, v in row.items()} for row in LABELLED]
    expected = {"first": ((0, 3), None), "second": (None, (2, 3))}
    assert [prompt.labels for prompt in read(write(tmp_path / f"a.{suffix}", rows))] == [expected] * 2


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("France", "clean_labels has 'France'"),
        ({"first": [3]}, r"has first at \[3\]"),
        ({"first": [2, 99]}, "the first character and the one after the last"),
        ({"first": ["0", "3"]}, "write it as"),
        ({"END": [0, 3]}, "END is the scored position's"),
    ],
)
def test_labels_that_are_no_spans_are_refused(entry, message):
    columns = {name: [row[name] for row in ROWS] for name in COLUMNS}
    with pytest.raises(InputError, match=message):
        read({**columns, "clean_labels": [entry, None]})
