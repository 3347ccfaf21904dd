"""Define the task mib_arithmetic: add or subtract, as in MIB's circuit track (Mueller et al. 2025, arXiv 2504.13151).

"41+27=" is followed by "68". The corrupted prompt is another problem of the same kind ("random_counterfactual"), whose
result is the incorrect answer. MIB's own prompts are in mib-bench/arithmetic_addition and arithmetic_subtraction.
"""

from __future__ import annotations

import operator as operators
import random
from typing import TYPE_CHECKING

from acdc.data import Dataset
from acdc.errors import InputError
from acdc.tasks import Task
from acdc.text import Prompt, distinct, encode, following, is_one_token, needed, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPERATORS = {"+": operators.add, "-": operators.sub}
OPERANDS = range(10, 100)


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int, operator: str = "+") -> Dataset:
    """Make a dataset of problems with two numbers of two digits each, and no result below zero.

    Args:
        operator: + or -.

    Returns:
        A dataset whose target ``correct`` is the result, and ``incorrect`` the result of the corrupted prompt.

    Raises:
        InputError: there is no such operator or no tokenizer, results are not one token, or fewer prompts exist than
            are asked for.
    """
    if operator not in OPERATORS:
        raise InputError(f"task mib_arithmetic: operator is {operator!r}: it must be {' or '.join(OPERATORS)}")
    rng = random.Random(seed)
    problems = solved(tokenizer, operator)

    def draw(done: int) -> Prompt:
        clean, result = rng.choice(problems)
        corrupted, other = rng.choice(problems)
        while other == result:
            corrupted, other = rng.choice(problems)
        return Prompt(clean, corrupted, correct=str(result), incorrect=str(other))

    prompts = distinct("mib_arithmetic", draw, n_prompts, exist=len(problems))
    return to_dataset(tokenizer, prompts, task="mib_arithmetic", seed=seed, operator=operator)


def solved(tokenizer: PreTrainedTokenizerBase | None, operator: str) -> list[tuple[str, int]]:
    """Return aligned problems whose result is one token, each with its result.

    Raises:
        InputError: there are no two problems with different results.
    """
    length = len(encode(tokenizer, str(OPERANDS[0])))
    operands = [n for n in OPERANDS if len(encode(tokenizer, str(n))) == length]
    largest = 2 * OPERANDS[-1]
    results = {n for n in range(largest + 1) if is_one_token(tokenizer, following(tokenizer, "=", str(n)))}
    calculate = OPERATORS[operator]
    problems = [(f"{a}{operator}{b}=", calculate(a, b)) for a in operands for b in operands]
    found = [(text, result) for text, result in problems if result in results]
    if len({result for _, result in found}) < 2:
        raise InputError(
            f"task mib_arithmetic: fewer than two results of {operator} are one token in tokenizer"
            f" {needed(tokenizer).name_or_path}: choose another model for the task"
        )
    return found


TASK = Task(make_dataset=make_dataset)
