"""Measure where heads attend to: at labelled words, and at the tokens by which kinds of heads are defined.

Definitions: a previous token head attends to the token before; a duplicate token head to the same token earlier; an
induction head to the token that followed the same token earlier (Olsson et al. 2022, arXiv 2209.11895, who call that
prefix matching; Wang et al. 2022, arXiv 2211.00593, section 3 and appendix on heads by attention). Both papers take
the mean on random tokens that are repeated, where nothing but these patterns tells a head where to look.
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
"""Sequences of random tokens, and the tokens that each has twice."""
KINDS = ("previous_token", "duplicate_token", "induction", "first_token")

Pattern = Float[Tensor, "head prompt query key"]
Target = Bool[Tensor, "prompt query key"]
OfHeads = dict[str, Float[Tensor, "head prompt"]]
"""Measures by name, of every head on every prompt; nan where a prompt does not tell."""


def runs_of(weights: Weights, data: Dataset, tokens: Int[Tensor, "prompt pos"]) -> tuple[Run, Rows]:
    """Run the model on a dataset's clean or corrupted tokens, or on others of their shape."""
    rows = Rows.of(data, weights.embed.device, weights.architecture.causal)
    return run(weights, tokens.to(weights.embed.device), rows), rows


def patterns(weights: Weights, of: Run, rows: Rows) -> Iterator[Pattern]:
    """Yield where the heads of each layer attend to in a run."""
    n_ports = weights.architecture.graph().n_ports
    for layer in range(weights.architecture.n_layers):
        yield full_pattern(weights, layer, of.state.ports(layer, n_ports), rows)


# What heads may attend to.


def matching(tokens: Int[Tensor, "prompt pos"], valid: Bool[Tensor, "prompt pos"]) -> dict[str, Target]:
    """Return by kind, see ``KINDS``, which keys each query should attend to. Only earlier keys count."""
    pos = torch.arange(tokens.shape[1], device=tokens.device)
    distance = pos[:, None] - pos
    earlier = (distance > 0) & valid[:, :, None]
    same = tokens[:, :, None] == tokens[:, None]
    followed = torch.cat([torch.zeros_like(same[:, :, :1]), same[:, :, :-1]], 2)
    targets = earlier & (distance == 1), earlier & same, earlier & followed, earlier & (pos == 0)
    return dict(zip(KINDS, targets, strict=True))


def until_scored(data: Dataset) -> Bool[Tensor, "prompt pos"]:
    """Return the positions up to each prompt's last scored one: what follows may be padding."""
    return data.scored.int().flip(1).cummax(1).values.flip(1).bool()


def places(data: Dataset, side: int) -> dict[str, Int[Tensor, "prompt"]]:
    """Return the position of every label in the clean (0) or corrupted (1) prompts, and of the scored one, ``END``."""
    found = {name: positions[:, side] for name, positions in data.labels.items()}
    if (data.scored.sum(1) == 1).all():
        found[END] = data.scored.int().argmax(1)
    return found


def answering(data: Dataset) -> dict[str, Bool[Tensor, "prompt pos"]]:
    """Return where answers stand in the clean prompts, of prompts that have such and one scored position.

    ``answer`` is where a correct answer stands; ``repeat`` where an incorrect one stands for the last time, if it
    stands there at least twice (Wang et al. 2022: S2).
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


# How much they attend to it.


def share(pattern: Pattern, target: Target) -> Float[Tensor, "head prompt"]:
    """Return the share of attention on targets, as a mean over the queries that have one; nan where none has."""
    has_one = target.any(2)
    on_target = (pattern * target).sum((2, 3))
    return on_target / torch.where(has_one.any(1), has_one.sum(1), torch.nan)


def at_words(
    pattern: Pattern, words: Mapping[str, Int[Tensor, "prompt"]], causal: bool
) -> Iterator[tuple[str, Float[Tensor, "head prompt"]]]:
    """Yield the attention from each labelled word to each, under ``FROM->TO``; nan where a prompt lacks one."""
    each = torch.arange(pattern.shape[1], device=pattern.device)
    for query, at in words.items():
        for key, to in words.items():
            there = (at != NOWHERE) & (to != NOWHERE) & (to <= at if causal else True)
            if query != key and there.any():
                yield f"{query}->{key}", pattern[:, each, at, to].where(there, torch.nan)


def attention(weights: Weights, data: Dataset, side: int, of: Run, rows: Rows) -> OfHeads:
    """Measure where heads attend to in a run on the clean (0) or corrupted (1) prompts.

    Returns:
        the four kinds of ``KINDS``; ``to_answer`` and ``to_repeat``, the attention from the scored position to what
        stands there in the clean prompt, see ``answering``; and ``FROM->TO`` of labels.
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
    """Return sequences of random tokens, each of which stands there twice, all positions of the second time scored.

    Args:
        first: a token that marks the beginning; None without one.
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
    """Measure the first three kinds of ``KINDS`` on random tokens, see ``random_tokens``: a mean for every head."""
    of, rows = runs_of(weights, data, data.clean)
    targets = matching(data.clean, torch.ones_like(data.scored))
    layers = list(patterns(weights, of, rows))
    return {kind: torch.cat([share(pattern, targets[kind]).nanmean(1) for pattern in layers]) for kind in KINDS[:-1]}
