"""Test both ways to multiply: each computes the product, and the processor alone chooses between them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from acdc.engine import linear
from acdc.engine.linear import WIDE, Linear, products, sums
from acdc.engine.model import Engine
from acdc.methods.acdc import Progress
from acdc.methods.acdc_fast import acdc_fast
from acdc.metrics import KLDivergence
from acdc.models.convert import weights_of
from tests.search import assert_same
from tests.small_models import bridge, prompts

ROUNDING = 1e-5
WAYS = ("onednn", "matmul")
has_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch) -> str:
    """Make the engine multiply in this way."""
    monkeypatch.setattr(linear, "products", lambda: request.param)
    return request.param


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("capability", "expected"), [("AVX512", "onednn"), ("AVX2", "matmul"), ("DEFAULT", "matmul")])
@has_onednn
def test_the_processor_says_which_products(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products() == expected


def test_products_are_always_the_same_on_one_machine():
    assert {products() for _ in range(3)} in ({"onednn"}, {"matmul"})


@has_onednn
def test_narrow_weights_are_packed_for_onednn_alone_and_wide_ones_always(way):
    assert (Linear(random(4, 8)).packed is not None) == (way == "onednn")
    assert Linear(random(2, WIDE)).packed is not None
    assert Linear(random(2, WIDE).double()).packed is None


@pytest.mark.parametrize("n_rows", (1, 3, 70))
@pytest.mark.parametrize("d_out", (8, WIDE))
@pytest.mark.parametrize("biased", (False, True))
def test_a_product_is_that_of_float64_to_rounding_and_so_is_its_gradient(way, n_rows, d_out, biased):
    x, w, b = random(2, n_rows, 16).requires_grad_(), random(16, d_out), random(d_out) if biased else None
    found = Linear(w, b)(x)
    expected = x.double() @ w.double() + (0 if b is None else b.double())
    torch.testing.assert_close(found.double(), expected, atol=ROUNDING, rtol=ROUNDING)
    torch.testing.assert_close(Linear(w, b)(x.detach()), found.detach(), atol=ROUNDING, rtol=ROUNDING)
    direction = random(*found.shape)
    (gradient,) = torch.autograd.grad(found, x, direction)
    exact = direction.double() @ w.double().T
    torch.testing.assert_close(gradient.double(), exact, atol=1e-3, rtol=ROUNDING)


@pytest.mark.parametrize("n_rows", (1, 70))
def test_a_product_written_into_a_buffer_is_the_product(way, n_rows):
    x, w, out = random(2, n_rows, 16), Linear(random(16, 8)), torch.full((2, n_rows, 8), torch.nan)
    w.write(x, out)
    torch.testing.assert_close(out, w(x), atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("n_sums", (1, 2, 36))
def test_sums_are_those_of_float64_to_rounding(way, n_sums):
    which, terms = np.random.default_rng(0).random((n_sums, 9)) < 0.5, random(9, 4, 5, 6)
    assert which.any(1).all()
    expected = torch.einsum("st,t...->s...", torch.from_numpy(which).double(), terms.double())
    torch.testing.assert_close(sums(which, terms).double(), expected, atol=ROUNDING, rtol=ROUNDING)


def searched(monkeypatch, way: str) -> Progress:
    monkeypatch.setattr(linear, "products", lambda: way)
    # Weights are made anew, for those that other tests share may be packed for the other way.
    weights = weights_of(bridge("llama")).to("cpu", torch.float32)
    return acdc_fast(Engine(weights, prompts(True), ablation="corrupted"), KLDivergence, 0.3)


def test_both_ways_make_the_same_decisions_and_each_makes_them_again_to_the_byte(monkeypatch):
    found = {way: searched(monkeypatch, way) for way in WAYS}
    assert_same(found["onednn"], found["matmul"], 1e-4)
    for way in WAYS:
        assert json.dumps(searched(monkeypatch, way).trace) == json.dumps(found[way].trace)
