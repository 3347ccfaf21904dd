"""Test what heads do: attention is TransformerLens's, and planted heads get the names that they were built for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from acdc.analysis import attention
from acdc.analysis.head_table import agreement, head_table
from acdc.analysis.heads import (
    answer_direction,
    copied_tokens,
    copying,
    direct_effects,
    head_frame,
    measured,
    through_final_norm,
)
from acdc.catalogue import METRICS
from acdc.engine.model import Engine
from acdc.found import Found
from acdc.graph import Circuit
from acdc.heads import NONE
from acdc.models.convert import weights_of
from tests.planted_heads import NAMES, planted_engine
from tests.small_models import KINDS, bridge, engine, prompts

METRIC = {"logit_difference": METRICS["logit_difference"].load()}
LABELS = {"task": "t", "model": "m", "metric": "logit_difference", "ablation": "corrupted"}


def whole(of: Engine) -> Found:
    settings = {**LABELS, "method": "acdc", "size_by": "threshold", "value": "0"}
    return Found(settings, Circuit.full(of.graph), {"converged": None, "origin": "found"})


@pytest.fixture(scope="module")
def planted():
    return planted_engine()


@pytest.fixture(scope="module")
def table(planted):
    return head_table(planted, METRIC, [whole(planted)]).set_index("head")


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_that_of_transformer_lens(kind):
    weights, data = weights_of(bridge(kind)), prompts(False)
    of, rows = attention.runs_of(weights, data, data.clean)
    _, cache = bridge(kind).run_with_cache(data.clean)
    for layer, pattern in enumerate(attention.patterns(weights, of, rows)):
        theirs = cache[f"blocks.{layer}.attn.hook_pattern"].transpose(0, 1)
        assert torch.allclose(pattern, theirs, atol=1e-5)


def test_planted_heads_get_the_names_that_they_were_built_for(table):
    assert dict(table["name"]) == {head: NAMES.get(head, NONE) for head in table.index}
    assert (table.loc[list(NAMES), "rank"] == 1).all()
    assert table.loc[list(NAMES), "passed"].all()
    assert table.loc[table["name"] == NONE, "passed"].isna().all()


def test_planted_heads_attend_as_planted_on_clean_and_on_corrupted_prompts(table):
    mover = table.loc["a2.h0"]
    assert mover["END->IO"] == pytest.approx(1, abs=1e-3) and mover["END->S1"] == pytest.approx(0, abs=1e-3)
    # Nobody is repeated there: both names are attended to alike.
    assert mover["END->IO_corrupted"] == pytest.approx(0.5, abs=1e-3)
    assert mover["direct_effect"] == pytest.approx(1, abs=1e-3)
    assert mover["direct_effect_corrupted"] == pytest.approx(0, abs=1e-3)
    assert table.loc["a0.h0", "previous_token"] == pytest.approx(1, abs=1e-3)
    assert table.loc["a1.h1", "to_repeat"] == pytest.approx(1, abs=1e-3)


def test_a_mover_that_heeds_no_inhibition_fails_its_test():
    # On these prompts the answer always stands first, where such a head always looks: the rule holds.
    engine = planted_engine(inhibited=False, first_is_answer=True)
    mover = head_table(engine, METRIC, [whole(engine)]).set_index("head").loc["a2.h0"]
    assert mover["name"] == "name mover" and mover["swap_passed"]
    assert mover["cut_effect"] == pytest.approx(0, abs=1e-5)
    assert not mover["cut_passed"] and not mover["passed"]


def test_only_heads_of_circuits_are_tested(planted):
    found = whole(planted)
    found.circuit.present[planted.graph.sender_index[planted.graph.node("a1.h0")]] = False
    rows = head_table(planted, METRIC, [found]).set_index("head")
    assert rows.loc["a1.h0", "circuits"] == 0 and rows.loc["a1.h0", "name"] == "induction"
    assert rows["passed"].isna()["a1.h0"] and rows.loc["a0.h0", "passed"]


def test_direct_effects_add_up_to_the_logit_difference(planted):
    total = measured(planted, 0)["direct_effect"].sum(0).mean()
    assert total == pytest.approx(-planted.value(Circuit.full(planted.graph), "logit_difference"), abs=1e-4)


@pytest.mark.parametrize("kind", ["layer_norm", "llama", "gemma2"])
def test_direct_effect_is_what_a_cut_edge_to_the_logits_takes_if_the_norm_stays(kind):
    of = engine(kind)
    weights = replace(of.weights, architecture=replace(of.weights.architecture, logit_cap=None))
    data = prompts(False)
    made = Engine(weights, data, ablation="zero")
    run, rows = attention.runs_of(weights, data, data.clean)
    direction = answer_direction(weights, data)
    final = run.state["final", 0, 0][rows.scored]
    senders = through_final_norm(weights, run.sender[:, rows.scored], final)
    heads = direct_effects(weights, run, rows, direction)
    every = (senders * direction).sum(-1)
    assert torch.allclose(every[[made.graph.sender_index[n] for n in made.graph.senders if n.head is not None]], heads)


def test_chunks_change_nothing(planted):
    small = Engine(planted.weights, planted.dataset, ablation="corrupted", memory=2**17)
    assert len(small.parts) > 1
    for name, whole_one in measured(planted, 1).items():
        assert torch.allclose(measured(small, 1)[name], whole_one, equal_nan=True, atol=1e-5), name


def test_copying_is_of_the_answers(planted):
    shares = copying(planted.weights, copied_tokens(planted.dataset))
    # Heads in topological order, three a layer: only movers and the induction head write what is read.
    assert shares["copying"].tolist() == [0, 0, 0, 1, 0, 0, 1, 0, 0]
    assert shares["anti_copying"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_padding_is_not_looked_at():
    of = engine("gpt2")
    scored = torch.zeros_like(of.dataset.scored)
    scored[:, 3] = True
    of_short = replace(of.dataset, scored=scored)
    other = of_short.clean.clone()
    other[:, 4:] = 0
    first, second = (
        head_frame(Engine(of.weights, replace(of_short, clean=clean), ablation="corrupted"))
        for clean in (of_short.clean, other)
    )
    names = ["previous_token", "first_token", "direct_effect"]
    assert torch.allclose(torch.tensor(first[names].values), torch.tensor(second[names].values), atol=1e-6)


def test_agreement_counts_heads_that_only_one_side_knows(table):
    published = {"a0.h0": "previous token", "a0.h2": "induction", "a2.h0": "backup name mover"}
    both = table.reset_index().assign(prompts="test")
    compared = agreement(both, published).set_index("head")
    assert set(compared.index) == {*NAMES, "a0.h2"}
    agrees = {head for head, agrees in compared["agrees"].items() if agrees}
    assert agrees == {"a0.h0", "a2.h0"}
    assert len(agreement(both, {})) == 0
    assert compared.loc["a0.h2", "name"] == NONE and compared.loc["a1.h0", "published"] == NONE
