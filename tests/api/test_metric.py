"""Test a metric of one's own, a function: it decides as the catalogue's does, and tables and pages know it."""

from __future__ import annotations

import pytest
import torch

import acdc
from acdc import fingerprint
from acdc.catalogue import METRICS, label
from acdc.errors import InputError

pytestmark = pytest.mark.usefixtures("own_metrics")
HOW = {"threshold": 0.1, "precision": "float64"}


def difference(logits, dataset):
    """Compute the catalogue's logit difference."""
    prompt, _ = dataset.scored_rows
    rows = torch.arange(len(prompt))
    return logits[rows, dataset.targets["incorrect"][prompt]] - logits[rows, dataset.targets["correct"][prompt]]


@pytest.mark.parametrize("memory", (2.0, 1e-5), ids=("one chunk", "a chunk a prompt"))
def test_a_function_decides_as_the_catalogues_metric(memory, model, data):
    own, known = (acdc.find(model, data, metric=m, memory_gib=memory, **HOW) for m in (difference, "logit_difference"))
    assert own.circuit == known.circuit
    torch.testing.assert_close(torch.tensor(own.trace["effect"]), torch.tensor(known.trace["effect"]))
    assert own.settings["metric"] == "difference" and METRICS["difference"].function is difference


@pytest.mark.parametrize("how", ({"method": "eap", "n_edges": 9}, {"method": "sp", "regularisation": 1, "steps": 9}))
def test_methods_that_take_gradients_take_functions_too(how, model, data):
    own, known = (acdc.find(model, data, metric=metric, **how) for metric in (difference, "logit_difference"))
    assert own.circuit == known.circuit


def test_the_plain_search_takes_it_too(model, data):
    fast, plain = (acdc.find(model, data, metric=difference, engine=engine, **HOW) for engine in ("fast", "plain"))
    assert fast.circuit == plain.circuit


def test_its_label_and_unit_are_in_figures_and_its_name_in_tables(model, data, held_out):
    @acdc.metric(label="how wrong it is", unit="bananas")
    def wrongness(logits, dataset):
        return difference(logits, dataset)

    found = acdc.find(model, data, metric="wrongness", threshold=0.1)
    assert found.settings == acdc.find(model, data, metric=wrongness, threshold=0.1).settings
    assert label("wrongness") == "how wrong it is"
    assert "ACDC by how wrong it is" in found.page() and " bananas where it was found" in found.page()
    assert "wrongness" in found.evaluate(held_out) and "how wrong it is" in repr(found)


def test_a_lambda_has_a_name_too(model, data):
    found = acdc.find(model, data, metric=lambda logits, dataset: difference(logits, dataset), threshold=0.1)
    assert found.settings["metric"] == "own_metric"


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(InputError, match="there is a metric kl_divergence already: give yours another name"):
        acdc.metric(difference, name="kl_divergence")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda logits, dataset: difference(logits, dataset).mean(),
            r"shape \(3,\), and returned a tensor of shape \(\)",
        ),
        (lambda logits, dataset: logits, r"returned a tensor of shape \(3, 50\)"),
        (lambda logits, dataset: 3.0, "returned float"),
        (lambda logits, dataset: difference(logits, dataset) / 0, "not finite on the whole model's logits"),
    ],
    ids=("mean", "logits", "number", "infinite"),
)
def test_what_is_no_number_per_position_is_refused_before_the_search(function, message, model, data):
    with pytest.raises(InputError, match=message):
        acdc.find(model, data, metric=function, threshold=0.1)


def test_a_distance_is_noticed_where_a_slope_is_needed(model, data):
    """Nothing declares that it is a distance. EAP would rank rounding errors, for its slope at the whole model is 0."""

    def far(logits, dataset):
        whole = model.bridge(dataset.clean)[dataset.scored]
        return (logits - whole).square().mean(-1)

    with pytest.raises(InputError, match="eap by far scores everything 0"):
        acdc.find(model, data, metric=far, method="eap", n_edges=5)
    assert acdc.find(model, data, metric=far, method="eap_ig", n_edges=40).circuit.n_edges


# Nothing is reused of another function.

FACTOR = 2.0


def scaled(logits, dataset):
    return FACTOR * difference(logits, dataset)


def made(factor):
    return lambda logits, dataset: factor * difference(logits, dataset)


def test_a_function_is_told_by_its_code_and_by_what_it_reads(monkeypatch):
    plain, first, second = (fingerprint.of_function(f) for f in (difference, made(2.0), made(3.0)))
    assert len({plain, first, second}) == 3 and first == fingerprint.of_function(made(2.0))
    tensors = [fingerprint.of_function(made(torch.tensor(value))) for value in (2.0, 2.0, 3.0)]
    assert tensors[0] == tensors[1] != tensors[2]
    before = fingerprint.of_function(scaled)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert fingerprint.of_function(scaled) != before
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert fingerprint.of_function(scaled) == before
    monkeypatch.setitem(globals(), "difference", lambda logits, dataset: logits[:, 0])
    assert fingerprint.of_function(scaled) != before
    open_file = made(open)
    assert fingerprint.of_function(made(x for x in "ab")) != fingerprint.of_function(made(x for x in "ab"))
    assert fingerprint.of_function(open_file) == fingerprint.of_function(made(open))


def test_a_circuit_of_another_function_of_the_same_name_is_found_anew(model, data, tmp_path):
    def of(sign):
        def own(logits, dataset):
            return sign * difference(logits, dataset)

        return acdc.find(model, data, metric=own, threshold=0.1, folder=tmp_path)

    assert of(1).settings["code_sha256"] != of(-1).settings["code_sha256"]
    assert of(1).result["final_metric"] < 0 < of(-1).result["final_metric"] or of(1).circuit != of(-1).circuit
