"""Test fingerprints: they change with the code that computes, or with a model's bytes, and with nothing else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from acdc import catalogue, fingerprint
from acdc.errors import InputError

OF_ACDC = ("acdc", "kl_divergence", "corrupted")
OF_EAP = ("eap", "logit_difference", "zero")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Iterator[Path]:
    """Yield a copy of the package, of which fingerprints are taken."""
    copy = tmp_path / "package"
    shutil.copytree(fingerprint.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    monkeypatch.setattr(fingerprint, "PACKAGE", copy)
    forget()
    yield copy
    forget()


def forget() -> None:
    """Read imports afresh, as a new process does."""
    fingerprint.imported.cache_clear()
    fingerprint.closure.cache_clear()


def changes(search: tuple[str, str, str], edit: Callable[[], object]) -> bool:
    before = fingerprint.of_search(*search)
    assert fingerprint.of_search(*search) == before
    edit()
    forget()
    return fingerprint.of_search(*search) != before


def append(path: Path) -> None:
    """Append a comment, which changes no behaviour: bytes are what counts."""
    path.write_text(path.read_text() + "# Another line.\n")


def test_a_constant_of_a_search_is_part_of_its_fingerprint(package):
    path = package / "methods/acdc_fast.py"
    text = path.read_text()
    assert "N_ROUNDINGS = 16" in text
    assert changes(OF_ACDC, lambda: path.write_text(text.replace("N_ROUNDINGS = 16", "N_ROUNDINGS = 17")))


@pytest.mark.parametrize(
    ("search", "file", "counts"),
    [
        (OF_ACDC, "methods/acdc.py", True),
        (OF_ACDC, "methods/speculation.py", True),
        (OF_ACDC, "methods/driver.py", True),
        (OF_ACDC, "engine/layers.py", True),
        (OF_ACDC, "engine/weights.py", True),
        (OF_ACDC, "engine/check.py", True),
        (OF_ACDC, "models/bridge.py", False),  # it made the weights, whose digest is beside this one
        (OF_ACDC, "metrics.py", True),
        (OF_ACDC, "ablation.py", True),
        (OF_ACDC, "graph.py", True),
        (OF_ACDC, "methods/sp.py", False),
        (OF_ACDC, "methods/eap.py", False),
        (OF_ACDC, "catalogue.py", False),
        (OF_ACDC, "figures/roc.py", False),
        (OF_ACDC, "cli/finding.py", False),
        (OF_ACDC, "analysis/recovery.py", False),
        (OF_ACDC, "tasks/ioi.py", False),
        (OF_EAP, "methods/eap.py", True),
        (OF_EAP, "methods/gradients.py", True),
        (OF_EAP, "methods/sp.py", False),
        (OF_EAP, "methods/acdc_fast.py", False),
    ],
)
def test_what_computes_a_result_counts_and_nothing_else_does(search, file, counts, package):
    assert changes(search, lambda: append(package / file)) == counts


def test_what_a_module_comes_to_import_counts_from_then_on(package):
    (package / "more.py").write_text("X = 1\n")
    path = package / "engine/layers.py"
    path.write_text(path.read_text().replace("import torch\n", "import torch\nfrom acdc.more import X\n", 1))
    forget()
    assert "acdc.more" in fingerprint.closure("acdc.engine.layers")
    assert changes(OF_ACDC, lambda: append(package / "more.py"))


def test_an_extensions_file_counts(monkeypatch, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from acdc.catalogue import Method\n"
        'METHOD = Method(name="mine", label="mine", kind="score", code=f"{__name__}:mine")\n'
    )
    monkeypatch.setattr(catalogue, "EXTENSIONS", tmp_path)
    search = ("mine", "kl_divergence", "corrupted")
    assert fingerprint.of_search(*search) != fingerprint.of_search("random", *search[1:])
    assert changes(search, lambda: append(path))


def test_a_default_of_a_methods_settings_counts_and_its_label_does_not(monkeypatch):
    method = catalogue.METHODS["eap"]
    for change, counts in (({"label": "EAP!"}, False), ({"settings": method.settings[1:]}, True)):
        with monkeypatch.context() as patch:
            edit = partial(patch.setitem, catalogue.METHODS.own, "eap", replace(method, **change))
            assert changes(OF_EAP, edit) == counts
    of_rules = {fingerprint.of_search(name, *OF_EAP[1:]) for name in ("eap_ig", "eap_ig_ratio", "eap_ig_program")}
    assert len(of_rules) == 3


def test_searches_of_different_code_have_different_fingerprints():
    searches = [OF_ACDC, OF_EAP, ("sp", *OF_ACDC[1:]), ("hisp", *OF_EAP[1:])]
    assert len({fingerprint.of_search(*search) for search in searches}) == len(searches)


# Models.


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / "more").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "more/config.json").write_text("{}")
    return folder


def write_digests(folder: Path) -> None:
    """Write digests some ticks of the clock after the files, as for any model that takes longer to write."""
    time.sleep(0.02)
    fingerprint.write_digests(folder)


def later(path: Path, seconds: int) -> None:
    """Change the time that a file was written at."""
    changed = path.stat().st_mtime_ns + seconds * 10**9
    os.utime(path, ns=(changed, changed))


def test_digests_are_taken_where_nothing_is_newer(model, monkeypatch):
    expected = fingerprint.of_model(model)
    write_digests(model)
    assert "more/config.json" in (model / fingerprint.DIGESTS).read_text()
    monkeypatch.setattr(fingerprint, "of_file", pytest.fail)
    assert fingerprint.of_model(model) == expected


@pytest.mark.parametrize("file", ("model.safetensors", "more/config.json", "another.json"))
def test_a_file_that_changes_is_read_again(file, model):
    write_digests(model)
    before = fingerprint.of_model(model)
    (model / file).write_bytes(b"others")
    later(model / file, 10)
    after = fingerprint.of_model(model)
    assert after != before
    write_digests(model)
    later(model / fingerprint.DIGESTS, 20)
    assert fingerprint.of_model(model) == after


def test_a_copy_of_a_model_is_the_same_model(model, tmp_path):
    write_digests(model)
    shutil.copytree(model, tmp_path / "copy")
    assert fingerprint.of_model(tmp_path / "copy") == fingerprint.of_model(model)


def test_hidden_files_are_no_part_of_a_model(model, monkeypatch):
    """Snakemake puts one there after the digests are written: otherwise every job would read all weights again."""
    write_digests(model)
    before = fingerprint.of_model(model)
    (model / ".snakemake_timestamp").touch()
    monkeypatch.setattr(fingerprint, "of_file", pytest.fail)
    assert fingerprint.of_model(model) == before
    fingerprint.check_model(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"others"),
            "model.safetensors is not as acdc wrote",
        ),
        (lambda folder: (folder / "more/config.json").unlink(), "config.json is gone"),
        (lambda folder: (folder / "processed").touch(), "processed is new"),
        (lambda folder: (folder / "sha256.txt").write_text("x"), "sha256.txt is damaged"),
        (lambda folder: (folder / "sha256.txt").unlink(), None),
    ],
)
def test_a_model_that_is_not_as_it_was_made_is_refused(model, change, said):
    write_digests(model)
    time.sleep(0.02)
    change(model)
    with pytest.raises(InputError, match=said) if said else nullcontext():
        fingerprint.check_model(model)


def test_a_file_of_another_name_is_another_model(model):
    before = fingerprint.of_model(model)
    (model / "model.safetensors").rename(model / "other.safetensors")
    assert fingerprint.of_model(model) != before


def test_a_file_that_is_replaced_by_an_older_one_is_read_again(model, tmp_path):
    """``mv``, ``cp -p`` and ``rsync -t`` keep the time that a file was written at."""
    (tmp_path / "older").write_bytes(b"others")
    later(tmp_path / "older", -1000)
    write_digests(model)
    before = fingerprint.of_model(model)
    (tmp_path / "older").replace(model / "model.safetensors")
    assert fingerprint.of_model(model) != before


def test_a_file_that_is_gone_makes_another_model(model):
    write_digests(model)
    before = fingerprint.of_model(model)
    (model / "more/config.json").unlink()
    assert fingerprint.of_model(model) != before
