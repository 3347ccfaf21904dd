"""Test the name of a head by its predictions.

A test removes edges or swaps tokens, and a measurement must change or stay as the name predicts.

The rules that propose names do not use these measurements. A name that fails its test is kept, and the table says that
it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc.analysis import attention
from acdc.analysis.attention import runs_of
from acdc.analysis.heads import answer_direction, direct_effects, first_token, heads_of
from acdc.analysis.significance import Scorer
from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.graph import Circuit, Edge, Node

KEPT = 0.5
"""The share of a measurement that must be left after a swap if it should stay, and not be left if it should vanish."""
ERRORS = 2.0
"""The number of standard errors over prompts by which the effect of a cut must differ from zero."""


# Tests by cutting edges.


def cut_circuit(engine: Engine, head: Node, cut: str) -> Circuit:
    """Return the circuit of all edges except those that the name's mechanism needs, see ``Test.cut``."""
    graph, circuit = engine.graph, Circuit.full(engine.graph)
    if cut == "queries":
        queries = [i for i, node in enumerate(graph.receivers) if node.port == "q"]
        circuit.present[graph.sender_index[head], queries] = False
        return circuit
    port = graph.ports_of_heads["qkv".index(cut), head.head_index]
    receiver = graph.receivers[graph.first_receiver(head.layer) + int(port)]
    return circuit.without(Edge(receiver, receiver, "direct"))


def cut_test(scorer: Scorer, head: Node, test: Test) -> dict[str, Any]:
    """Measure how far the score falls without the edges of the name's mechanism, and whether that is as predicted."""
    fall = scorer.model - scorer.of(cut_circuit(scorer.engine, head, test.cut))
    effect = float(fall.mean())
    error = float(fall.std(ddof=1) / np.sqrt(len(fall))) if len(fall) > 1 else float("nan")
    is_told = test.lowers and np.isfinite(error)
    passed = bool(test.lowers * effect > max(ERRORS * error, scorer.noise)) if is_told else None
    return {"cut": test.cut, "cut_effect": effect, "cut_error": error, "cut_passed": passed}


# Tests by swapping tokens.


def swapped_answer(data: Dataset) -> tuple[Dataset, Bool[Tensor, "prompt"]]:
    """Swap the answer in each clean prompt for another prompt's, and return which prompts have such a swap."""
    own = data.targets["correct"]
    other, done = own.clone(), torch.zeros(len(data), dtype=torch.bool, device=own.device)
    for shift in range(1, len(data)):
        new = own.roll(shift)
        free = ~done & (data.clean != new[:, None]).all(1)
        other, done = torch.where(free, new, other), done | free
    there = attention.answering(data)["answer"]
    clean = torch.where(there, other[:, None], data.clean)
    targets = data.targets | {"correct": other}
    made = Dataset(clean, data.corrupted, data.scored, targets, data.about, data.mean_over, data.padding, data.labels)
    return made, done & there.any(1)


def answer_effects(engine: Engine, data: Dataset) -> Float[Tensor, "head prompt"]:
    """Return each head's direct effect on the logit difference of a dataset's answers: Float[head prompt]."""
    of, rows = runs_of(engine.weights, data, data.clean)
    direction = answer_direction(engine.weights, data)
    assert direction is not None  # only called for name movers, whose prompts have answers
    return direct_effects(engine.weights, of, rows, direction)


def swap_answers(engine: Engine) -> Float[Tensor, "2 head"]:
    """Measure heads' direct effects before and after another word replaces the answer in the prompt: Float[2 head]."""
    if engine.dataset.targets["correct"].dim() > 1:
        return torch.full((2, len(heads_of(engine.graph))), torch.nan)
    pairs = []
    swapped, done = swapped_answer(engine.dataset.to(engine.device))
    for data in (engine.dataset.to(engine.device), swapped):
        pairs.append(answer_effects(engine, data)[:, done].mean(1))
    return torch.stack(pairs)


def swap_earlier(engine: Engine, kind: str) -> Float[Tensor, "2 head"]:
    """Measure heads' attention on repeated random tokens before and after every second earlier token is swapped.

    A repeated token is swapped at its first occurrence. Only those queries are measured whose own earlier token was
    swapped.

    Args:
        kind: the kind of attention, ``induction`` or ``duplicate_token``.
    """
    data = attention.random_tokens(engine.weights, 1, first_token(engine.dataset)).to(engine.device)
    n_pos, half = data.clean.shape[1], int(data.scored[0].sum())
    first = torch.arange(n_pos - 2 * half, n_pos - half, 2, device=engine.device)
    target = attention.matching(data.clean, torch.ones_like(data.scored))[kind].clone()
    asked = torch.zeros_like(data.scored)
    asked[:, first + half] = True
    other = data.clean.clone()
    other[:, first] = other_tokens(engine, data.clean, first)
    return torch.stack([share_of(engine, data, tokens, target & asked[:, :, None]) for tokens in (data.clean, other)])


def swap_others(engine: Engine) -> Float[Tensor, "2 head"]:
    """Measure heads' attention to the previous token before and after every second token of the prompts is swapped."""
    data = engine.dataset.to(engine.device)
    target = attention.matching(data.clean, attention.until_scored(data))["previous_token"]
    every_second = torch.arange(1, data.clean.shape[1], 2, device=engine.device)
    other = data.clean.clone()
    other[:, every_second] = other_tokens(engine, data.clean, every_second)
    return torch.stack([share_of(engine, data, tokens, target) for tokens in (data.clean, other)])


def other_tokens(
    engine: Engine, tokens: Int[Tensor, "prompt pos"], at: Int[Tensor, "chosen"]
) -> Int[Tensor, "prompt chosen"]:
    """Draw tokens that do not occur in each prompt; any tokens if all occur."""
    generator, d_vocab = torch.Generator().manual_seed(2), engine.weights.architecture.d_vocab
    drawn = []
    for prompt in tokens.cpu():
        free = torch.ones(d_vocab, dtype=torch.bool)
        free[prompt.unique()] = False
        candidates = free.nonzero().flatten() if free.any() else torch.arange(d_vocab)
        drawn.append(candidates[torch.randint(len(candidates), (len(at),), generator=generator)])
    return torch.stack(drawn).to(tokens.device)


def share_of(
    engine: Engine, data: Dataset, tokens: Int[Tensor, "prompt pos"], target: Bool[Tensor, "prompt query key"]
) -> Float[Tensor, "head"]:
    """Return the share of attention that every head gives to target keys, on given tokens: Float[head]."""
    of, rows = runs_of(engine.weights, data, tokens)
    layers = attention.patterns(engine.weights, of, rows)
    return torch.cat([attention.share(pattern, target).nanmean(1) for pattern in layers])


@dataclass(frozen=True)
class Test:
    """Define the predictions of a name.

    Attributes:
        cut: the edges that the mechanism needs: ``q`` or ``k``, the head's direct edge; ``queries``, the edges from the
            head into the queries of later heads.
        lowers: whether the logit difference falls (1) or rises (-1) without these edges; 0 if the name predicts
            neither, so that the effect is reported without a verdict.
        swap: a function that measures every head before and after tokens are swapped, Float[2 head]; None for no swap.
        stays: whether the measurement should stay after the swap; otherwise it should vanish.
    """

    cut: str
    lowers: int = 0
    swap: Callable[[Engine], Float[Tensor, "2 head"]] | None = None
    stays: bool = True


TESTS = {
    "name mover": Test("q", 1, swap_answers),
    "negative name mover": Test("q", -1, swap_answers),
    "S-inhibition": Test("queries", 1),
    "induction": Test("k", 0, partial(swap_earlier, kind="induction"), stays=False),
    "duplicate token": Test("k", 0, partial(swap_earlier, kind="duplicate_token"), stays=False),
    "previous token": Test("k", 0, swap_others),
}
"""The test of each name.

A name mover's query depends on earlier heads: with the corrupted prompt's query the logit difference falls (for a
negative name mover it rises). It copies the word at the answer's position: with another word there, it writes that
word. An S-inhibition head acts through the queries of later heads. An induction or duplicate token head looks for the
earlier token: with another token there, its attention is gone. A previous token head attends to the token before,
whichever token that is.
"""


class Tester:
    """Test names of heads of one model on one dataset.

    Args:
        engine: the engine of the model on the dataset.
        scorer: scores circuits by the metric by which cuts of edges are judged.
    """

    def __init__(self, engine: Engine, scorer: Scorer) -> None:
        self.engine, self.scorer = engine, scorer
        self.swaps: dict[str, Float[Tensor, "2 head"]] = {}

    def test(self, head: Node, name: str) -> dict[str, Any]:
        """Test the name of a head by cutting edges and swapping tokens.

        Returns:
            ``cut``, ``cut_effect`` (by how much the score falls), ``cut_error`` (its standard error), ``cut_passed``;
            ``swap_before``, ``swap_after``, ``swap_passed``; and ``passed``, whether all tests that could be made
            passed. An entry is None where there was no test.
        """
        row = cut_test(self.scorer, head, TESTS[name]) | self.swap_test(head, name)
        told = [passed for passed in (row["cut_passed"], row["swap_passed"]) if passed is not None]
        return row | {"passed": all(told) if told else None}

    def swap_test(self, head: Node, name: str) -> dict[str, Any]:
        """Return a head's measurement before and after tokens are swapped, and whether that is as its name predicts."""
        test = TESTS[name]
        if test.swap is None:
            return {"swap_before": None, "swap_after": None, "swap_passed": None}
        if name not in self.swaps:
            self.swaps[name] = test.swap(self.engine)
        before, after = self.swaps[name][:, heads_of(self.engine.graph).index(head)].tolist()
        share = after / before if before else float("nan")
        passed = bool(share >= KEPT if test.stays else share < KEPT) if np.isfinite(share) else None
        return {"swap_before": before, "swap_after": after, "swap_passed": passed}
