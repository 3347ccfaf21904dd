"""Train a transformer to have a program's circuit, and measure how well it does.

This is strict interchange intervention training (Gupta et al. 2024, InterpBench, arXiv 2407.14494), with edges in place
of nodes. In each step every prompt has a corrupted prompt, and a random set of edges that carry the corrupted prompt's
values. The label is the program's answer when the same of its edges do so: another answer if they are edges of the
program (interchange), the prompt's own answer if they are other edges (strictness) or none (behaviour).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from acdc.graph import Circuit, Graph
from acdc.models.toy.siit.network import Network, config_of
from acdc.models.toy.siit.program import UNDEFINED, Program, Tokens

N_PROMPTS, N_HELD_OUT = 128, 1000
LEARNING_RATE, WARMUP = 3e-3, 200
LOG_EVERY = 250
ALONE = 0.3
"""The share of the training, at its beginning, in which only the circuit's edges are kept. With all other edges present
from the start, a model often learns another mechanism and keeps it."""
KINDS = ("behaviour", "interchange", "strictness", "both")
Kept = Bool[Tensor, "prompt sender receiver"]


@dataclass(frozen=True)
class Batch:
    """Hold prompts, their corrupted prompts, the edges that are kept for each, and the program's answers."""

    clean: Tokens
    corrupted: Tokens
    kept: Kept
    answers: Tensor


@dataclass(frozen=True)
class Measures:
    """Hold measures of how well a model has its program's circuit, on held-out prompts with random corrupted ones.

    Attributes:
        accuracy: the share of prompts on which the model answers as the program does.
        interchange: the same share when one edge of the program carries the corrupted prompt's value, for the worst
            edge, over the prompts for which the program then has an answer.
        circuit: the share with the program's answer when all edges but the program's carry the corrupted prompt's
            values.
        outside: the largest share of prompts whose answer changes when one node outside of the circuit has its output
            on the corrupted prompt.
        needed: the smallest share of prompts, among those whose corrupted prompt has another answer, that lose the
            answer when one edge is removed from the circuit of the program's edges.
    """

    accuracy: float
    interchange: float
    circuit: float
    outside: float
    needed: float


def train(program: Program, n_steps: int | None = None) -> Iterator[tuple[Network, dict[str, float]]]:
    """Train a model, and yield it with a row of its log every ``LOG_EVERY`` steps and at the end.

    With one thread, one seed and one machine the weights are the same bytes each time.
    """
    total = n_steps or program.n_steps
    generator = torch.Generator().manual_seed(program.seed)
    network = Network.new(config(program), generator)
    truth = in_circuit(program.circuit(network.graph))
    step_of = optimisation(network, total)
    losses = dict.fromkeys(KINDS, 0.0)
    for step in range(1, total + 1):
        n = N_PROMPTS // len(KINDS)
        alone = step <= ALONE * total
        parts = [batch(program, network.graph, truth, kind, n, generator, alone=alone) for kind in KINDS]
        by_kind = losses_of(network, parts)
        step_of(by_kind.mean())
        losses = {kind: so_far + loss for (kind, so_far), loss in zip(losses.items(), by_kind.tolist(), strict=True)}
        if step % LOG_EVERY == 0 or step == total:
            row = {f"{kind}_loss": value / ((step - 1) % LOG_EVERY + 1) for kind, value in losses.items()}
            yield network, {"step": step, **row, **asdict(measure(program, network, N_HELD_OUT))}
            losses = dict.fromkeys(KINDS, 0.0)


def optimisation(network: Network, total: int) -> Callable[[Tensor], None]:
    """Return a function that takes one step of gradient descent on a loss."""
    optimiser = torch.optim.AdamW(network.tensors.values(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate_at(total))

    def step_of(loss: Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.tensors.values(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()

    return step_of


def config(program: Program) -> dict[str, Any]:
    """Return the config of a program's model."""
    return config_of(program.n_layers, prompts(program, 1, 0).shape[1], program.n_tokens)


def prompts(program: Program, n: int, seed: int) -> Tokens:
    """Draw prompts of a program."""
    return program.draw(program, n, torch.Generator().manual_seed(seed))


def rate_at(total: int) -> Callable[[int], float]:
    """Return a function of the step for the learning rate's factor: a linear rise, then a cosine to 0."""
    return lambda step: min((step + 1) / WARMUP, 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0)))


def losses_of(network: Network, parts: list[Batch]) -> Float[Tensor, "part"]:
    """Return the cross-entropy of each part with the program's answers, where it has answers: Float[part]."""
    clean, corrupted = (torch.cat([getattr(part, name) for part in parts]) for name in ("clean", "corrupted"))
    kept = torch.cat([part.kept for part in parts]).float()
    logits = network.logits(clean, corrupted, kept)[:, -1].split([len(part.clean) for part in parts])
    return torch.stack(
        [F.cross_entropy(x, part.answers, ignore_index=UNDEFINED) for x, part in zip(logits, parts, strict=True)]
    )


def in_circuit(circuit: Circuit) -> Bool[Tensor, "sender receiver"]:
    """Return which addition edges are in a circuit: Bool[sender receiver]."""
    return torch.from_numpy(circuit.present.copy())


def batch(
    program: Program,
    graph: Graph,
    truth: Bool[Tensor, "sender receiver"],
    kind: str,
    n: int,
    generator: torch.Generator,
    *,
    alone: bool = False,
) -> Batch:
    """Draw a batch of one kind.

    ``interchange`` keeps a random share of the program's edges, ``strictness`` a random share of the other edges, half
    of the time none; ``both`` does both, and ``behaviour`` keeps all edges.

    Args:
        alone: whether none of the other edges is kept, whatever the kind.
    """
    clean, corrupted = (program.draw(program, n, generator) for _ in range(2))
    if program.draw_like:  # else values of two prompts could rarely be mixed
        corrupted[::2] = program.draw_like(program, clean[::2], generator)
    shape = (n, *truth.shape)
    chance = torch.rand(n, 1, 1, generator=generator)
    some = torch.rand(shape, generator=generator)
    kept = torch.ones(shape, dtype=torch.bool)
    if kind in ("interchange", "both"):
        kept &= ~truth | (some < chance)
    if kind in ("strictness", "both"):
        none = torch.rand(n, 1, 1, generator=generator) < 0.5
        kept &= truth | ((torch.rand(shape, generator=generator) < torch.rand(n, 1, 1, generator=generator)) & ~none)
    if alone:
        kept &= truth
    return Batch(clean, corrupted, kept, program.mixed(clean, corrupted, kept, graph))


# Measures.


def measure(program: Program, network: Network, n: int = N_HELD_OUT, seed: int = 10**6) -> Measures:
    """Measure a model on prompts with a seed that no training has."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = (program.draw(program, n, generator) for _ in range(2))
    graph, answers = network.graph, program.answers(clean)
    truth = in_circuit(program.circuit(graph))
    whole = predicted(network, clean)
    alone = predicted(network, clean, corrupted, truth)
    edges = [single(truth, s, r) for s, r in truth.nonzero().tolist()]
    nodes = [s for s in range(len(graph.senders)) if not truth[s].any()]
    differ = answers != program.answers(corrupted)
    return Measures(
        accuracy=share(whole == answers),
        interchange=min(interchanged(program, network, clean, corrupted, ~edge) for edge in edges),
        circuit=share(alone == answers),
        outside=max(
            (share(predicted(network, clean, corrupted, without(truth, s)) != whole) for s in nodes), default=0.0
        ),
        needed=min(share((predicted(network, clean, corrupted, truth & ~e) != answers)[differ]) for e in edges),
    )


def interchanged(
    program: Program, network: Network, clean: Tokens, corrupted: Tokens, kept: Bool[Tensor, "sender receiver"]
) -> float:
    """Return the share of answers that are the program's, with the same edges kept for every prompt."""
    expected = program.mixed(clean, corrupted, kept.expand(len(clean), -1, -1), network.graph)
    known = expected != UNDEFINED
    return share((predicted(network, clean, corrupted, kept) == expected)[known])


def predicted(
    network: Network,
    clean: Tokens,
    corrupted: Tokens | None = None,
    kept: Bool[Tensor, "sender receiver"] | None = None,
) -> Tensor:
    """Return the likeliest answers of a model, with all edges or with those that are kept."""
    return network.answers(clean, corrupted, None if kept is None else kept.float().expand(len(clean), -1, -1))


def single(like: Bool[Tensor, "sender receiver"], sender: int, receiver: int) -> Bool[Tensor, "sender receiver"]:
    """Return a mask of one edge: Bool[sender receiver]."""
    edge = torch.zeros_like(like)
    edge[sender, receiver] = True
    return edge


def without(like: Bool[Tensor, "sender receiver"], sender: int) -> Bool[Tensor, "sender receiver"]:
    """Return a mask of all edges but those of one sender: Bool[sender receiver]."""
    kept = torch.ones_like(like)
    kept[sender] = False
    return kept


def share(which: Bool[Tensor, "..."]) -> float:
    """Return the share of entries that are true."""
    return which.double().mean().item()
