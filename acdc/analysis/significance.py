"""Test a circuit by the hypothesis tests of Shi et al. 2024 (arXiv 2410.13032).

The tests are the paper's five: the idealized ones (equivalence, independence, minimality) and the flexible ones
(sufficiency, partial necessity). Statistics and constants are those of the paper's code, blei-lab/circuitry at ec9850b,
folder ``circuitry/hypothesis_testing``. Each function names the file of its test there, and where it departs from it.
All tests use one score per prompt: minus a metric, so that more is better.

Two scores that differ by no more than rounding are equal here, but not in the paper's code. There a circuit whose
scores differ from the model's by rounding alone, such as the exactly known circuit of a model, is judged by noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator, default_rng

from acdc.engine.model import Engine
from acdc.graph import Circuit, Edge
from acdc.methods.acdc_fast import N_ROUNDINGS
from acdc.methods.driver import is_zero_at_model
from acdc.methods.random_order import random_scores
from acdc.metrics import MetricKind

LEVEL = 0.05
"""The significance level: a smaller p-value rejects the null hypothesis."""
EPSILON = 0.1
"""Circuit and model are equivalent if the probability that the circuit does better is this near to 1/2."""
QUANTILE = 0.9
"""The share of random circuits, or edges, that the tested one must exceed."""
N_PERMUTATIONS = 1000
"""The number of permutations in the test of independence."""

Scores = Float[np.ndarray, "prompt"]


class Outcome(NamedTuple):
    """Hold a test's statistic and p-value; None where the test cannot be made."""

    statistic: float | None
    p_value: float | None


UNTESTED = Outcome(None, None)


class Scorer:
    """Score circuits on every prompt.

    Attributes:
        noise: the largest difference of scores that counts as rounding.
        model: Float[prompt], the whole model's scores.
        model_is_best: whether the metric is a distance to the model, so that no circuit can do better.
    """

    def __init__(self, engine: Engine, kind: MetricKind) -> None:
        self.engine, self.metric = engine, engine.metric(kind)
        self.noise = N_ROUNDINGS * engine.rounding
        self.model = self.of(Circuit.full(engine.graph))
        self.model_is_best = is_zero_at_model(engine, self.metric)

    def of(self, circuit: Circuit) -> Scores:
        """Score a circuit on every prompt: minus the metric, averaged over scored positions, with other edges ablated.

        Raises:
            ArithmeticError: a score is not a finite number.
        """
        pairs = zip(self.metric, self.engine.finals(circuit), strict=True)
        values = torch.cat([self.engine.values(metric, final)[0].cpu() for metric, final in pairs])
        scored = self.engine.dataset.scored
        prompt, count = self.engine.dataset.scored_rows[0].cpu(), scored.sum(1).cpu()
        scores = -values.new_zeros(len(scored)).index_add_(0, prompt, values) / count
        if not scores.isfinite().all():
            raise ArithmeticError("a circuit's score is not a finite number: its logits overflow, try float64")
        return scores.numpy()

    def distance(self, scores: Scores, others: Scores) -> float:
        """Return the root mean squared difference of scores over prompts; the code's ``eval_metric`` is its square."""
        difference = scores - others
        return float(np.sqrt(np.square(np.where(abs(difference) > self.noise, difference, 0)).mean()))

    def count_above(self, value: float, others: Sequence[float]) -> int:
        """Return how many of the other distances are smaller than a distance by more than rounding."""
        return int((value > np.array(others) + self.noise).sum())

    def count_below(self, value: float, others: Sequence[float]) -> int:
        """Return how many of the other distances are larger than a distance by more than rounding."""
        return int((value < np.array(others) - self.noise).sum())


# The five tests.


def equivalence(circuit: Scores, model: Scores, noise: float) -> Outcome:
    """Test whether the circuit and the model are equally likely to do better than the other (``non_equivalence.py``).

    The null hypothesis is |P(circuit better) - 1/2| < ``EPSILON`` over prompts. The p-value is the probability that, of
    as many draws with chance 1/2 + ``EPSILON``, the share of successes is at least as far from 1/2 as the observed
    share.

    Departures: the statistic is the share of prompts, as in the hypothesis, where the code uses the mean difference of
    scores; and a tie counts as half a success, which favours the null hypothesis.

    Returns:
        The share of prompts where the circuit does better, and the p-value.
    """
    better = np.where(abs(circuit - model) <= noise, 0.5, circuit > model)
    share, n = float(better.mean()), len(better)
    chance = binomial(n, 0.5 + EPSILON)
    as_far = abs(np.arange(n + 1) / n - 0.5) >= abs(share - 0.5) - 1e-12
    return Outcome(share, min(1.0, float(chance[as_far].sum())))


def independence(complement: Scores, model: Scores, noise: float, rng: Generator) -> Outcome:
    """Test whether the scores without the circuit's edges are independent of the model's (``non_independence.py``).

    The null hypothesis is independence, the statistic the Hilbert-Schmidt independence criterion with Gaussian kernels
    (Gretton et al. 2007, biased estimate), the p-value that of ``N_PERMUTATIONS`` random permutations of the prompts.

    Departures: each kernel's width is the median distance of its own scores, as in Gretton et al., where the code has
    one width for both kernels, from the distances between the two scores; and the observed order counts as one of the
    permutations, so that no p-value is 0. If the scores without the circuit are the same on every prompt, they are
    independent of everything and the p-value is 1. If the model's scores are, the test cannot be made.

    Returns:
        The criterion, and the p-value.
    """
    if np.ptp(model) <= noise:
        return UNTESTED
    if np.ptp(complement) <= noise:
        return Outcome(0.0, 1.0)
    n, of_model = len(model), kernel(model, noise)
    centred = of_model - of_model.mean(0) - of_model.mean(1)[:, None] + of_model.mean()
    other = kernel(complement, noise)
    orders = (rng.permutation(n) for _ in range(N_PERMUTATIONS))
    permuted = np.array([(centred * other[np.ix_(order, order)]).sum() for order in orders])
    observed = (centred * other).sum()
    as_large = (permuted >= observed - 1e-12 * abs(observed)).sum()
    return Outcome(float(observed / (n - 1) ** 2), float((1 + as_large) / (1 + N_PERMUTATIONS)))


def minimality(scorer: Scorer, circuit: Circuit, n: int, rng: Generator) -> Outcome:
    """Test whether every edge of a circuit matters more than edges that are added at random (``minimality.py``).

    The reference is drawn ``n`` times: a random path from an embedding to the logits is added to the circuit, one of
    the new edges is removed again, and the move of the scores is measured. The null hypothesis for an edge of the
    circuit is that removing it moves the scores further than that with a chance of at least ``QUANTILE``; the p-value
    is that of the binomial test. The null hypothesis for the circuit is the conjunction over its edges, with
    Bonferroni's correction, which the code has not implemented.

    Returns:
        The share of superfluous edges, whose own hypothesis is rejected after the correction; and the smallest of the
        edges' p-values times their number.
    """
    if not circuit.n_edges or circuit == Circuit.full(circuit.graph):
        return UNTESTED
    added = [effect_of_added(scorer, circuit, rng) for _ in range(n)]
    at_most = binomial(n, QUANTILE).cumsum()
    p_values = np.array([at_most[scorer.count_above(effect, added)] for effect in effects(scorer, circuit).values()])
    corrected = np.minimum(1.0, p_values * circuit.n_edges)
    return Outcome(float((corrected < LEVEL).mean()), float(corrected.min()))


def sufficiency(scorer: Scorer, circuit: Circuit, reference: Iterable[Circuit]) -> Outcome:
    """Test whether a circuit is more faithful than most random circuits of its size (``sufficiency.py``).

    A circuit is the more faithful the nearer its scores are to the model's. The null hypothesis is that the circuit is
    more faithful than a random one with a chance of at most ``QUANTILE``; the p-value is that of the binomial test.

    Departure: an equally faithful random circuit does not count as beaten. The code counts it as beaten, so that an
    empty circuit would be sufficient.

    Returns:
        The share of random circuits that are beaten, and the p-value.
    """
    own = scorer.distance(scorer.of(circuit), scorer.model)
    others = [scorer.distance(scorer.of(other), scorer.model) for other in reference]
    return more_than_quantile(scorer.count_below(own, others), len(others))


def partial_necessity(scorer: Scorer, circuit: Circuit, reference: Iterable[Circuit]) -> Outcome:
    """Test whether removing a circuit does more damage than removing most random ones (``partial_necessity.py``).

    Damage is how far the scores without a circuit's edges are from the model's. The null hypothesis is that removing
    the circuit does more damage than removing a random one with a chance of at most ``QUANTILE``; the p-value is that
    of the binomial test.

    Args:
        reference: random circuits of the whole model, the code's default, many of which share edges with the circuit;
            or of the edges outside the circuit, its option ``use_complement_for_reference_distribution``.

    Returns:
        The share of random circuits whose removal does less damage, and the p-value.
    """
    full = Circuit.full(circuit.graph)
    own = scorer.distance(scorer.of(full - circuit), scorer.model)
    others = [scorer.distance(scorer.of(full - other), scorer.model) for other in reference]
    return more_than_quantile(scorer.count_above(own, others), len(others))


# Parts of the tests.


def binomial(n: int, chance: float) -> Float[np.ndarray, "n_plus_1"]:
    """Return the binomial probabilities of 0 to ``n`` successes: Float[n_plus_1]."""
    successes = torch.distributions.Binomial(n, torch.tensor(chance, dtype=torch.float64))
    chances = successes.log_prob(torch.arange(n + 1, dtype=torch.float64)).exp().numpy()
    return chances / chances.sum()


def more_than_quantile(count: int, n: int) -> Outcome:
    """Return a share of successes, and the probability of so many or more if each has the chance ``QUANTILE``."""
    return Outcome(count / n, min(1.0, float(binomial(n, QUANTILE)[count:].sum())))


def kernel(values: Scores, least: float) -> Float[np.ndarray, "prompt prompt"]:
    """Return a Gaussian kernel, as wide as the median distance of values that differ, and at least ``least``."""
    distances = abs(values[:, None] - values)
    width = max(float(np.median(distances[distances > 0])), least)
    return np.exp(-np.square(distances / width) / 2)


def effects(scorer: Scorer, circuit: Circuit) -> Mapping[Edge, float]:
    """Return for each edge of a circuit how far removing it moves the scores."""
    whole, reaching = scorer.of(circuit), circuit.reaching_logits()
    found = dict.fromkeys(circuit.edges, 0.0)  # for edges that do not lead on to the logits
    return found | {edge: scorer.distance(scorer.of(reaching.without(edge)), whole) for edge in reaching}


def effect_of_added(scorer: Scorer, circuit: Circuit, rng: Generator) -> float:
    """Return how far removing a random edge moves the scores, of edges that a random path added to a circuit."""
    inflated, full = circuit, Circuit.full(circuit.graph)
    while inflated == circuit:
        inflated = circuit.copy()
        add_path(inflated, full, rng)
    new = list(inflated - circuit)
    without = inflated.without(new[rng.integers(len(new))])
    return scorer.distance(scorer.of(without), scorer.of(inflated))


def add_path(circuit: Circuit, allowed: Circuit, rng: Generator) -> None:
    """Add a random path from an embedding to the logits to a circuit, with the direct edges of its ports.

    From a sender the path goes on to any of its receivers with equal chances, and from a port to any head that the port
    changes.

    Args:
        allowed: the edges that the path may take, each of which is on a path from an embedding to the logits.
    """
    graph = circuit.graph
    senders = list(range(graph.first_sender(0)))
    while senders:
        sending = [sender for sender in senders if allowed.present[sender].any()]
        sender = sending[rng.integers(len(sending))]
        receivers = np.flatnonzero(allowed.present[sender])
        receiver = receivers[rng.integers(len(receivers))]
        circuit.present[sender, receiver] = True
        circuit.direct[receiver] = graph.has_direct[receiver]
        senders = [graph.sender_index[node] for node in graph.influenced(graph.receivers[receiver])]


def on_paths(circuit: Circuit) -> Circuit:
    """Return the circuit of the edges that are on a path from an embedding to the logits."""
    graph, found = circuit.graph, circuit.reaching_logits()
    reached = np.array([node.layer < 0 for node in graph.senders])
    for receiver, node in enumerate(graph.receivers):
        found.present[:, receiver] &= reached
        if found.present[:, receiver].any():
            reached[[graph.sender_index[sender] for sender in graph.influenced(node)]] = True
        else:
            found.direct[receiver] = False
    return found


def of_edges(circuit: Circuit, rng: Generator) -> Circuit:
    """Draw a random circuit with a circuit's number of addition edges, and the direct edges of ports they enter."""
    return random_scores(circuit.graph, int(rng.integers(2**32))).top(int(circuit.present.sum()))


def of_paths(n_edges: int, allowed: Circuit, rng: Generator) -> Circuit:
    """Draw random paths until they have ``n_edges`` edges, or a few more; see ``add_path``."""
    drawn = Circuit.empty(allowed.graph)
    while drawn.n_edges < n_edges < allowed.n_edges:
        add_path(drawn, allowed, rng)
    return drawn if drawn.n_edges >= n_edges else allowed


# All tests.

IDEALIZED = ("equivalence", "independence", "minimality")
"""The tests whose null hypothesis states the desired property: a circuit passes if it is not rejected."""


def significance_rows(scorer: Scorer, circuit: Circuit, *, n_random: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row per test of a circuit: ``test``, ``statistic``, ``p_value``, ``rejected`` and ``passes``.

    If a test cannot be made, all entries but its name are None: equivalence and independence if the metric is a
    distance to the model, independence if the model's score is the same on every prompt, minimality for a circuit of no
    edges or of all, and necessity beside circuits from outside the circuit if too few edges are there.

    Args:
        n_random: the number of random circuits, and of random edges, for comparison.
        seed: the seed of everything random.
    """
    for test, outcome in outcomes(scorer, circuit, n_random, seed):
        rejected = None if outcome.p_value is None else outcome.p_value < LEVEL
        passes = None if rejected is None else rejected != (test in IDEALIZED)
        yield {"test": test, **outcome._asdict(), "rejected": rejected, "passes": passes}


def outcomes(scorer: Scorer, circuit: Circuit, n: int, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Yield the name and the outcome of every test."""
    full, noise = Circuit.full(circuit.graph), scorer.noise
    rest, size = on_paths(full - circuit), circuit.n_edges

    def rng(test: int) -> Generator:
        return default_rng([seed, test])

    def drawn(draw: Callable[[Generator], Circuit], test: int) -> Iterator[Circuit]:
        one = rng(test)  # for all draws of a test, made one by one: thousands of circuits would fill the memory
        return (draw(one) for _ in range(n))

    along = partial(of_paths, size, full)
    if scorer.model_is_best:
        yield from (("equivalence", UNTESTED), ("independence", UNTESTED))
    else:
        yield "equivalence", equivalence(scorer.of(circuit), scorer.model, noise)
        yield "independence", independence(scorer.of(full - circuit), scorer.model, noise, rng(0))
    yield "minimality", minimality(scorer, circuit, n, rng(1))
    yield "sufficiency_edges", sufficiency(scorer, circuit, drawn(partial(of_edges, circuit), 2))
    yield "sufficiency_paths", sufficiency(scorer, circuit, drawn(along, 3))
    yield "necessity_paths", partial_necessity(scorer, circuit, drawn(along, 3))
    if rest.n_edges < size:
        yield "necessity_outside", UNTESTED
    else:
        outside = drawn(partial(of_paths, size, rest), 4)
        yield "necessity_outside", partial_necessity(scorer, circuit, outside)


def judged_by(engine: Engine, metrics: Mapping[str, MetricKind], own: str) -> str:
    """Return the metric that scores prompts: the search's or, if that is a distance to the model, another one.

    Args:
        metrics: the task's metrics. If all are distances, the search's is returned or, if the task lacks it, the first.
        own: the name of the search's metric.
    """
    names = [name for name in (own, *metrics) if name in metrics]
    return next((name for name in names if not is_zero_at_model(engine, engine.metric(metrics[name]))), names[0])
