"""Test what is read of a task's source without importing it: it is what the task is."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from acdc import tasks
from acdc.declared import N_GIVEN, Declaration
from acdc.errors import InputError
from tests.checkout import ROOT

NAMES = sorted(path.stem for path in (ROOT / "acdc/tasks").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_tasks_source_says_what_the_task_is(name):
    says, task = Declaration(f"acdc.tasks.{name}"), tasks.load(name)
    assert tuple(says.metrics or ()) == task.metrics
    assert says.known == list(task.known_circuits)
    assert (says.made_for, says.n_distinct) == (task.made_for, task.n_distinct)
    parameters = list(inspect.signature(task.make_dataset).parameters.values())[N_GIVEN:]
    assert says.options == {one.name: one.annotation for one in parameters}


@pytest.mark.parametrize("name", [name for name in NAMES if tasks.load(name).n_distinct and name != "months"])
def test_a_task_has_as_many_prompts_as_it_says(name):
    task = tasks.load(name)
    assert task.n_distinct is not None and len(task.make_dataset(None, task.n_distinct, 0)) == task.n_distinct
    with pytest.raises(InputError, match=f"has {task.n_distinct} distinct prompts"):
        task.make_dataset(None, task.n_distinct + 1, 0)


COMPUTED = """
from acdc.tasks import Task
from elsewhere import METRICS, make_dataset

TASK = Task(make_dataset=make_dataset, metrics=METRICS, known_circuits=dict(gpt2={}), n_distinct=3 * 4)
"""


def of(tmp_path: Path, text: str) -> Declaration:
    (tmp_path / "task.py").write_text(text)
    return Declaration(tmp_path / "task.py")


def test_what_is_computed_is_not_guessed(tmp_path):
    says = of(tmp_path, COMPUTED)
    assert (says.options, says.metrics, says.known, says.n_distinct) == (None, None, None, None)
    for text in ("", "TASK = made()", "from a import TASK", "TASK = Task(make_dataset, ('l2',))"):
        says = of(tmp_path, text)
        assert (says.options, says.metrics, says.known, says.made_for, says.n_distinct) == (None,) * 5


def test_names_and_methods_are_followed(tmp_path):
    says = of(
        tmp_path,
        "from acdc.catalogue import OF_NUMBERS\nN: int = 12\nOWN = (*OF_NUMBERS, 'x')\n"
        "class Made:\n    def make(self, tokenizer, n_prompts, seed, size: int = 3, *, kind): ...\n"
        "TASK = Task(make_dataset=Made(1).make, metrics=OF_NUMBERS, n_distinct=N)\n",
    )
    assert (says.options, says.metrics, says.n_distinct) == (
        {"size": "int", "kind": ""},
        ("l2", "output_difference"),
        12,
    )


def test_a_file_that_is_no_python_is_named(tmp_path):
    with pytest.raises(InputError, match=r"task file \S+task.py is no Python"):
        of(tmp_path, "TASK = (")
