"""Test the paper's tasks on text: their prompts in GPT-2's tokens, and their metrics."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from acdc import tasks
from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.metrics import MaxLogitDifference, NegativeLogLikelihood, ProbabilityDifference
from acdc.models.convert import weights_of
from acdc.models.toy.word_tokenizer import word_tokenizer
from acdc.tasks import greater_than, induction, ioi_paper
from acdc.text import words as word_list
from tests.gpt2 import gpt2_tokenizer
from tests.small_models import N_VOCAB, bridge

ROOT = Path(__file__).parents[2]
SEEDS = {"ioi_paper": 0, "greater_than": 54, "docstring": 0}
text_tasks = pytest.mark.parametrize("name", SEEDS)


@cache
def make(name: str, n_prompts: int = 200) -> Dataset:
    return tasks.load(name).make_dataset(gpt2_tokenizer(), n_prompts, SEEDS.get(name, 0))


def tokens(row: torch.Tensor) -> list[str]:
    return gpt2_tokenizer().convert_ids_to_tokens(row.tolist())


@text_tasks
def test_first_prompts_of_more_are_the_same(name):
    few, more = make(name, 5), make(name, 100)
    if name != "greater_than":  # torch draws all nouns before all years, in the original too
        assert torch.equal(few.clean, more.clean[:5])
    again = make.__wrapped__(name, 100)
    assert torch.equal(again.clean, more.clean) and torch.equal(again.corrupted, more.corrupted)


@text_tasks
def test_the_last_position_is_scored_and_texts_are_the_tokens(name):
    data = make(name, 20)
    assert data.scored[:, -1].all() and data.scored.sum() == 20
    for kind in ("clean", "corrupted"):
        ids = getattr(data, kind)
        start = int(name == "docstring")
        assert [gpt2_tokenizer().decode(row[start:]) for row in ids] == data.about[kind]


@text_tasks
def test_a_model_without_a_tokenizer_is_refused(name):
    with pytest.raises(InputError, match="need a tokenizer"):
        tasks.load(name).make_dataset(None, 4, 0)


@pytest.mark.parametrize("name", ("months_sequence", "number_words_sequence", "numerals_sequence"))
def test_sequences_go_on_in_gpt2s_tokens(name):
    data = make(name, 60)
    members = tasks.load(name).make_dataset.__self__.members
    for clean, corrupted, right in zip(
        data.about["clean"], data.about["corrupted"], data.targets["correct"], strict=True
    ):
        given, other = (re.findall(r"done in (\w+)\.", text) for text in (clean, corrupted))
        places = [members.index(member) for member in given]
        assert all((b - a) % len(members) == 1 for a, b in zip(places, places[1:], strict=False))
        assert name == "months_sequence" or places == sorted(places) and places[-1] < len(members) - 1
        assert tokens(right[None]) == [f"Ġ{members[(places[-1] + 1) % len(members)]}"]
        assert not set(zip(other, other[1:], strict=False)) & set(zip(members, members[1:], strict=False))


# IOI


ORIGINAL_IOI = {  # place in the original's prompts: place and object, names of the clean and the corrupted prompt
    0: ("restaurant bone", "Mary Jeffrey Jeffrey", "Melissa Nicole Anthony"),
    1: ("garden necklace", "Brittany Jamie Jamie", "Lauren Alicia Daniel"),
    7: ("store drink", "Shannon Michael Michael", "Jesse Erica Mark"),
    16: ("school drink", "Katherine Kimberly Kimberly", "Alexander Samantha Samantha"),
    19: ("hospital kiss", "Lauren Robert Robert", "Katherine Jason Richard"),
}


@pytest.mark.parametrize("place", ORIGINAL_IOI)
def test_ioi_prompts_are_the_originals(place):
    things, *names = ORIGINAL_IOI[place]
    data = make("ioi_paper")
    for kind, named in zip(("clean", "corrupted"), names, strict=True):
        scene = ioi_paper.Scene(*named.split(), *things.split())
        assert data.about[kind][place] == ioi_paper.TEMPLATE.format(**scene._asdict())


def names_of(text: str) -> tuple[str, str, str]:
    return re.fullmatch(r"Then, (\w+) and (\w+) went to the \w+\. (\w+) gave a \w+ to", text).groups()


def test_ioi_has_15_tokens_and_names_where_the_paper_has_them():
    data = make("ioi_paper")
    assert data.clean.shape == (200, 15)
    for row, text, io, subject in zip(
        data.clean, data.about["clean"], data.targets["correct"], data.targets["incorrect"], strict=True
    ):
        first, second, giver = names_of(text)
        assert second == giver != first
        assert tokens(row[[2, 4, 10]]) == [f"Ġ{name}" for name in (first, second, giver)]
        assert (io, subject) == (row[2], row[4])


def test_ioi_corrupted_prompts_differ_in_names_only_and_have_new_ones():
    data = make("ioi_paper")
    same = data.clean == data.corrupted
    assert same[:, [0, 1, 3, *range(5, 10), *range(11, 15)]].all()
    assert not same[:, 2].any() and same[:, [4, 10]].float().mean() < 0.03
    repeated = [len({*names_of(text)}) < 3 for text in data.about["corrupted"]]
    assert sum(repeated) / len(repeated) < 0.06  # few, as the draws after the first avoid nothing


def test_ioi_replaces_the_first_mention_as_the_original_finds_it():
    scene = ioi_paper.Scene("Mary", "John", "John", "store", "ring")
    assert ioi_paper.renamed(scene, "Paul") == scene._replace(second="Paul", giver="Paul")
    assert ioi_paper.renamed(scene, "Paul", once=True) == scene._replace(second="Paul")
    drawn_twice = scene._replace(first="John")
    assert ioi_paper.renamed(drawn_twice, "Paul", once=True) == drawn_twice._replace(first="Paul")


# Greater-than


def test_greater_than_has_10_tokens_and_the_years_digits_at_7():
    data = make("greater_than")
    assert data.clean.shape == (200, 10)
    for row, other, text in zip(data.clean, data.corrupted, data.about["clean"], strict=True):
        noun, century, digits, end = re.fullmatch(
            r"The (\w+) lasted from the year (\d\d)(\d\d) to (\d\d)", text
        ).groups()
        assert tokens(row) == [
            "The",
            f"Ġ{noun}",
            *["Ġlasted", "Ġfrom", "Ġthe", "Ġyear"],
            f"Ġ{century}",
            digits,
            "Ġto",
            f"Ġ{end}",
        ]
        assert century == end and 11 <= int(century) <= 17
        assert other[7] == 486 and torch.equal(other[[*range(7), 8, 9]], row[[*range(7), 8, 9]])


def test_greater_than_answers_are_the_two_digit_tokens_and_right_are_the_later():
    data = make("greater_than")
    for row, answers, right in zip(data.clean, data.targets["answers"], data.targets["right"], strict=True):
        assert tokens(answers) == [f"{i:02}" for i in range(100)]
        assert right.nonzero().flatten().tolist() == list(range(int(tokens(row)[7]) + 1, 100))


def test_greater_than_leaves_out_each_centurys_first_and_last_year_of_two_tokens():
    years = greater_than.usable_years(gpt2_tokenizer())
    assert len(years) == len(set(years)) == 604
    for century in range(11, 18):
        of_century = [year for year in years if year.startswith(str(century))]
        assert (
            of_century == sorted(of_century)
            and int(of_century[0]) > century * 100 + 2
            and int(of_century[-1]) < century * 100 + 98
        )


def test_greater_than_needs_gpt2s_tokens():
    with pytest.raises(InputError, match="years of two tokens"):
        tasks.load("greater_than").make_dataset(word_tokenizer(["The", "war", "17"]), 4, 54)


def test_greater_than_draws_as_torchs_global_generator_does():
    with torch.random.fork_rng():
        torch.random.manual_seed(54)
        nouns, years = (torch.randint(0, n, (200,)).tolist() for n in (120, 604))
    expected = zip(nouns, years, strict=True)
    words, usable = word_list("greater_than_nouns"), greater_than.usable_years(gpt2_tokenizer())
    texts = [f"The {words[i]} lasted from the year {usable[j]} to {usable[j][:2]}" for i, j in expected]
    assert make("greater_than").about["clean"] == texts


# Docstring


ORIGINAL_DOCSTRINGS = {  # seed: function; arguments and documented ones, of the clean and of the corrupted prompt
    0: "old; first files page names size read; page names; first files project target new read; image update",
    2: "root; event context task tag resource base; task tag; event context line request default base; form names",
    9: "msg; default obj parser ret base client; parser ret; default obj query message model client; string root",
}


@pytest.mark.parametrize("seed", ORIGINAL_DOCSTRINGS)
def test_docstring_prompts_are_the_originals(seed):
    function, *expected = ORIGINAL_DOCSTRINGS[seed].split("; ")
    data = make("docstring", 10)
    found = []
    for text in (data.about["clean"][seed], data.about["corrupted"][seed]):
        name, arguments = re.search(r"def (\w+)\(self, (.*)\):", text).groups()
        assert name == function
        found += [arguments.replace(",", ""), " ".join(re.findall(r":param (\w+):", text))]
    assert found == expected


def test_docstring_asks_for_the_next_argument_and_corrupts_definition_and_docstring():
    data = make("docstring", 100)
    for i, (clean, corrupted) in enumerate(zip(data.about["clean"], data.about["corrupted"], strict=True)):
        arguments, other = (re.search(r"\(self, (.*)\):", text)[1].split(", ") for text in (clean, corrupted))
        documented, others = (re.findall(r":param (\w+): \w+ \w+\n", text) for text in (clean, corrupted))
        assert len(arguments) == 6 and documented == arguments[2:4]
        (answer,) = tokens(data.targets["correct"][[i]])
        assert answer == f"Ġ{arguments[4]}"
        assert other[:2] == arguments[:2] and other[5] == arguments[5]
        assert not {*other[2:5], *others} & {*arguments, *documented} and not {*others} & {*other}
        wrong = tokens(data.targets["incorrect"][i])
        assert len(set(wrong)) == 13 and answer not in wrong
        assert {f"Ġ{name}" for name in (*arguments[:4], arguments[5], *other[2:5], *others)} <= set(wrong)
        assert clean.endswith("    :param")


def test_docstring_prompts_begin_with_the_token_that_the_original_put_there():
    assert (make("docstring", 10).clean[:, 0] == gpt2_tokenizer().bos_token_id).all()


# Induction


def test_induction_scores_where_a_pair_of_tokens_comes_again():
    data = tasks.load("induction").make_dataset(None, 4, 0, n_tokens=60, n_vocabulary=500)
    assert data.clean.shape == (4, 60) and data.mean_over == "positions"
    following = torch.cat([data.clean[:, 1:], data.targets["next"][:, -1:]], 1)
    assert torch.equal(following, data.targets["next"])
    for row, next_row, scored in zip(data.clean, data.targets["next"], data.scored, strict=True):
        pairs = list(zip(row.tolist(), next_row.tolist(), strict=True))
        assert scored.tolist() == [pair in pairs[:i] for i, pair in enumerate(pairs)]
    assert 0.3 < data.scored.float().mean() < 0.5


def test_induction_shuffles_each_half_among_itself_by_the_papers_seed():
    order = induction.shuffled(100, 50)
    expected = torch.randperm(50, generator=torch.Generator().manual_seed(42))
    assert torch.equal(order, torch.cat([expected, 50 + expected]))
    data = tasks.load("induction").make_dataset(None, 100, 0, n_tokens=40)
    assert torch.equal(data.corrupted, data.clean[order])


def test_induction_takes_the_papers_files(tmp_path):
    sequences, mask = torch.randint(0, 100, (6, 31)), torch.rand(6, 31) < 0.3
    mask[:, 0] = True
    files = {"sequences": str(tmp_path / "validation_data.pt"), "mask": str(tmp_path / "mask_repeat_candidates.pkl")}
    torch.save(sequences, files["sequences"])
    torch.save(mask, files["mask"])
    data = tasks.load("induction").make_dataset(None, 4, 0, n_tokens=30, **files)
    assert torch.equal(data.clean, sequences[:4, :30]) and torch.equal(data.scored, mask[:4, :30])
    assert torch.equal(data.targets["next"], sequences[:4, 1:])

    for wrong, message in (
        ({**files, "mask": None}, "sequences and mask go together"),
        ({**files, "mask": str(tmp_path / "none.pkl")}, "there is no file .*none.pkl"),
        ({**files, "mask": files["sequences"].replace("validation", "other")}, r"\[6, 31\] and .* is \[2, 3\]"),
    ):
        torch.save(torch.ones(2, 3), tmp_path / "other_data.pt")
        with pytest.raises(InputError, match=message):
            tasks.load("induction").make_dataset(None, 4, 0, n_tokens=30, **wrong)
    with pytest.raises(InputError, match="n_tokens is 31"):
        tasks.load("induction").make_dataset(None, 4, 0, n_tokens=31, **files)
    with pytest.raises(InputError, match="has 6 distinct prompts"):
        tasks.load("induction").make_dataset(None, 7, 0, n_tokens=30, **files)


# Metrics, by hand


def dataset(scored: list[list[bool]], targets: dict, mean_over: str = "prompts") -> Dataset:
    tokens = torch.zeros(len(scored), len(scored[0]), dtype=torch.long)
    return Dataset(tokens, tokens, torch.tensor(scored), targets, {}, mean_over)


LAST = [[False, True], [False, True]]


def test_max_logit_difference_is_the_best_wrong_answer_minus_the_right_one():
    targets = {"correct": torch.tensor([0, 1]), "incorrect": torch.tensor([[1, 2], [2, 3]])}
    logits = torch.tensor([[1.0, 4.0, 2.0, 9.0], [0.0, 7.0, 1.0, 3.0]])
    metric = MaxLogitDifference(dataset(LAST, targets), logits)
    assert metric.columns.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert metric(logits.gather(1, metric.columns)).tolist() == [3.0, -4.0]


def test_probability_difference_is_of_wrong_minus_right_answers_among_all_tokens():
    right = torch.tensor([[False, True, True], [False, False, True]])
    targets = {"answers": torch.tensor([[0, 1, 2]] * 2), "right": right}
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.05, 0.15, 0.2, 0.6]])
    metric = ProbabilityDifference(dataset(LAST, targets), probabilities.log())
    torch.testing.assert_close(metric(probabilities.log() + 3), torch.tensor([0.1 - 0.5, 0.2 - 0.2]))
    torch.testing.assert_close(metric(probabilities.log().expand(5, 2, 4)), torch.tensor([[-0.4, 0.0]]).expand(5, 2))


def test_nll_is_of_the_next_token_at_the_scored_positions():
    targets = {"next": torch.tensor([[3, 0], [1, 2]])}
    metric = NegativeLogLikelihood(dataset([[True, True], [False, True]], targets), torch.zeros(3, 4))
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.3, 0.3, 0.2, 0.2]])
    torch.testing.assert_close(metric(probabilities.log()), -torch.tensor([0.4, 0.7, 0.2]).log())
    torch.testing.assert_close(metric(probabilities.log().expand(2, 3, 4))[1], metric(probabilities.log()))


@pytest.mark.parametrize("memory", (2**31, 1))
def test_a_mean_over_positions_counts_every_scored_position_alike_in_any_chunks(memory):
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(0, N_VOCAB, (2, 3, 6), generator=generator)
    scored = torch.zeros(3, 6, dtype=torch.bool)
    scored[0, 2:], scored[1, 5], scored[2, 4:] = True, True, True
    targets = {"next": torch.randint(0, N_VOCAB, (3, 6), generator=generator)}
    data = Dataset(clean, corrupted, scored, targets, {}, "positions")
    engine = Engine(weights_of(bridge("gpt2")), data, ablation="corrupted", memory=memory)
    (value,) = engine.measure(
        engine.metric(NegativeLogLikelihood), [chunk.clean["final", 0, 0][None] for chunk in engine.chunks]
    )
    expected = -engine.model_logits.log_softmax(-1).gather(1, targets["next"][scored][:, None]).mean()
    assert value == pytest.approx(expected.item(), abs=1e-5)
    assert len(engine.chunks) == (3 if memory == 1 else 1)


def test_mean_over_is_saved(tmp_path):
    data = tasks.load("induction").make_dataset(None, 4, 0, n_tokens=40)
    data.save(tmp_path / "data.safetensors")
    assert Dataset.load(tmp_path / "data.safetensors").mean_over == "positions"
    assert data.select(slice(2)).mean_over == "positions"


# The docs


@pytest.mark.parametrize(
    ("name", "n"),
    [("ioi_paper", 2), ("greater_than", 2), ("months_sequence", 1), ("number_words_sequence", 1), ("docstring", 1)],
)
def test_the_first_prompts_stand_in_the_docs(name, n):
    page, data = (ROOT / "docs/paper.md").read_text(), make(name)
    for kind in ("clean", "corrupted"):
        for text in data.about[kind][:n]:
            assert all(line.rstrip() in page for line in text.splitlines())
