"""Test the catalogue: declarations load what they stand for, settings are parsed or refused, extensions add to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from acdc import catalogue, tasks
from acdc.ablation import Ablation, named
from acdc.catalogue import (
    ABLATIONS,
    FORMATS,
    LEVELS,
    METHODS,
    METRICS,
    Catalogue,
    Method,
    Setting,
    check_suits,
    label,
    methods,
)
from acdc.errors import InputError
from acdc.methods.driver import Search

CATALOGUES: dict[str, Catalogue] = {
    "method": METHODS,
    "metric": METRICS,
    "ablation": ABLATIONS,
    "level": LEVELS,
    "format": FORMATS,
}
every_catalogue = pytest.mark.parametrize("sort", CATALOGUES)


@every_catalogue
def test_every_declaration_has_its_own_name_and_loads_its_code(sort):
    entries = CATALOGUES[sort]
    assert all(entry.name == name for name, entry in entries.items())
    assert all(callable(entry.load()) or hasattr(entry.load(), "read") for entry in entries.values())


def test_searches_are_drivers_and_ablations_are_ablations():
    assert all(issubclass(method.load(), Search) and method.sized_by for method in methods("search"))
    assert all(not method.sized_by for method in methods("score"))
    assert all(isinstance(named(name), Ablation) for name in ABLATIONS)
    own = Ablation()
    assert named(own) is own


@every_catalogue
def test_an_unknown_name_is_refused_with_those_there_are(sort):
    with pytest.raises(InputError, match=f"unknown {sort} 'nothing': there are .*{list(CATALOGUES[sort])[-1]}"):
        CATALOGUES[sort]["nothing"]
    assert "nothing" not in CATALOGUES[sort] and len(CATALOGUES[sort]) == len(list(CATALOGUES[sort]))


def test_the_catalogue_is_read_without_torch():
    code = "import sys; from acdc import catalogue; list(catalogue.METHODS.items()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Settings.

WHOLE = Setting(name="n_steps", default=10, least=1, help="")
NUMBER = Setting(name="rate", default=0.5, above=0, help="")
CHOICE = Setting(name="order", default="up", choices=("up", "down"), help="")
METHOD = Method(name="mine", label="Mine", kind="score", settings=(WHOLE, NUMBER, CHOICE))


def test_settings_are_parsed_by_the_type_of_their_default_and_the_others_have_it():
    assert METHOD.parse({}) == {"n_steps": 10, "rate": 0.5, "order": "up"}
    found = METHOD.parse({"n_steps": "3", "rate": "1e-2", "order": "down"})
    assert found == {"n_steps": 3, "rate": 0.01, "order": "down"}
    assert [type(value) for value in found.values()] == [int, float, str]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"n_steps": "x"}, "--n-steps must be a whole number, not 'x'"),
        ({"n_steps": "1.5"}, "--n-steps must be a whole number"),
        ({"n_steps": "0"}, "--n-steps must be at least 1, not 0"),
        ({"rate": "x"}, "--rate must be a number, not 'x'"),
        ({"rate": "0"}, "--rate must be more than 0, not 0"),
        ({"order": "left"}, "--order must be one of up, down, not 'left'"),
        ({"seed": "1"}, "method mine has no setting --seed: it has --n-steps, --rate, --order"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_their_flag(flags, message):
    with pytest.raises(InputError, match=message):
        METHOD.parse(flags)


@pytest.mark.parametrize("text", ("nan", "-inf"))
def test_what_is_not_above_0_is_refused_also_where_it_is_no_number(text):
    with pytest.raises(InputError, match="--learning-rate"):
        METHODS["sp"].parse({"learning_rate": text})


@pytest.mark.parametrize("name", METHODS)
def test_defaults_pass_their_own_checks_and_schemas(name):
    import jsonschema

    for setting in METHODS[name].settings:
        assert setting.parse(str(setting.default)) == setting.default
        jsonschema.validate(setting.default, setting.schema())


def test_what_a_flag_refuses_the_schema_refuses_too():
    import jsonschema

    for setting, value in ((WHOLE, 0), (WHOLE, "x"), (NUMBER, 0), (CHOICE, "left")):
        with pytest.raises(InputError):
            setting.parse(str(value))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, setting.schema())


def test_a_slope_needs_a_metric_that_has_one_at_the_model():
    for method in METHODS.values():
        for metric in METRICS.values():
            if method.needs_slope and metric.is_distance:
                with pytest.raises(InputError, match=f"{method.name} by {metric.name} .* or eap_ig"):
                    check_suits(method, metric)
            else:
                check_suits(method, metric)


def test_labels_are_the_catalogues_and_other_names_without_underscores():
    assert label("eap_ig") == METHODS["eap_ig"].label and label("original_node") == LEVELS["original_node"].label
    assert label("n_edges") == "n edges"


# Extensions.


@pytest.fixture
def write(tmp_path, monkeypatch) -> Callable[[str, str], Path]:
    """Yield a function that writes an extension into a folder of its own."""
    monkeypatch.setattr(catalogue, "EXTENSIONS", tmp_path)

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    yield write
    for name in [name for name in sys.modules if name.startswith("acdc_extension_")]:
        del sys.modules[name]


def test_an_extension_of_every_sort_is_found_after_those_that_ship(write):
    shipped = {sort: list(entries) for sort, entries in CATALOGUES.items()}
    write(
        "mine",
        "from acdc.ablation import Ablation\n"
        "from acdc.catalogue import AblationEntry, Method, Metric\n"
        "from acdc.tasks import Task\n"
        'METHOD = Method(name="m", label="My method", kind="score", code=f"{__name__}:score")\n'
        'METRIC = Metric(name="n", label="My metric", code=f"{__name__}:score", tasks=("months",))\n'
        'ABLATION: AblationEntry = AblationEntry(name="a", label="Mine", run="run", code=f"{__name__}:Own")\n'
        'TASK = Task(lambda *a: None, metrics=("l2",))\n'
        "def score(): return 7\n"
        "class Own(Ablation): pass\n",
    )
    for sort, name in (("method", "m"), ("metric", "n"), ("ablation", "a")):
        assert list(CATALOGUES[sort]) == [*shipped[sort], name] and name in CATALOGUES[sort]
    assert METHODS["m"].load()() == 7 and label("m") == "My method"
    assert type(named("a")).__name__ == "Own"
    assert list(tasks.metrics_of("mine")) == ["l2"] and tasks.load("mine").metrics == ("l2",)
    assert list(tasks.metrics_of("months")) == [*tasks.OF_TEXT, "n"]


def test_a_file_that_declares_nothing_is_not_run(write):
    write("other", "raise SystemExit\nif True:\n    METHOD = 1\n")
    assert list(METHODS.own) == list(METHODS)


def test_two_files_of_one_name_in_two_folders_are_two_extensions(write, tmp_path, monkeypatch):
    text = 'from acdc.catalogue import Method\nMETHOD = Method(name="{}", label="", kind="score")\n'
    write("mine", text.format("first"))
    assert "first" in METHODS
    (tmp_path / "another").mkdir()
    monkeypatch.setattr(catalogue, "EXTENSIONS", tmp_path / "another")
    write("another/mine", text.format("second"))
    assert "second" in METHODS and "first" not in METHODS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("METHOD = 1 / 0\n", r"mine\.py does not load: ZeroDivisionError: division by zero"),
        ("METHOD = (\n", r"mine\.py is no Python"),
        ("from acdc.nothing import x\nMETHOD = x\n", r"mine\.py does not load: ModuleNotFoundError"),
    ],
)
def test_an_extension_that_does_not_load_is_refused_by_its_file(text, message, write):
    write("mine", text)
    for _ in range(2):  # what failed once is not taken for loaded
        with pytest.raises(InputError, match=message):
            METHODS["acdc"]


def test_an_unknown_task_is_refused_by_where_it_would_be(write):
    with pytest.raises(InputError, match=r"unknown task 'nothing': .*tasks/nothing\.py nor .*extensions/nothing\.py"):
        tasks.load("nothing")
    assert list(tasks.metrics_of("nothing")) == list(tasks.OF_TEXT)
