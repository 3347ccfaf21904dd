"""Test the rows of the tables: circuits on held-out prompts, random circuits, and what the model itself does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from acdc.analysis.evaluation import behaviour_rows, circuit_rows, controls, node_effects
from acdc.data import NO_ANSWER, Dataset
from acdc.graph import Circuit, Graph
from acdc.metrics import KLDivergence
from tests.small_models import OF_TEXT, engine, measure, prompts, random_circuit, reference

GRAPH = Graph(n_layers=3, n_heads=4, n_kv_heads=2)
FRACTIONS = (0.01, 0.1, 0.5, 1.0)


def by_seed(seeds: int) -> dict[int, list[Circuit]]:
    """Return the random circuits of every seed."""
    found: dict[int, list[Circuit]] = {}
    for method, seed, circuit in controls(GRAPH, seeds, FRACTIONS):
        if method == "random" and seed is not None:
            found.setdefault(seed, []).append(circuit)
    return found


def test_controls_have_all_edges_and_none():
    full, empty, *_ = controls(GRAPH, 1, FRACTIONS)
    assert (*full[:2], full[2].n_edges) == ("full", None, GRAPH.n_edges)
    assert (*empty[:2], empty[2].n_edges) == ("empty", None, 0)


def test_every_seed_has_a_circuit_of_every_fraction():
    found, n_edges = by_seed(3), int(GRAPH.exists.sum())
    assert list(found) == [0, 1, 2]
    for circuits in found.values():
        assert [int(c.present.sum()) for c in circuits] == [round(f * n_edges) for f in FRACTIONS]


def test_circuits_of_a_seed_nest_and_those_of_two_seeds_differ():
    found = by_seed(3)
    for circuits in found.values():
        assert all((small.present <= large.present).all() for small, large in pairwise(circuits))
    for first, second in pairwise(found.values()):
        assert all((a.present != b.present).any() for a, b in list(zip(first, second, strict=True))[:-1])


def test_random_circuits_are_the_same_again():
    for first, second in zip(by_seed(2).values(), by_seed(2).values(), strict=True):
        assert all(np.array_equal(a.present, b.present) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("several", (False, True))
def test_circuit_rows_hold_labels_sizes_and_the_oracles_metrics(several):
    setup, oracle, dataset = engine("gpt2", several=several), reference("gpt2", several=several), prompts(several)
    circuits = [random_circuit(setup.graph, seed, 0.6, 0.9) for seed in range(2)]
    rows = list(circuit_rows(setup, OF_TEXT, (({"setting": i}, c) for i, c in enumerate(circuits))))
    assert [row["setting"] for row in rows] == [0, 1]
    model_logits = oracle.logits(Circuit.full(setup.graph))
    for row, circuit in zip(rows, circuits, strict=True):
        counts = circuit.n_edges, circuit.reaching_logits().n_edges, len(circuit.nodes)
        assert (row["n_edges"], row["n_edges_reaching"], row["n_nodes"]) == counts
        for name, kind in OF_TEXT.items():
            expected = measure(kind(dataset, model_logits), dataset, oracle.logits(circuit))
            assert row[name] == pytest.approx(expected, abs=1e-4)


def test_the_effect_of_a_node_is_the_oracles_without_all_it_sends():
    setup, oracle, dataset = engine("gpt2"), reference("gpt2"), prompts(False)
    circuit = random_circuit(setup.graph, 1, 0.6, 0.9)
    model_logits = oracle.logits(Circuit.full(setup.graph))

    def kl(of: Circuit) -> float:
        return measure(KLDivergence(dataset, model_logits), dataset, oracle.logits(of))

    effects = dict(node_effects(setup, KLDivergence, circuit))
    assert set(effects) == {node.name for node in circuit.nodes} - {"logits"}
    for name, effect in effects.items():
        without = Circuit.from_edges(setup.graph, (edge for edge in circuit.edges if edge.sender.name != name))
        assert effect == pytest.approx(kl(without) - kl(circuit), abs=1e-4)


@pytest.mark.parametrize("value", (torch.nan, torch.inf))
def test_metric_that_is_no_finite_number_is_refused_by_name(value):
    class Broken(KLDivergence):
        def __call__(self, logits):
            return torch.full_like(super().__call__(logits), value)

    setup = engine("gpt2")
    with pytest.raises(ArithmeticError, match=rf"broken of circuit .*seed 7.* is {value}"):
        list(circuit_rows(setup, {"broken": Broken}, [({"setting": "seed 7"}, Circuit.empty(setup.graph))]))


def test_behaviour_is_counted_by_hand():
    """Each of four prompts has one position, over four tokens; token 0 is correct and token 1 incorrect."""
    tokens = torch.zeros(4, 1, dtype=torch.long)
    targets = {"correct": torch.zeros(4, dtype=torch.long), "incorrect": torch.ones(4, dtype=torch.long)}
    dataset = Dataset(tokens, tokens, torch.ones(4, 1, dtype=torch.bool), targets)
    likeliest = torch.tensor([[3.0, 1, 0, 0], [2, 1, 5, 0], [0, 4, 0, -1], [1, 0, 0, 0]])
    rows = list(behaviour_rows(dataset, {"clean": likeliest, "corrupted": -likeliest}, OF_TEXT))
    clean, corrupted = rows
    assert (clean["prompts"], corrupted["prompts"]) == ("clean", "corrupted")
    assert clean["n_prompts"] == 4
    assert (clean["accuracy"], clean["prefers_correct"]) == (0.5, 0.75)
    assert (corrupted["accuracy"], corrupted["prefers_correct"]) == (0.0, 0.25)
    assert clean["bos"] is None  # the dataset does not say
    assert clean["logit_difference"] == pytest.approx((-2 - 1 + 4 - 1) / 4)
    assert clean["kl_divergence"] == pytest.approx(0, abs=1e-6) and corrupted["kl_divergence"] > 1


def test_of_several_answers_the_best_ones_are_compared():
    """Tokens 0 and 2 are correct, 1 and 3 incorrect; the second prompt has one answer of each kind."""
    tokens = torch.zeros(3, 1, dtype=torch.long)
    targets = {
        "correct": torch.tensor([[0, 2], [0, NO_ANSWER], [0, 2]]),
        "incorrect": torch.tensor([[1, 3], [1, NO_ANSWER], [1, 3]]),
    }
    dataset = Dataset(tokens, tokens, torch.ones(3, 1, dtype=torch.bool), targets, {"bos": True})
    logits = torch.tensor([[0.0, 1, 4, 3], [2, 1, 5, 6], [2, 0, 1, 3]])
    (row,) = behaviour_rows(dataset, {"clean": logits}, OF_TEXT)
    assert row["accuracy"] == pytest.approx(1 / 3) and row["prefers_correct"] == pytest.approx(2 / 3)
    assert row["logit_difference"] == pytest.approx((0 - 1 + 0) / 3) and row["bos"] is True
