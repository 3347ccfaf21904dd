"""Test the hypothesis tests of Shi et al. 2024: their values by hand, and on models whose circuit is known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from acdc import tasks
from acdc.analysis.significance import (
    N_PERMUTATIONS,
    Outcome,
    Scorer,
    add_path,
    binomial,
    equivalence,
    independence,
    judged_by,
    kernel,
    minimality,
    more_than_quantile,
    of_edges,
    of_paths,
    on_paths,
    significance_rows,
    sufficiency,
)
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.graph import Circuit, Edge, Graph, Node
from acdc.metrics import L2, KLDivergence, LogitDifference, OutputDifference
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.toy import planted, tracr_reverse
from tests.small_models import OF_TEXT, bridge, engine, prompts, random_circuit

GRAPH = Graph(n_layers=2, n_heads=4, n_kv_heads=2)
N = 30


def planted_engine(folder: Path) -> Engine:
    planted.build(folder)
    return Engine(
        weights_of(load_bridge(folder)), tasks.load("planted").make_dataset(None, 40, 0), ablation="corrupted"
    )


@pytest.fixture(scope="module")
def scorer(tmp_path_factory) -> Scorer:
    return Scorer(planted_engine(tmp_path_factory.mktemp("planted")), LogitDifference)


@pytest.fixture(scope="module")
def known(scorer) -> Circuit:
    return tasks.known_circuits("planted", "planted")["planted"](scorer.engine.graph)


def rows_of(scorer: Scorer, circuit: Circuit, seed: int = 0) -> dict[str, dict]:
    return {row["test"]: row for row in significance_rows(scorer, circuit, n_random=N, seed=seed)}


@pytest.fixture(scope="module")
def rows(scorer, known) -> dict[str, dict]:
    return rows_of(scorer, known)


class TestByHand:
    def test_the_binomial_distribution(self):
        assert binomial(2, 0.9) == pytest.approx([0.01, 0.18, 0.81])
        assert binomial(10**4, 0.6).sum() == pytest.approx(1)

    @pytest.mark.parametrize(
        ("circuit", "share", "p_value"),
        [
            ([1, 1, 1, 1], 1.0, 0.6**4 + 0.4**4),
            ([-1, -1, -1, -1], 0.0, 0.6**4 + 0.4**4),
            ([1, 1, 1, -1], 0.75, 1 - 6 * 0.6**2 * 0.4**2),
            ([1, -1, 1, -1], 0.5, 1.0),
            ([0, 0, 0, 0], 0.5, 1.0),
            ([1, 1e-6, 1, -1e-6], 0.75, 1 - 6 * 0.6**2 * 0.4**2),  # two ties
            ([1] * 14 + [-1] * 6, 0.7, 0.2564765472898573),  # blei-lab/circuitry's own
            ([-1] * 17 + [1] * 3, 0.15, 0.016008507760700286),
            ([-1] + [1] * 31, 31 / 32, 1.7774433534592906e-06),
        ],
    )
    def test_equivalence(self, circuit, share, p_value):
        outcome = equivalence(np.array(circuit, dtype=float), np.zeros(len(circuit)), 1e-5)
        assert outcome == (pytest.approx(share), pytest.approx(p_value))

    def test_a_kernels_width_is_the_median_distance_of_values_that_differ(self):
        x = kernel(np.array([0.0, 0.0, 1.0, 3.0]), 1e-3)  # distances 1, 1, 2, 3, 3
        assert x[0, 1] == 1
        assert x[0, 2] == pytest.approx(np.exp(-1 / 8)) and x[0, 3] == pytest.approx(np.exp(-9 / 8))

    def test_the_criterion_is_the_trace_of_the_centred_kernels(self):
        rng = default_rng(0)
        x, y = rng.normal(size=(2, 9))
        h = np.eye(9) - 1 / 9
        expected = np.trace(kernel(x, 0.0) @ h @ kernel(y, 0.0) @ h) / 8**2
        assert independence(x, y, 0.0, rng).statistic == pytest.approx(expected)

    def test_of_three_prompts_the_p_value_is_the_share_of_six_orders(self):
        """The observed order reaches the observed value, and the five other orders of 0, 1 and 5 do not."""
        x = np.array([0.0, 1.0, 5.0])
        p_value = independence(x, x, 0.0, default_rng(0)).p_value
        assert p_value == pytest.approx(1 / 6, abs=0.04)

    def test_what_depends_is_told_from_what_does_not(self):
        rng = default_rng(0)
        x, noise = rng.normal(size=(2, 60))
        assert independence(x**2 + 0.1 * noise, x, 0.0, rng).p_value == pytest.approx(1 / (1 + N_PERMUTATIONS))
        p_values = [independence(*rng.normal(size=(2, 20)), 0.0, rng).p_value for _ in range(20)]
        assert np.mean(np.array(p_values) < 0.2) == pytest.approx(0.2, abs=0.15)

    def test_a_constant_is_independent_of_everything_and_nothing_can_be_independent_of_a_constant_model(self):
        x, constant = np.arange(5.0), 1 + 1e-7 * np.arange(5.0)
        assert independence(constant, x, 1e-5, default_rng(0)) == Outcome(0.0, 1.0)
        assert independence(x, constant, 1e-5, default_rng(0)) == Outcome(None, None)

    def test_twenty_nine_of_twenty_nine_are_enough(self):
        assert more_than_quantile(29, 29) == (1.0, pytest.approx(0.9**29))
        assert more_than_quantile(29, 29).p_value < 0.05 < more_than_quantile(28, 28).p_value
        assert more_than_quantile(1, 2) == (0.5, pytest.approx(1 - 0.01))


class TestScores:
    @pytest.mark.parametrize("several", (False, True))
    def test_the_mean_of_a_circuits_scores_is_minus_its_metric(self, several):
        setup = engine("gpt2", several=several)
        circuit = random_circuit(setup.graph, 0, 0.5, 0.9)
        scores = Scorer(setup, KLDivergence).of(circuit)
        assert len(scores) == len(prompts(several)) and np.ptp(scores) > 0.01
        assert -scores.mean() == pytest.approx(setup.value(circuit, KLDivergence))

    def test_a_prompts_score_is_the_mean_over_its_own_scored_positions_also_in_chunks(self):
        setup = Engine(weights_of(bridge("gpt2")), prompts(True), ablation="corrupted", memory=1)
        circuit = random_circuit(setup.graph, 0, 0.5, 0.9)
        alone = [
            Engine(weights_of(bridge("gpt2")), prompts(True)[i], ablation="corrupted").value(circuit, LogitDifference)
            for i in range(len(prompts(True)))
        ]
        assert -Scorer(setup, LogitDifference).of(circuit) == pytest.approx(alone, abs=1e-4)

    def test_rounding_moves_nothing(self):
        one = Scorer(engine("gpt2"), LogitDifference)
        assert one.distance(one.model, one.model + one.noise / 2) == 0
        assert one.distance(one.model, one.model + [0, 0, 0, 2]) == pytest.approx(1)
        assert one.count_above(1.0, [1.0, 1 - one.noise / 2, 0.5]) == 1
        assert one.count_below(1.0, [1.0, 1 + one.noise / 2, 2.0]) == 1

    def test_prompts_are_scored_by_a_metric_that_is_no_distance(self):
        setup = engine("gpt2")
        assert judged_by(setup, OF_TEXT, "kl_divergence") == judged_by(setup, OF_TEXT, "logit_difference")
        assert judged_by(setup, {"kl_divergence": KLDivergence}, "kl_divergence") == "kl_divergence"
        assert judged_by(setup, OF_TEXT, "of another task") == "logit_difference"

    def test_by_a_distance_nothing_is_said_of_who_does_better(self):
        setup = engine("gpt2")
        rows = rows_of(Scorer(setup, KLDivergence), random_circuit(setup.graph, 0, 0.5, 0.9))
        untested = {"statistic": None, "p_value": None, "rejected": None, "passes": None}
        for test in ("equivalence", "independence"):
            assert rows[test] == {"test": test, **untested}
        assert rows["minimality"]["p_value"] is not None and rows["sufficiency_edges"]["p_value"] is not None

    def test_a_circuit_of_another_model_is_refused(self):
        other = Circuit.empty(Graph(n_layers=1, n_heads=1, n_kv_heads=1))
        with pytest.raises(InputError, match="another model|two models"):
            rows_of(Scorer(engine("gpt2"), LogitDifference), other)


class TestRandomCircuits:
    def test_a_path_goes_on_to_any_receiver_as_likely(self):
        """In one head without an MLP, the embedding feeds q, k, v and the logits, and the head feeds the logits."""
        graph = Graph(n_layers=1, n_heads=1, n_kv_heads=1, has_mlp=False)
        rng, counts = default_rng(0), Counter[frozenset[str]]()
        for _ in range(2000):
            path = Circuit.empty(graph)
            add_path(path, Circuit.full(graph), rng)
            counts[frozenset(edge.name for edge in path)] += 1
        ports = (f"a0.h0.{port}" for port in "qkv")
        through = (frozenset({f"embed -> {p}", f"{p} (direct)", "a0.h0 -> logits"}) for p in ports)
        expected = {frozenset({"embed -> logits"}), *through}
        assert counts.keys() == expected and min(counts.values()) > 430

    def test_edges_off_the_paths_are_dropped(self):
        head, port, mlp = Node(0, "head", 1), Node(0, "head", 1, "q"), Node(1, "mlp")
        ways = [
            Edge(Node(-1, "embed"), port),
            Edge(port, port, "direct"),
            Edge(head, mlp),
            Edge(mlp, GRAPH.receivers[-1]),
        ]
        fed_by_none = Edge(Node(0, "head", 2), Node(1, "mlp"))
        unread = Edge(Node(-1, "embed"), Node(0, "mlp"))
        found = on_paths(Circuit.from_edges(GRAPH, [*ways, fed_by_none, unread]))
        assert found == Circuit.from_edges(GRAPH, ways)
        assert on_paths(Circuit.from_edges(GRAPH, ways[1:])) == Circuit.empty(GRAPH)
        assert on_paths(Circuit.full(GRAPH)) == Circuit.full(GRAPH)

    @pytest.mark.parametrize("n_edges", (0, 1, 20, 80, GRAPH.n_edges - 1, GRAPH.n_edges))
    def test_circuits_along_paths_have_as_many_edges_or_one_path_more(self, n_edges):
        drawn = of_paths(n_edges, Circuit.full(GRAPH), default_rng(n_edges))
        longest = 3 * 2 + 1  # a port, its direct edge and an MLP in every layer, and the logits
        assert n_edges <= drawn.n_edges < n_edges + longest
        assert on_paths(drawn) == drawn

    def test_circuits_outside_share_no_edge(self):
        circuit = random_circuit(GRAPH, 0, 0.2, 0.3)
        rest = on_paths(Circuit.full(GRAPH) - circuit)
        drawn = of_paths(10, rest, default_rng(0))
        assert drawn.n_edges >= 10 and not (drawn & circuit).n_edges and on_paths(drawn) == drawn

    def test_random_edges_are_as_many(self):
        circuit, rng = random_circuit(GRAPH, 0, 0.2, 0.3), default_rng(0)
        drawn = [of_edges(circuit, rng) for _ in range(3)]
        assert {int(one.present.sum()) for one in drawn} == {int(circuit.present.sum())}
        assert drawn[0] != drawn[1] != drawn[2]


class TestOnThePlantedModel:
    def test_the_true_circuit_passes_all_but_what_is_not_true_of_it(self, rows):
        """The rest depends on the model, because distractors leak into both. Random paths often take some of the few
        edges, so that removing the circuit does not do more damage than most of them.
        """
        passes = {test: row["passes"] for test, row in rows.items()}
        assert passes == {
            **dict.fromkeys(("equivalence", "minimality", "sufficiency_edges", "sufficiency_paths"), True),
            **{"independence": False, "necessity_paths": False, "necessity_outside": True},
        }

    def test_without_the_leak_the_rest_of_the_model_knows_nothing(self, monkeypatch, tmp_path, scorer, known):
        monkeypatch.setattr(planted, "NOISE", 0.0)
        one = Scorer(planted_engine(tmp_path), LogitDifference)
        rest = one.of(Circuit.full(known.graph) - known)
        assert independence(rest, scorer.model, one.noise, default_rng(0)) == Outcome(0.0, 1.0)
        assert independence(rest, one.model, one.noise, default_rng(0)) == Outcome(None, None)  # always right

    def test_a_circuit_that_lacks_an_edge_is_neither_equivalent_nor_sufficient(self, scorer, known):
        rng = default_rng(0)
        reference = [of_edges(known, rng) for _ in range(N)] + [Circuit.full(known.graph)]
        for edge in known:
            less = known.without(edge)
            assert equivalence(scorer.of(less), scorer.model, scorer.noise).p_value < 0.05, edge.name
            assert sufficiency(scorer, less, reference).p_value > 0.05, edge.name
        assert sufficiency(scorer, known, reference[:-1]).statistic == 1

    def test_exactly_the_wrong_edges_are_superfluous(self, scorer, known):
        others = list(Circuit.full(known.graph) - known)
        for n in (1, 3):
            more = known.copy()
            for i in default_rng(n).permutation(len(others))[:n]:
                more.set(others[i], True)
            outcome = minimality(scorer, more, N, default_rng(0))
            assert outcome.statistic == n / more.n_edges and outcome.p_value < 1e-10
        assert minimality(scorer, known, N, default_rng(0)) == (0.0, 1.0)

    def test_all_edges_and_none_do_not_pass_as_better_than_random_ones(self, scorer, known):
        for circuit in (Circuit.full(known.graph), Circuit.empty(known.graph)):
            rows = rows_of(scorer, circuit)
            assert rows["minimality"]["passes"] is None
            for test in ("sufficiency_edges", "sufficiency_paths", "necessity_paths"):
                assert rows[test]["statistic"] == 0 and rows[test]["passes"] is False
        assert rows_of(scorer, Circuit.full(known.graph))["necessity_outside"]["passes"] is None

    def test_the_same_seed_is_the_same_outcome_and_another_one_draws_others(self, scorer, known, rows):
        assert rows_of(scorer, known) == rows
        assert rows_of(scorer, known, seed=5)["independence"]["p_value"] != rows["independence"]["p_value"]


def test_of_a_compiled_program_the_edges_that_do_nothing_are_superfluous(tmp_path):
    """Under zero ablation, 15 of the compiled 21 edges do all that the model does, and they are the published ones."""
    tracr_reverse.PROGRAM.build(tmp_path)
    dataset = tasks.load("tracr_reverse").make_dataset(None, 6, 0)
    setup = Engine(weights_of(load_bridge(tmp_path)), dataset, ablation="zero", split_embed=True)
    circuits = {k: of(setup.graph) for k, of in tasks.known_circuits("tracr_reverse", "tracr_reverse").items()}
    published, compiled = circuits["published"], circuits["compiled"]
    for kind in (OutputDifference, L2):
        one = Scorer(setup, kind)
        assert minimality(one, published, N, default_rng(0)).statistic == 0
        n_idle = (compiled - published).n_edges
        assert minimality(one, compiled, N, default_rng(0)).statistic == n_idle / compiled.n_edges > 0
        rng = default_rng(1)
        assert sufficiency(one, published, [of_edges(published, rng) for _ in range(N)]).p_value < 0.05
    assert equivalence(one.of(published), one.model, one.noise) == (0.5, 1.0)
    assert torch.allclose(setup.circuit_logits(published), setup.model_logits, atol=1e-5)
