"""Build an attention-only model of two layers that learned induction by itself: only its loss was trained.

Its sequences are those of the task ``induction``: random tokens, then stretches of them again. Only the token that
follows a repeated token can be predicted. So a previous-token head and an induction head form (Olsson et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from acdc.models.toy.siit.files import Trained
from acdc.models.toy.siit.network import Network, config_of
from acdc.models.toy.siit.training import LOG_EVERY, optimisation
from acdc.tasks.induction import repeated, repeating

N_TOKENS, N_POS = 64, 60
N_PROMPTS, N_STEPS, N_HELD_OUT = 48, 3000, 200


def config() -> dict[str, Any]:
    """Return the model's config."""
    return config_of(2, N_POS, N_TOKENS, d_model=64, d_head=16, attn_only=True)


def draw(n: int, seed: int) -> Int[Tensor, "prompt pos"]:
    """Draw sequences with one more token at the end, the last target."""
    return repeating(n, N_POS + 1, N_TOKENS, seed)


def train(n_steps: int = N_STEPS, seed: int = 0) -> Iterator[tuple[Network, dict[str, Any]]]:
    """Train the model to predict the next token, and yield it with rows of its log, see ``training.train``."""
    network = Network.new(config(), torch.Generator().manual_seed(seed))
    step_of = optimisation(network, n_steps)
    for step in range(1, n_steps + 1):
        tokens = draw(N_PROMPTS, seed + step)
        logits = network.logits(tokens[:, :-1])
        step_of(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))
        if step % LOG_EVERY == 0 or step == n_steps:
            yield network, {"step": step, **measure(network)}


def measure(network: Network) -> dict[str, Any]:
    """Measure a model on sequences that no training has.

    Returns:
        The loss at positions whose token and next token occurred together before, and at all others; and for each head
        its scores as a previous-token head and as an induction head.
    """
    tokens, twice = draw(N_HELD_OUT, 10**6), random_twice(N_HELD_OUT, 10**6)
    clean, scored = tokens[:, :-1], repeated(tokens)[:, :-1]
    with torch.no_grad():
        losses = F.cross_entropy(network.logits(clean).mT, tokens[:, 1:], reduction="none")
        patterns = network.patterns(twice)
    row = {"repeated_loss": losses[scored].mean().item(), "other_loss": losses[~scored].mean().item()}
    for layer, pattern in enumerate(patterns):
        for head in range(network.n_heads):
            name, attention = f"a{layer}.h{head}", pattern[:, head]
            row |= {f"{name}_previous": previous(attention), f"{name}_induction": induction(attention)}
    return row


def random_twice(n: int, seed: int) -> Int[Tensor, "prompt pos"]:
    """Draw sequences of random tokens without repetition, each repeated once."""
    order = torch.rand(n, N_TOKENS, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order[:, : N_POS // 2].repeat(1, 2)


def previous(attention: Float[Tensor, "prompt query key"]) -> float:
    """Return the share of attention on the token before, averaged over positions (Olsson et al. 2022)."""
    return attention.diagonal(-1, 1, 2).mean().item()


def induction(attention: Float[Tensor, "prompt query key"]) -> float:
    """Return the share of attention on the token after the same token's first occurrence.

    The sequences are those of ``random_twice``. The share is averaged over the repetition (Olsson et al. 2022).
    """
    half = attention.shape[1] // 2
    return attention.diagonal(1 - half, 1, 2)[:, 1:].mean().item()


TRAINED = Trained(
    name="trained_induction",
    config=config,
    train=train,
    measure=measure,
    prompts=lambda n, seed: draw(n, seed)[:, :-1],
    tokenizer=lambda: None,
)
build = TRAINED.build
