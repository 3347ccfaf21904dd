"""Test prompts of text: answers as they stand, the token for the beginning, what is refused rather than measured."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from acdc import tasks
from acdc.data import NO_ANSWER, NOWHERE, Dataset
from acdc.errors import InputError
from acdc.models.toy.word_tokenizer import word_tokenizer
from acdc.tasks import Task
from acdc.text import Prompt, begun, to_dataset
from tests.gpt2 import gpt2_tokenizer

WORDS = word_tokenizer(["one", "two", "three", "four", "17", "32", "."])


def tokens(tokenizer: PreTrainedTokenizerFast, data: Dataset, side: str) -> list[str]:
    return [tokenizer.decode(token) for token in data.targets[side].flatten().tolist()]


def prompt(**change: object) -> Prompt:
    usual = {
        "clean": "one two",
        "corrupted": "two two",
        "correct": " three",
        "incorrect": " one",
        "where": "a.csv: row 3: ",
    }
    return Prompt(**usual | change)


# Answers.


@pytest.mark.parametrize(
    ("text", "corrupted", "correct", "incorrect"),
    [
        (
            "The war lasted from the year 1732 to the year 17",
            "The war lasted from the year 1701 to the year 17",
            "99",
            "32",
        ),
        ("The war ended in the year", "The man ended in the year", " 99", " 17"),
        ("The answer is (", "An answer is (", "A", "B"),
        ("Question: who?\nAnswer:\n", "Question: why?\nAnswer:\n", "Mary", "John"),
        ("He said", "She said", ",", "."),
    ],
)
def test_an_answer_is_what_stands_after_the_text(text, corrupted, correct, incorrect):
    """GPT-2 has tokens with and without the space, and both can be asked for."""
    tokenizer = gpt2_tokenizer()
    data = to_dataset(tokenizer, [Prompt(text, corrupted, correct, incorrect)])
    assert tokens(tokenizer, data, "correct") == [correct] and tokens(tokenizer, data, "incorrect") == [incorrect]
    with_answer = tokenizer(text + correct).input_ids
    assert [*data.clean[0].tolist(), *data.targets["correct"].tolist()] == with_answer


def characters(of: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of characters."""
    vocabulary = {token: i for i, token in enumerate(["<unk>", *sorted(set("".join(of)))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(
    ("clean", "corrupted", "correct", "incorrect"),
    [
        ("法国的首都是", "日本的首都是", "巴", "东"),
        ("フランスの首都は", "イタリアの首都は", "パ", "ロ"),
        ("เมืองหลวงของลาวคือ", "เมืองหลวงของไทยคือ", "เ", "ก"),
    ],
    ids=("Chinese", "Japanese", "Thai"),
)
def test_languages_without_spaces(clean, corrupted, correct, incorrect):
    tokenizer = characters([clean, corrupted, correct, incorrect])
    data = to_dataset(tokenizer, [Prompt(clean, corrupted, correct, incorrect)])
    assert tokens(tokenizer, data, "correct") == [correct] and tokens(tokenizer, data, "incorrect") == [incorrect]


def test_an_answer_may_be_a_token_id_after_a_text():
    data = to_dataset(WORDS, [prompt(correct=5, incorrect=[6, " one"])])
    (one,) = WORDS(" one").input_ids
    assert data.targets["correct"].tolist() == [5] and data.targets["incorrect"].tolist() == [[6, one]]


def test_prompts_have_different_numbers_of_answers():
    data = to_dataset(WORDS, [prompt(incorrect=[" one", " four"]), prompt(incorrect=[" two"])])
    assert data.targets["correct"].shape == (2,)
    assert tokens(WORDS, data[0], "incorrect") == [" one", " four"]
    assert data.targets["incorrect"][1, 1] == NO_ANSWER


REFUSED = {
    "two tokens": (
        {"correct": " Tajikistan"},
        r"answer ' Tajikistan' must be one known token and is 3 \(' Taj' 'ik' 'istan'\) in tokenizer gpt2: take",
    ),
    "one without a space, which would go on inside a word": (
        {"clean": "We gave it to", "corrupted": "He gave it to", "correct": " Redditor"},
        r"is 2 \(' Redd' 'itor'\) in tokenizer gpt2: take another word",
    ),
    "one with a space": (
        {"clean": "The capital:", "corrupted": "The cabinet:", "correct": "Tehran"},
        r"is 2 \('Te' 'hran'\) in tokenizer gpt2: ' Tehran' is one, if that is what follows",
    ),
    "inside a word": ({"correct": "Paris"}, "answer 'Paris' goes on inside the last word of 'one two': write"),
    "inside a token": (
        {"clean": "from the year 1363 to 13", "correct": "00"},
        r"answer '00' shares a token with the end of 'from.*' \(' to' ' 1300'\): .* the id of '00' alone, 405",
    ),
    "correct and incorrect": ({"correct": " one"}, "' one' is both a correct and an incorrect answer of 'one two'"),
    "one of several": ({"correct": [" six", " one"], "incorrect": [" two", " one"]}, "' one' is both a correct"),
    "a space at the end": ({"clean": "one two "}, "the clean prompt 'one two ' ends with a space: begin the answers"),
    "and of the corrupted": ({"corrupted": "two two "}, "the corrupted prompt 'two two ' ends with a space"),
    "empty": ({"clean": ""}, "the clean prompt is empty: fill it in"),
    "the same": ({"corrupted": "one two"}, "prompt 'one two' and its corrupted prompt are the same: change one or"),
    "another number of tokens": (
        {"clean": "of Tajikistan is", "corrupted": "of France is"},
        "has 5 tokens and its .* has 3 in tokenizer gpt2, for where the one has ' Taj' 'ik' 'istan' the other has"
        " ' France': take words of as many tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_measured_is_refused_with_what_helps(change, message):
    tokenizer = gpt2_tokenizer()
    tokenizer.name_or_path = "gpt2"
    with pytest.raises(InputError, match=message) as refused:
        to_dataset(tokenizer, [prompt(**change)])
    assert str(refused.value).startswith("a.csv: row 3: ") and "\n" not in str(refused.value)


def test_padding_is_said_where_lengths_differ_and_goes_with_a_selection(tmp_path):
    same, other = prompt(), prompt(clean="one one two", corrupted="two one two")
    data = to_dataset(WORDS, [same, other])
    assert to_dataset(WORDS, [same, same]).padding is None and data.padding == WORDS.pad_token_id
    assert data[0].padding == data.padding
    data.save(tmp_path / "a")
    assert Dataset.load(tmp_path / "a").padding == data.padding


# The token for the beginning.


def beginning(adds: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer that has a token for the beginning, and puts it there itself or not."""
    tokenizer = word_tokenizer(["<s>", "one", "two", "three", "four"])
    tokenizer.bos_token = "<s>"
    if adds:
        first = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = first
    assert (tokenizer("one").input_ids[0] == tokenizer.bos_token_id) is adds
    return tokenizer


def without(tokenizer: PreTrainedTokenizerFast) -> Dataset:
    return to_dataset(tokenizer, [prompt(), prompt(clean="one one two", corrupted="two one two")])


@pytest.mark.parametrize(
    ("adds", "bos", "has"),
    [(True, "auto", True), (False, "auto", False), (True, False, False), (False, True, True)],
)
def test_prompts_begin_as_is_said_or_as_the_tokenizer_does_it(adds, bos, has):
    tokenizer = beginning(adds)
    plain = without(tokenizer)
    data = begun(plain, tokenizer, bos)
    assert data.about["bos"] is has and data.about["clean"] == plain.about["clean"]
    start = int(has)
    for name in ("clean", "corrupted", "scored"):
        assert torch.equal(getattr(data, name)[:, start:], getattr(plain, name))
    if has:
        first = torch.stack([data.clean[:, 0], data.corrupted[:, 0]])
        assert (first == tokenizer.bos_token_id).all()
        assert not data.scored[:, 0].any()
    assert all(torch.equal(data.targets[name], plain.targets[name]) for name in plain.targets)
    assert data.padding == plain.padding


def test_prompts_that_begin_with_it_get_no_second_one():
    tokenizer = beginning(False)
    once = begun(without(tokenizer), tokenizer, True)
    assert begun(once, tokenizer, True).sha256 == once.sha256


def test_a_token_that_is_not_there_cannot_be_asked_for():
    with pytest.raises(InputError, match="bos: this model's tokenizer has no token that marks the beginning"):
        begun(without(WORDS), WORDS, True)
    with pytest.raises(InputError, match="bos: this model's tokenizer has no token"):
        begun(without(WORDS), None, True)
    assert begun(without(WORDS), WORDS, "auto").about["bos"] is False
    assert "bos" not in begun(without(WORDS), None, "auto").about


def test_targets_of_positions_are_not_moved():
    data = tasks.load("induction").make_dataset(None, 2, 0, n_tokens=50)
    with pytest.raises(InputError, match="bos: prompts with the target next are scored by position: set bos to false"):
        begun(data, beginning(True), "auto")


@pytest.mark.parametrize("name", ("ioi", "ioi_paper", "greater_than", "docstring", "induction"))
def test_the_papers_prompts_stay_as_they_are(name):
    assert tasks.load(name).bos is False


def test_a_task_says_what_auto_means_for_it():
    tokenizer, given = beginning(True), (2, 0, {})
    by_default = [
        tasks.dataset_of(Task(lambda *_: without(tokenizer), bos=bos), "mine", tokenizer, *given).about["bos"]
        for bos in (None, False)
    ]
    assert by_default == [True, False]
    paper = Task(lambda *_: without(tokenizer), bos=False)
    assert tasks.dataset_of(paper, "mine", tokenizer, *given, bos=True).about["bos"] is True


def test_a_task_that_makes_another_number_of_prompts_is_refused():
    task = Task(lambda *_: without(WORDS))
    with pytest.raises(InputError, match="task mine made 2 prompts and 5 were asked for: ask for 2"):
        tasks.dataset_of(task, "mine", WORDS, 5, 0, {})


# A file is a task.


def test_a_file_is_a_task_whose_splits_are_by_seed_and_share_nothing(tmp_path):
    numbers = ("one", "two", "three", "four")
    lines = [f"{a} {b}.,. {a} {b}, one| two, three" for a in numbers for b in numbers]
    (tmp_path / "my.csv").write_text("\n".join(["clean,corrupted,correct,incorrect", *lines, lines[0]]))
    task = tasks.of_prompts("mine", tmp_path / "my.csv")
    made = [tasks.dataset_of(task, "mine", WORDS, n, seed, {}) for n, seed in ((4, 0), (16, 0), (16, 1))]
    texts = [data.about["clean"] for data in made]
    assert texts[0] == texts[1][:4] and len(set(texts[1])) == 16 and texts[1] != texts[2]
    about = {name: said for name, said in made[0].about.items() if name not in ("clean", "corrupted")}
    assert about == {"task": "mine", "seed": 0, "file": "my.csv", "bos": False}
    with pytest.raises(InputError, match=r"my\.csv has 16 distinct prompts and n_prompts 17 ask for 17"):
        tasks.dataset_of(task, "mine", WORDS, 17, 0, {})


def test_rows_that_do_not_fit_the_tokenizer_are_left_out_where_that_is_asked_for(tmp_path):
    lines = [f"one {word},two {word}, one, two" for word in ("one", "two", "three", "four", "17")]
    lines += ["one,two two, one, two", "one one,two two, five, two"]
    (tmp_path / "my.csv").write_text("\n".join(["clean,corrupted,correct,incorrect", *lines]))
    refuse, leave_out = (
        tasks.of_prompts("mine", tmp_path / "my.csv", unfit=unfit) for unfit in ("refuse", "leave_out")
    )
    with pytest.raises(InputError, match="answer ' five'|has 1 tokens and"):
        refuse.make_dataset(WORDS, 7, 0)
    with pytest.warns(UserWarning, match=r"of \d prompts are left out, the first: \S+my\.csv: row [67]: "):
        data = leave_out.make_dataset(WORDS, 5, 0)
    assert {*data.about["corrupted"]} == {"two one", "two two", "two three", "two four", "two 17"}
    with pytest.raises(
        InputError, match=r"5 prompts fit this model's tokenizer and 6 were asked for; of the others the"
    ):
        leave_out.make_dataset(WORDS, 6, 0)


def test_answers_are_the_first_tokens_of_what_they_are_by_themselves(tmp_path):
    """MIB takes them so: a text may end with a space, and ` Tajikistan` is three tokens to GPT-2."""
    tokenizer = gpt2_tokenizer()
    row = {"clean": "I am in ", "corrupted": "I was in ", "correct": " Tajikistan", "incorrect": " Vaduz"}
    (tmp_path / "my.json").write_text(json.dumps([row]))
    data = tasks.of_prompts("mine", tmp_path / "my.json", answers="first_token").make_dataset(tokenizer, 1, 0)
    assert (tokens(tokenizer, data, "correct"), tokens(tokenizer, data, "incorrect")) == ([" Taj"], [" V"])
    assert tokenizer.decode(data.clean[0]) == "I am in "
    with pytest.raises(InputError, match="ends with a space"):
        tasks.of_prompts("mine", tmp_path / "my.json").make_dataset(tokenizer, 1, 0)


def test_first_tokens_of_answers_of_different_lengths_are_refused():
    given = prompt(correct=" Tajikistan", incorrect=" Paris", first_token=True)
    with pytest.raises(
        InputError, match=r"row 3: the answers .* numbers of tokens \(' Taj' 'ik' 'istan' and ' Paris'\)"
    ):
        to_dataset(gpt2_tokenizer(), [given])


def test_token_ids_of_a_file_are_taken_as_they_are(tmp_path):
    (tmp_path / "ids.jsonl").write_text('{"clean": [5, 6], "corrupted": [6, 5], "correct": [3, 4], "incorrect": 2}')
    task, tokenizer = tasks.of_prompts("ids", tmp_path / "ids.jsonl"), beginning(True)
    data, begun_too = (tasks.dataset_of(task, "ids", tokenizer, 1, 0, {}, bos=bos) for bos in ("auto", True))
    assert data.clean.tolist() == [[5, 6]] and data.targets["correct"].tolist() == [[3, 4]]
    assert data.about["bos"] is False and begun_too.clean.tolist() == [[tokenizer.bos_token_id, 5, 6]]


def test_labels_move_with_the_token_for_the_beginning_and_go_with_a_selection(tmp_path):
    tokenizer = word_tokenizer(["one", "two", "three"])
    prompts = [
        Prompt("one two", "two two", " three", " one", labels={"word": ((4, 7), None)}),
        Prompt("one two one", "two two two", " three", " one", labels={"word": ((4, 7), (0, 3))}),
    ]
    data = to_dataset(tokenizer, prompts)
    assert data.labels["word"].tolist() == [[1, NOWHERE], [1, 0]]
    tokenizer.add_special_tokens({"bos_token": "<pad>"})
    begun_data = begun(data, tokenizer, True)
    assert begun_data.labels["word"].tolist() == [[2, NOWHERE], [2, 1]]
    begun_data[1:].save(tmp_path / "d.safetensors")
    assert Dataset.load(tmp_path / "d.safetensors").labels["word"].tolist() == [[2, 1]]


def test_labels_of_token_ids_are_spans_of_tokens():
    prompts = [Prompt([3, 4, 5], [6, 4, 5], 7, 8, labels={"word": ((0, 2), None)})]
    assert to_dataset(None, prompts).labels["word"].tolist() == [[1, NOWHERE]]


def test_labels_change_no_fingerprint():
    data = to_dataset(None, [Prompt([3, 4], [6, 4], 7, 8)])
    assert replace(data, labels={"word": torch.zeros(1, 2, dtype=torch.long)}).sha256 == data.sha256
