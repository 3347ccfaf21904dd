"""Test the tracr tasks: their prompts, and ACDC on our compiled models beside the original on the real ones."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

from acdc import tasks
from acdc.analysis.head_table import head_table
from acdc.analysis.recovery import edge_confusion, original_node_confusion, original_nodes, pessimistic_auc
from acdc.assets import asset
from acdc.catalogue import ABLATIONS
from acdc.engine.model import Engine
from acdc.errors import InputError
from acdc.found import Found
from acdc.graph import Circuit
from acdc.methods.acdc_fast import acdc_fast
from acdc.methods.eap import eap
from acdc.methods.hisp import hisp
from acdc.metrics import L2, OutputDifference
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.toy import tracr_proportion, tracr_reverse, tracr_sort
from acdc.tables import read_table
from tests.originals import COUNTED, FILES, key, load, original_key, vector_dataset
from tests.vector_files import VECTORS

PROGRAMS = {
    "tracr_reverse": tracr_reverse.PROGRAM,
    "tracr_proportion": tracr_proportion.PROGRAM,
    "tracr_proportion_paper": tracr_proportion.PROGRAM,
    "tracr_sort": tracr_sort.PROGRAM,
}
ALL_PROMPTS = {"tracr_reverse": 6, "tracr_proportion": 256, "tracr_proportion_paper": 256, "tracr_sort": 120}
PAPER = ("tracr_reverse", "tracr_proportion")
all_tasks = pytest.mark.parametrize("name", ALL_PROMPTS)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    @cache
    def of(name: str, ablation: str) -> Engine:
        """Make an engine of our compiled model on the original's prompts."""
        folder = tmp_path_factory.mktemp(name)
        PROGRAMS[name].build(folder)
        return Engine(weights_of(load_bridge(folder)), vector_dataset(name), ablation=ablation, split_embed=True)

    return of


@pytest.mark.parametrize("name", PAPER)
def test_heads_of_a_program_are_described_though_it_has_no_answers(name, engine):
    of = engine(name, "zero")
    settings = {"task": name, "model": "m", "metric": "l2", "ablation": "zero"}
    found = Found(settings, Circuit.full(of.graph), {})
    table = head_table(of, {"l2": L2}, [found])
    assert set(table["head"]) == {node.name for node in of.graph.senders if node.component == "head"}
    assert "direct_effect" not in table and not set(table["name"]) & {"name mover", "S-inhibition"}


@pytest.fixture(scope="module")
def find(engine):
    @cache
    def of(name: str, ablation: str, threshold: float) -> Circuit:
        setup = engine(name, ablation)
        return acdc_fast(setup, L2, threshold).circuit

    return of


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("tracr")])
def test_acdc_finds_the_originals_edges_in_our_models(file, find):
    original = load(file)
    found = find(original.case, original.arguments["ablation"], original.threshold)
    rows = [row for row in original.data["edges"] if row[5] in COUNTED and row[4]]
    assert {key(edge) for edge in found.edges} == {original_key(row) for row in rows}


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize(("theirs", "ours"), [("random_ablation", "corrupted_permuted"), ("zero_ablation", "zero")])
def test_roc_points_are_the_originals_at_all_thresholds(name, theirs, ours, find):
    points = json.loads((VECTORS / name / "own_roc_points.json").read_text())[theirs]
    assert len(points) == 21
    for point in points:
        found = find(name, ours, point["score"])
        known = tasks.known_circuits(name, name)["published"](found.graph)
        edges, nodes = edge_confusion(found, known), original_node_confusion(found, known)
        assert (found.n_edges, len(original_nodes(found))) == (point["n_edges"], point["n_nodes"])
        assert (edges.tpr, edges.fpr, edges.precision) == (
            point["edge_tpr"],
            point["edge_fpr"],
            point["edge_precision"],
        )
        assert (nodes.tpr, nodes.fpr, nodes.precision) == (
            point["node_tpr"],
            point["node_fpr"],
            point["node_precision"],
        )
        assert (edges.tp + edges.fn, found.graph.n_edges) == (point["edge_gt"], point["edge_all"])
        assert (nodes.tp + nodes.fn, nodes.fp + nodes.tn) == (point["node_gt"], point["node_all"] - point["node_gt"])


@pytest.mark.parametrize("name", PAPER)
def test_published_points_come_back_without_the_permutation(name, find):
    """They do at every threshold from 1e-5 on; at 4e-6 one run of the paper's has an edge less."""
    published = read_table(asset("published", "roc_points.csv")).query("task == @name and score >= 1e-5")
    for row in published.itertuples():
        found = find(name, "corrupted", row.score)
        known = tasks.known_circuits(name, name)["published"](found.graph)
        edges, nodes = edge_confusion(found, known), original_node_confusion(found, known)
        assert (found.n_edges, edges.fpr, nodes.fpr) == (row.n_edges, row.edge_fpr, row.node_fpr)
        assert (edges.tpr, nodes.tpr) == pytest.approx((row.edge_tpr, row.node_tpr), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "from_points", "printed"),
    [("tracr_reverse", (0.2, 0.3125), (0.2, 0.312)), ("tracr_proportion", (0.6, 8 / 11), (0.679, 0.75))],
)
def test_areas_of_the_published_points_are_the_printed_ones_only_for_reverse(name, from_points, printed):
    points = read_table(asset("published", "roc_points.csv")).query("task == @name and score >= 1e-6")
    areas = read_table(asset("published", "auc.csv"))
    areas = areas.query("task == @name and ablation == 'corrupted' and method == 'acdc'")
    for level, area, says in zip(("edge", "node"), from_points, printed, strict=True):
        pairs = zip(points[f"{level}_fpr"], points[f"{level}_tpr"], strict=True)
        assert pessimistic_auc(pairs) == pytest.approx(area, abs=1e-5)
        assert areas[level].item() == says


# Prompts


def prompts_of(tokens: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in tokens.tolist()}


@all_tasks
def test_all_prompts_are_distinct_and_every_corrupted_one_is_another_clean_one(name):
    data = tasks.load(name).make_dataset(None, ALL_PROMPTS[name], 0)
    assert prompts_of(data.clean) == prompts_of(data.corrupted)
    assert len(prompts_of(data.clean)) == ALL_PROMPTS[name]
    assert (data.clean != data.corrupted).any(1).all()
    assert not data.scored[:, 0].any() and data.scored[:, 1:].all()


@all_tasks
def test_seeds_are_reproducible_and_differ(name):
    first, again, other = (tasks.load(name).make_dataset(None, 6, seed) for seed in (0, 0, 1))
    assert torch.equal(first.clean, again.clean) and torch.equal(first.corrupted, again.corrupted)
    assert not (torch.equal(first.clean, other.clean) and torch.equal(first.corrupted, other.corrupted))


@all_tasks
@pytest.mark.parametrize("beyond", (0, 1))
def test_no_more_prompts_than_there_are(name, beyond):
    with pytest.raises(InputError, match=f"{name} has {ALL_PROMPTS[name]} distinct prompts"):
        tasks.load(name).make_dataset(None, beyond * (ALL_PROMPTS[name] + 1), 0)


def test_prompts_of_reverse_are_the_originals():
    data = tasks.load("tracr_reverse").make_dataset(None, 6, 0)
    assert {tuple(row) for row in data.clean.tolist()} == {
        tuple(row) for row in vector_dataset("tracr_reverse").clean.tolist()
    }


def test_prompts_of_proportion_begin_with_bos_and_those_as_run_are_the_originals_kind():
    bos = tracr_proportion.PROGRAM.tokens.index("BOS")
    data, as_run = (
        tasks.load(name).make_dataset(None, 256, 0) for name in ("tracr_proportion", "tracr_proportion_paper")
    )
    assert (data.clean[:, 0] == bos).all() and set(data.clean[:, 1:].flatten().tolist()) == {2, 3, 4, 5}
    assert prompts_of(vector_dataset("tracr_proportion").clean) < prompts_of(as_run.clean)
    assert not as_run.targets


@pytest.mark.parametrize("name", ("tracr_reverse", "tracr_proportion", "tracr_sort"))
def test_models_say_the_targets(name, tmp_path):
    data = tasks.load(name).make_dataset(None, 6, 0)
    PROGRAMS[name].build(tmp_path)
    model = load_bridge(tmp_path)
    for prompts, outputs in (("clean", "outputs"), ("corrupted", "corrupted_outputs")):
        with torch.no_grad():
            said = model(getattr(data, prompts))
        torch.testing.assert_close(said[data.scored], data.targets[outputs][data.scored], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ("tracr_reverse", "tracr_proportion", "tracr_sort"))
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_eap_and_hisp_by_the_outputs_score_what_the_model_computes_with(name, ablation, tmp_path):
    """They do not score all of it: attention that is all on one position has no slope in queries and keys."""
    PROGRAMS[name].build(tmp_path)
    data = tasks.load(name).make_dataset(None, 6, 0)
    engine = Engine(weights_of(load_bridge(tmp_path)), data, ablation=ablation, split_embed=True)
    scored = eap(engine, OutputDifference).scores.score
    scored = engine.graph.exists & (scored != 0)
    assert scored.any() and not (scored & ~PROGRAMS[name].circuit(engine.graph).present).any()
    assert hisp(engine, OutputDifference).scores.values.max() > 0
