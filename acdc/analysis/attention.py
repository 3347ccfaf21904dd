"""Measure the attention of heads to labelled words, and to the tokens that define kinds of heads.

Definitions: a previous token head attends to the token before; a duplicate token head to the same token earlier; an
induction head to the token that followed the same token earlier (Olsson et al. 2022, arXiv 2209.11895, who call that
prefix matching; Wang et al. 2022, arXiv 2211.00593, section 3 and appendix on heads by attention). Both papers measure
the mean attention on repeated random tokens, where only these patterns can tell a head where to attend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc.data import NO_ANSWER, NOWHERE, Dataset, answers
from acdc.engine.runs import Rows, Run, full_pattern, run
from acdc.engine.weights import Weights
from acdc.prompt_files import END

N_RANDOM, HALF = 8, 50
"""The number of sequences of random tokens, and the number of distinct tokens in each."""
KINDS = ("previous_token", "duplicate_token", "induction", "first_token")

Pattern = Float[Tensor, "head prompt query key"]
Target = Bool[Tensor, "prompt query key"]
OfHeads = dict[str, Float[Tensor, "head prompt"]]
"""Measures by name, of every head on every prompt; nan where a prompt does not allow the measure."""


def runs_of(weights: Weights, data: Dataset, tokens: Int[Tensor, "prompt pos"]) -> tuple[Run, Rows]:
    """Run the model on a dataset's clean or corrupted tokens, or on other tokens of the same shape."""
    rows = Rows.of(data, weights.embed.device, weights.architecture.causal)
    return run(weights, tokens.to(weights.embed.device), rows), rows


def patterns(weights: Weights, of: Run, rows: Rows) -> Iterator[Pattern]:
    """Yield the attention pattern of each layer's heads in a run: Float[head prompt query key]."""
    n_ports = weights.architecture.graph().n_ports
    for layer in range(weights.architecture.n_layers):
        yield full_pattern(weights, layer, of.state.ports(layer, n_ports), rows)


# Targets of attention.


def matching(tokens: Int[Tensor, "prompt pos"], valid: Bool[Tensor, "prompt pos"]) -> dict[str, Target]:
    """Return for each of ``KINDS`` the earlier keys that each query should attend to: Bool[prompt query key]."""
    pos = torch.arange(tokens.shape[1], device=tokens.device)
    distance = pos[:, None] - pos
    earlier = (distance > 0) & valid[:, :, None]
    same = tokens[:, :, None] == tokens[:, None]
    followed = torch.cat([torch.zeros_like(same[:, :, :1]), same[:, :, :-1]], 2)
    targets = earlier & (distance == 1), earlier & same, earlier & followed, earlier & (pos == 0)
    return dict(zip(KINDS, targets, strict=True))


def until_scored(data: Dataset) -> Bool[Tensor, "prompt pos"]:
    """Return the positions up to each prompt's last scored position, after which there may be padding."""
    return data.scored.int().flip(1).cummax(1).values.flip(1).bool()


def places(data: Dataset, side: int) -> dict[str, Int[Tensor, "prompt"]]:
    """Return the positions of labels and of ``END``, the scored position, in clean (0) or corrupted (1) prompts."""
    found = {name: positions[:, side] for name, positions in data.labels.items()}
    if (data.scored.sum(1) == 1).all():
        found[END] = data.scored.int().argmax(1)
    return found


def answering(data: Dataset) -> dict[str, Bool[Tensor, "prompt pos"]]:
    """Return the positions of answers in the clean prompts, if prompts have answers and one scored position.

    ``answer`` has the positions of correct answers. ``repeat`` has the last position of an incorrect answer that occurs
    at least twice (S2 of Wang et al. 2022). Both are Bool[prompt pos].
    """
    if not {"correct", "incorrect"} <= data.targets.keys() or not (data.scored.sum(1) == 1).all():
        return {}
    stands = {}
    for name in ("correct", "incorrect"):
        given = answers(data.targets, name)
        is_one = (data.clean[:, :, None] == given[:, None]) & (given != NO_ANSWER)[:, None]
        stands[name] = is_one.any(2) & until_scored(data)
    wrong = stands["incorrect"]
    last = wrong & (wrong.flip(1).cumsum(1).flip(1) == 1)
    return {"answer": stands["correct"], "repeat": last & (wrong.sum(1, keepdim=True) > 1)}


# Measures of attention.


def share(pattern: Pattern, target: Target) -> Float[Tensor, "head prompt"]:
    """Return the share of attention on target keys, averaged over the queries that have targets; nan where none has."""
    has_one = target.any(2)
    on_target = (pattern * target).sum((2, 3))
    return on_target / torch.where(has_one.any(1), has_one.sum(1), torch.nan)


def at_words(
    pattern: Pattern, words: Mapping[str, Int[Tensor, "prompt"]], causal: bool
) -> Iterator[tuple[str, Float[Tensor, "head prompt"]]]:
    """Yield the attention from each labelled word to each other, named ``FROM->TO``; nan where a prompt lacks one."""
    each = torch.arange(pattern.shape[1], device=pattern.device)
    for query, at in words.items():
        for key, to in words.items():
            there = (at != NOWHERE) & (to != NOWHERE) & (to <= at if causal else True)
            if query != key and there.any():
                yield f"{query}->{key}", pattern[:, each, at, to].where(there, torch.nan)


def attention(weights: Weights, data: Dataset, side: int, of: Run, rows: Rows) -> OfHeads:
    """Measure the attention of every head in a run on the clean (0) or corrupted (1) prompts.

    Returns:
        Float[head prompt] by name: the four ``KINDS``; ``to_answer`` and ``to_repeat``, the attention from the scored
        position to the positions of ``answering``; and ``FROM->TO`` of labels.
    """
    tokens = (data.clean, data.corrupted)[side]
    targets = matching(tokens, until_scored(data))
    targets |= {f"to_{name}": data.scored[:, :, None] & there[:, None] for name, there in answering(data).items()}
    words, causal = places(data, side), weights.architecture.causal
    layers = [
        {name: share(pattern, target) for name, target in targets.items()} | dict(at_words(pattern, words, causal))
        for pattern in patterns(weights, of, rows)
    ]
    return {name: torch.cat([layer[name] for layer in layers]) for name in layers[0]}


# Random tokens.


def random_tokens(weights: Weights, seed: int, first: int | None) -> Dataset:
    """Return a dataset of repeated sequences of random tokens, scored at all positions of the repetition.

    Args:
        first: a beginning-of-sequence token to put before each sequence; None for none.
    """
    a, generator = weights.architecture, torch.Generator().manual_seed(seed)
    half = max(1, min(HALF, (a.n_ctx - (first is not None)) // 2, a.d_vocab))
    once = torch.stack([torch.randperm(a.d_vocab, generator=generator)[:half] for _ in range(N_RANDOM)])
    start = once.new_full((N_RANDOM, int(first is not None)), first or 0)
    tokens = torch.cat([start, once, once], 1)
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    scored[:, -half:] = True
    return Dataset(tokens, tokens, scored, {})


def on_random_tokens(weights: Weights, data: Dataset) -> dict[str, Float[Tensor, "head"]]:
    """Measure the attention of every head on random tokens by the first three of ``KINDS``, averaged over prompts."""
    of, rows = runs_of(weights, data, data.clean)
    targets = matching(data.clean, torch.ones_like(data.scored))
    layers = list(patterns(weights, of, rows))
    return {kind: torch.cat([share(pattern, targets[kind]).nanmean(1) for pattern in layers]) for kind in KINDS[:-1]}
