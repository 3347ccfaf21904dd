"""Test the tasks of models that were trained to hold a circuit: distinct prompts, corrupted ones of other answers."""

from __future__ import annotations

import pytest
import torch

from acdc.errors import InputError
from acdc.models.toy import trained_count, trained_ioi, trained_max, trained_months, trained_sum
from acdc.models.toy.siit.program import Program
from acdc.tasks import dataset_of, load

PROGRAMS = [module.PROGRAM for module in (trained_count, trained_ioi, trained_max, trained_months, trained_sum)]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


def make(program: Program, n_prompts: int, seed: int = 0):
    return dataset_of(load(program.name), program.name, program.tokenizer, n_prompts, seed, {})


@programs
def test_answers_are_the_programs_and_corrupted_prompts_have_others(program):
    data = make(program, 60)
    assert len(data.clean.unique(dim=0)) == 60
    assert torch.equal(data.targets["correct"], program.answers(data.clean))
    assert torch.equal(data.targets["incorrect"], program.answers(data.corrupted))
    assert (data.targets["correct"] != data.targets["incorrect"]).all()
    assert data.scored[:, -1].all() and data.scored.sum() == 60
    assert data.about["clean"][0] == program.text(data.clean[0])


@programs
def test_a_seed_always_makes_the_same_prompts_and_another_one_others(program):
    one, same, other = (make(program, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(one.clean, same.clean) and torch.equal(one.corrupted, same.corrupted)
    assert not torch.equal(one.clean, other.clean)


def test_there_are_as_many_prompts_as_it_says():
    program = trained_months.PROGRAM
    assert len(make(program, program.n_distinct)) == 672
    with pytest.raises(InputError, match="trained_months has 672 distinct prompts and 673 were asked for"):
        make(program, 673)


def test_a_model_that_cannot_read_them_is_refused():
    with pytest.raises(InputError, match="prompts of text need a tokenizer"):
        load("trained_ioi").make_dataset(None, 3, seed=0)
    with pytest.raises(InputError, match="task trained_sum is made for the model that acdc/models/toy/trained_sum.py"):
        dataset_of(load("trained_sum"), "trained_sum", trained_ioi.PROGRAM.tokenizer, 3, 0, {})
