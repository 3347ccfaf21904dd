"""Test the search on random small models of every kind: it decides as one hooked forward pass per tried edge does.

A seed draws a whole example, so that the same ones run every time. They are compared in float64, where nothing
is near a tie; float32 has to decide the same wherever no effect is near the threshold.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from acdc.catalogue import ABLATIONS
from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.graph import Circuit
from acdc.methods.acdc import Progress
from acdc.methods.acdc_fast import acdc_fast
from acdc.metrics import L2, Metric
from acdc.models.convert import weights_of
from acdc.reference import Reference
from tests.search import assert_same, oracle_search
from tests.small_models import COUPLED, LEARNED_POSITIONS, N_VOCAB, OF_TEXT, ablations_of, random_bridge, random_circuit

KINDS = ("gpt2", "attention_only", "llama", "pythia", "gemma2", "olmo2", "shortformer", "bidirectional")
GROUPED = ("llama", *COUPLED)
METRICS: dict[str, type[Metric]] = {**OF_TEXT, "l2": L2}
HEAD_ORDERS = ("descending", "ascending")
D_HEAD = 8

# Of the metric's scale:
FLOAT64_ERROR = 1e-9
FLOAT32_ERROR = 1e-4
LLAMA_ERROR = 1e-5
"""The oracle's error in float64, for Hugging Face's RMS norm computes in float32 whatever the model is in."""


@dataclass(frozen=True)
class Example:
    """Hold what a seed draws of a search.

    Attributes:
        seed: of the weights and the prompts too.
        share: the threshold as a share of ``scale``.
    """

    seed: int
    kind: str
    n_prompts: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ablation: str
    split_embed: bool
    metric: str
    head_order: str
    share: float

    @classmethod
    def draw(cls, seed: int) -> Example:
        rng, kind = random.Random(seed), KINDS[seed % len(KINDS)]
        n_heads = rng.randint(1, 4)
        groups = [n for n in range(1, n_heads + 1) if n_heads % n == 0]
        return cls(
            seed,
            kind,
            n_prompts=rng.randint(1, 4),
            n_layers=rng.randint(1, 3),
            n_heads=n_heads,
            n_kv_heads=rng.choice(groups) if kind in GROUPED else n_heads,
            ablation=rng.choice(ablations_of(kind)),
            split_embed=kind in LEARNED_POSITIONS and rng.random() < 0.5,
            metric=rng.choice(list(METRICS)),
            head_order=rng.choice(HEAD_ORDERS),
            share=10 ** rng.uniform(-2.5, -0.7),
        )

    @cached_property
    def bridge(self) -> TransformerBridge:
        """Return the model in float64; its weights are float32 numbers all the same."""
        shape = {"n_layers": self.n_layers, "n_heads": self.n_heads, "d_model": D_HEAD * self.n_heads}
        shape |= {"n_key_value_heads": self.n_kv_heads} if self.kind in GROUPED else {}
        return random_bridge(self.kind, self.seed, **shape).to(torch.float64)

    @cached_property
    def dataset(self) -> Dataset:
        return random_dataset(self.seed, self.n_prompts)

    def engine(self, dtype: torch.dtype = torch.float64, **settings: int) -> Engine:
        """Return an engine of the example. ``settings`` are those of ``Engine``."""
        weights = weights_of(self.bridge).to("cpu", dtype)
        return Engine(weights, self.dataset, ablation=self.ablation, split_embed=self.split_embed, **settings)

    @cached_property
    def scale(self) -> float:
        """Return how far apart the metrics of a few circuits are, from all edges to none."""
        engine = self.engine()
        metric, graph = engine.metric(METRICS[self.metric]), engine.graph
        circuits = [random_circuit(graph, seed, 0.5, 0.9) for seed in range(3)]
        values = [
            engine.measure(metric, engine.finals(circuit))[0]
            for circuit in (Circuit.full(graph), Circuit.empty(graph), *circuits)
        ]
        return max(values) - min(values)

    @property
    def threshold(self) -> float:
        return self.share * self.scale

    @cached_property
    def found(self) -> Progress:
        """Return what the fast search finds in float64."""
        return self.search(self.engine())

    def search(self, engine: Engine) -> Progress:
        return acdc_fast(engine, METRICS[self.metric], self.threshold, self.head_order)

    @cached_property
    def expected(self) -> Progress:
        """Return what one hooked forward pass per tried edge finds."""
        oracle = Reference(self.bridge, self.dataset, ablation=self.ablation, split_embed=self.split_embed)
        return oracle_search(oracle, METRICS[self.metric], self.threshold, self.head_order)

    @property
    def margin(self) -> float:
        """Return how near an effect comes to the threshold, as a share of ``scale``."""
        return self.expected.smallest_margin(self.threshold) / self.scale


def random_dataset(seed: int, n_prompts: int) -> Dataset:
    """Return prompts with one or several scored positions, and corrupted ones that begin as they do."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    n_pos, most_scored = rng.randint(3, 7), rng.choice([1, 3])
    clean = torch.randint(0, N_VOCAB, (n_prompts, n_pos), generator=generator)
    corrupted = (clean + torch.randint(1, N_VOCAB, clean.shape, generator=generator)) % N_VOCAB
    scored = torch.zeros(clean.shape, dtype=torch.bool)
    for prompt in range(n_prompts):
        positions = rng.sample(range(n_pos), rng.randint(1, most_scored))
        scored[prompt, positions] = True
        shared = rng.randint(0, max(positions))
        corrupted[prompt, :shared] = clean[prompt, :shared]
    correct = torch.randint(0, N_VOCAB, (n_prompts,), generator=generator)
    return Dataset(clean, corrupted, scored, {"correct": correct, "incorrect": (correct + 7) % N_VOCAB})


example = cache(Example.draw)
SEEDS = range(40)
seeds = pytest.mark.parametrize("seed", SEEDS)


@seeds
def test_search_decides_as_one_forward_pass_per_edge_does(seed):
    drawn = example(seed)
    error = LLAMA_ERROR if drawn.kind in GROUPED else FLOAT64_ERROR
    assert drawn.margin > 2 * error, "a tie: draw another example"
    assert_same(drawn.found, drawn.expected, error * drawn.scale)


@seeds
def test_float32_decides_the_same_unless_an_effect_is_near_the_threshold(seed):
    drawn = example(seed)
    if drawn.margin > FLOAT32_ERROR:
        assert_same(drawn.search(drawn.engine(torch.float32)), drawn.expected, FLOAT32_ERROR * drawn.scale)


def test_examples_are_of_every_sort():
    """Three quarters of them are no tie for float32; three quarters keep some of the tried edges, but not all."""
    drawn = [example(seed) for seed in SEEDS]
    for name, values in {"kind": KINDS, "ablation": ABLATIONS, "metric": METRICS, "head_order": HEAD_ORDERS}.items():
        counts = Counter(getattr(each, name) for each in drawn)
        assert all(counts[value] >= 3 for value in values), (name, counts)
    assert sum(each.split_embed for each in drawn) >= 5
    assert sum(each.n_kv_heads < each.n_heads for each in drawn) >= 2
    assert {(each.n_layers, each.n_heads) for each in drawn} == {(n, m) for n in (1, 2, 3) for m in (1, 2, 3, 4)}

    kept = [[not row.removed for row in each.expected.trace] for each in drawn]
    assert sum(any(stays) and not all(stays) for stays in kept) >= 0.75 * len(drawn)
    assert sum(each.margin > FLOAT32_ERROR for each in drawn) >= 0.75 * len(drawn)


@pytest.mark.parametrize("seed", SEEDS[::2])
@pytest.mark.parametrize("size", (1, 3, 32))
def test_block_size_changes_nothing(monkeypatch, seed, size):
    drawn = example(seed)
    usual = drawn.found
    monkeypatch.setattr("acdc.methods.speculation.Speculation.size", size)
    assert_same(drawn.search(drawn.engine()), usual, FLOAT64_ERROR * drawn.scale)


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_memory_changes_nothing(seed):
    """With one byte of memory, prompts and candidates are taken one by one."""
    drawn = example(seed)
    little = drawn.engine(memory=1)
    found = drawn.search(little)
    assert [len(part) for part in little.parts] == [1] * len(drawn.dataset)
    assert found.evaluations == len(found.trace)
    assert_same(found, drawn.found, FLOAT64_ERROR * drawn.scale)


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("seed", range(len(KINDS)), ids=KINDS)
def test_number_of_threads_changes_no_decision(seed):
    """There are so many prompts that torch shares the work out."""
    drawn = replace(example(seed), n_prompts=40)
    with threads(2):
        found = drawn.search(drawn.engine(torch.float32))
    assert found.smallest_margin(drawn.threshold) > 2 * FLOAT32_ERROR * drawn.scale, "a tie: take another seed"
    assert_same(found, drawn.search(drawn.engine(torch.float32)), FLOAT32_ERROR * drawn.scale)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, FLOAT32_ERROR), (torch.float64, LLAMA_ERROR)])
def test_decisions_are_right_where_zero_ablation_leaves_nothing(dtype, error):
    """The last tried edges lead to a0.h0.v, the only way from the embedding: without them all activations are 0.

    If rounding left anything of them, one norm after another would make it a thousand times as large.
    """
    drawn = replace(example(92), ablation="zero", metric="kl_divergence", head_order="descending", share=0.08)
    assert drawn.margin > 2 * FLOAT32_ERROR
    assert_same(drawn.search(drawn.engine(dtype)), drawn.expected, error * drawn.scale)
