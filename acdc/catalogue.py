"""Declare every method, metric, ablation, level and file format once.

The command line, the config's schema, the workflow, tables and figures all read these declarations. Nothing here
imports torch: a declaration names the code that it stands for, and ``load`` imports that code.

A file in ``workflow/extensions/`` may declare one more, as ``METHOD``, ``METRIC`` or ``ABLATION``, or a task as
``TASK``: docs/extending.md says how.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

from acdc.errors import InputError

EXTENSIONS = Path(__file__).parents[1] / "workflow/extensions"
"""The folder whose files add declarations."""
Precision = Literal["float32", "float64", "mixed"]
"""The arithmetic precisions of engines, see ``acdc.engine.load.Options``."""
MOST_SEED = 2**32 - 1
"""The largest seed that numpy's generators take."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """Declare a method, metric, ablation, level or format: the base class of all declarations.

    Attributes:
        name: the name in configs, paths, flags and tables.
        label: the name in figures and titles.
        code: the declared code, as ``module:attribute``.
    """

    name: str
    label: str
    code: str = ""

    @property
    def source(self) -> str:
        """Return the name of the module that holds the declared code."""
        return self.code.partition(":")[0]

    def load(self) -> Any:
        """Import the declared code and return it."""
        module, _, attribute = self.code.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Declare one setting of a method, which is a flag of the command line and a key of the config.

    Attributes:
        default: the default value, whose type is the setting's.
        choices: the values allowed; any, where empty.
        least: the smallest number allowed.
        above: a bound that the number must exceed.
        most: the largest number allowed.
        off: a number below ``least`` that switches the setting off.
        needs: another setting and the value of it without which this one has no effect.
    """

    name: str
    default: int | float | str
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    off: int | None = None
    needs: tuple[str, str] | None = None

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def parse(self, text: str) -> int | float | str:
        """Return the setting's value, given the text of its flag.

        Raises:
            InputError: the text is of another type, none of the choices, too small or too large.
        """
        try:
            value = type(self.default)(text)
        except ValueError:
            kind = {int: "a whole number", float: "a number"}[type(self.default)]
            raise InputError(f"{self.flag} must be {kind}, not {text!r}") from None
        if self.choices and value not in self.choices:
            raise InputError(f"{self.flag} must be one of {', '.join(self.choices)}, not {text!r}")
        if isinstance(value, (int, float)):
            if not math.isfinite(value):
                raise InputError(f"{self.flag} must be a number, not {text!r}")
            if self.least is not None and value < self.least and value != self.off:
                none = "" if self.off is None else f", or {self.off} for none"
                raise InputError(f"{self.flag} must be at least {self.least:g}{none}, not {text}")
            if self.above is not None and value <= self.above:
                raise InputError(f"{self.flag} must be more than {self.above:g}, not {text}")
            if self.most is not None and value > self.most:
                raise InputError(f"{self.flag} must be at most {self.most}, not {text}")
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the setting's value."""
        schema: dict[str, Any] = {"type": {int: "integer", float: "number", str: "string"}[type(self.default)]}
        schema |= {"enum": list(self.choices)} if self.choices else {}
        if self.off is not None:
            schema |= {"if": {"not": {"const": self.off}}, "then": {"minimum": self.least}}
        elif self.least is not None:
            schema |= {"minimum": self.least}
        schema |= {"exclusiveMinimum": self.above} if self.above is not None else {}
        schema |= {"maximum": self.most} if self.most is not None else {}
        return schema | {"default": self.default, "description": self.help}


@dataclass(frozen=True, kw_only=True)
class Method(Declared):
    """Declare a method that finds circuits.

    Attributes:
        kind: ``search`` runs once for every value of ``sized_by``; its code is a subclass of
            ``acdc.methods.driver.Search``. ``score`` scores all edges or nodes once, and circuits are those of largest
            score; its code is a function as ``acdc.methods.driver.Score`` describes.
        keeps: whether the method decides about edges or nodes; edges follow from nodes by the paper's rule.
        sized_by: for a search, the quantity that sets a circuit's size. Its plural is a key of a search in the config.
        value_range: the smallest and the largest value of ``sized_by``; None allows any number.
        settings: the other settings.
        needs_slope: whether scores are gradients at the circuit of all edges, where a distance has gradient zero.
        uses_prompts: False if circuits do not depend on the prompts, so that resampling them tells nothing.
        traces_edges: whether the trace has a row per tried edge with its effect, for drawings and pages.
        color, marker: color and marker in figures; the next free ones where empty.
    """

    kind: Literal["search", "score"]
    keeps: Literal["edges", "nodes"] = "edges"
    sized_by: str = ""
    value_range: tuple[float, float] | None = None
    settings: tuple[Setting, ...] = ()
    needs_slope: bool = False
    uses_prompts: bool = True
    traces_edges: bool = False
    color: str = ""
    marker: str = ""
    help: str = ""

    @property
    def size_by(self) -> str:
        """Return the name of the quantity that sets the size of this method's circuits, such as ``threshold``."""
        return self.sized_by or f"n_{self.keeps}"

    @property
    def values_key(self) -> str:
        """Return the key in the config of a search that lists this method's values, such as ``thresholds``."""
        return f"{self.sized_by}s"

    def check_value(self, text: str) -> None:
        """Check that the method can run with this value of its ``sized_by``; raise InputError if not."""
        if not is_number(text):
            raise InputError(f"{self.sized_by} must be a number, not {text!r}")
        least, most = self.value_range or (-math.inf, math.inf)
        if not least <= float(text) <= most:
            raise InputError(f"{self.sized_by} must be from {least:g} to {most:g}, not {text}")

    def parse(self, flags: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of all settings, given the texts of some flags.

        Args:
            flags: texts by the setting's name; a setting that is not among them has its default.

        Raises:
            InputError: a flag is none of this method's settings, or its value is wrong.
        """
        known = {setting.name: setting for setting in self.settings}
        for name in flags:
            if name not in known:
                own = ", ".join(setting.flag for setting in self.settings) or "none"
                raise InputError(f"method {self.name} has no setting --{name.replace('_', '-')}: it has {own}")
        parsed = {s.name: s.parse(flags[s.name]) if s.name in flags else s.default for s in self.settings}
        if sentence := self.idle(flags, parsed):
            raise InputError(sentence)
        return parsed

    def idle(self, given: Iterable[str], own: Mapping[str, Any]) -> str:
        """Return a sentence about a given setting that has no effect because another one lacks the value that it needs.

        Args:
            given: names of settings.
            own: settings with their values; defaults where one is left out.

        Returns:
            The sentence, empty where every setting does something.
        """
        values = {setting.name: setting.default for setting in self.settings} | dict(own)
        for setting in self.settings:
            other, value = setting.needs or ("", None)
            if setting.name in given and values.get(other) != value:
                return (
                    f"method {self.name}: {setting.name} does nothing where {other} is {values[other]}: give"
                    f" {other}={value} too, or leave {setting.name} out"
                )
        return ""


@dataclass(frozen=True, kw_only=True)
class Metric(Declared):
    """Declare a metric, which searches minimise and tables report.

    Attributes:
        unit: the unit of its values; empty if they have none.
        is_distance: whether it measures the distance of a circuit from the whole model, where it is 0 and its gradient
            is 0 too.
        as_share: whether figures draw the share of the whole model's value that a circuit keeps.
        published: its name in acdc/assets/published; empty if the paper has no numbers for it.
        tasks: the tasks that have this metric though their own modules do not list it.
        function: the function of a metric that is declared in Python, in place of ``code``; see
            ``acdc.metrics.FunctionMetric``.
    """

    unit: str = ""
    is_distance: bool = False
    as_share: bool = False
    published: str = ""
    tasks: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None

    def load(self) -> Any:
        """Import the code of the metric and return it: a class, called with a dataset and the model's logits."""
        if self.function is None:
            return super().load()
        from acdc.metrics import FunctionMetric

        return partial(FunctionMetric, self.function)


@dataclass(frozen=True, kw_only=True)
class AblationEntry(Declared):
    """Declare an ablation, which decides the activation that a removed edge carries.

    Attributes:
        run: the name in figures of the run without any edge.
        published: the ablation in acdc/assets/published whose numbers are put beside ours.
    """

    run: str
    published: str = ""


@dataclass(frozen=True, kw_only=True)
class Level(Declared):
    """Declare a level at which a circuit is compared with a known one: what is counted, such as edges or nodes.

    Attributes:
        published: its name in acdc/assets/published; empty if the paper has no numbers for it.
    """

    published: str = ""


@dataclass(frozen=True, kw_only=True)
class Format(Declared):
    """Declare a file format of another tool that circuits are written to and read from."""

    suffix: str


Entry = TypeVar("Entry", bound=Declared)


class Catalogue(Mapping[str, Entry], Generic[Entry]):
    """Hold all declarations of one sort by name: those that ship, those of extensions, and those added at run time."""

    def __init__(self, sort: str, attribute: str, *entries: Entry) -> None:
        self.sort, self.attribute = sort, attribute
        self.own = {entry.name: entry for entry in entries}
        self.added: dict[str, Entry] = {}

    @property
    def entries(self) -> dict[str, Entry]:
        return self.own | {entry.name: entry for entry in extended(self.attribute)} | self.added

    def add(self, entry: Entry) -> None:
        """Add a declaration for this process, in place of an earlier added one of its name.

        Raises:
            InputError: the name is taken by one that ships or by an extension.
        """
        if entry.name in self.entries and entry.name not in self.added:
            raise InputError(f"there is a {self.sort} {entry.name} already: give yours another name")
        self.added[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        """Return the declaration of that name; raise InputError if there is none."""
        try:
            return self.entries[name]
        except KeyError:
            raise InputError(f"unknown {self.sort} {name!r}: there are {', '.join(self.entries)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


SELECTION = (
    Setting(
        name="select",
        default="absolute",
        choices=("absolute", "signed", "ratio", "program"),
        help="which edges make a circuit: of largest size, of largest score, a share of positive ones, or by a program",
    ),
    Setting(
        name="positive_share",
        default=0.5,
        least=0,
        most=1,
        help="by ratio, share of the edges that are those of largest positive score",
        needs=("select", "ratio"),
    ),
    Setting(
        name="bootstraps",
        default=0,
        least=3,
        off=0,
        help="resamples of the prompts to score on; edges whose sign is consistent come first",
    ),
    Setting(
        name="solver_seconds",
        default=300.0,
        above=0,
        help="by program, what the solver may take for a circuit",
        needs=("select", "program"),
    ),
    Setting(
        name="solver_gap",
        default=1e-4,
        least=0,
        help="by program, how far a circuit's scores may stay below the best sum, as a share of it",
        needs=("select", "program"),
    ),
)
"""The settings of methods that score edges for how edges are selected, see ``acdc.methods.selection``."""


def variant(
    method: Method, *, name: str, label: str, help: str, color: str = "", marker: str = "", **changed: Mapping[str, Any]
) -> Method:
    """Return a method that scores as a given one does, with other defaults or choices of its settings.

    A setting that has no effect because of a fixed one is left out.

    Args:
        changed: by the setting's name, the fields of its declaration to change. A setting with one choice is fixed.
    """
    settings = [replace(setting, **changed.get(setting.name, {})) for setting in method.settings]
    fixed = {setting.name: setting.default for setting in settings if len(setting.choices) == 1}
    kept = [s for s in settings if s.needs is None or fixed.get(s.needs[0], s.needs[1]) == s.needs[1]]
    return replace(method, name=name, label=label, help=help, color=color, marker=marker, settings=tuple(kept))


def only(choice: str) -> dict[str, Any]:
    """Return the change that fixes a setting at one value, for ``variant``."""
    return {"default": choice, "choices": (choice,)}


EAP_IG = Method(
    name="eap_ig",
    label="EAP-IG",
    help="EAP with integrated gradients, Hanna et al. 2024",
    code="acdc.methods.eap:eap_ig",
    kind="score",
    settings=(
        Setting(name="ig_steps", default=5, least=1, help="steps from ablated to clean inputs"),
        Setting(
            name="ig_ends",
            default="ablated",
            choices=("ablated", "clean", "both"),
            help="which ends are among the inputs",
        ),
        *SELECTION,
    ),
    color="#CC79A7",
    marker="v",
)

METHODS: Catalogue[Method] = Catalogue(
    "method",
    "METHOD",
    Method(
        name="acdc",
        label="ACDC",
        help="Conmy et al. 2023, Algorithm 1",
        code="acdc.methods.acdc_fast:Acdc",
        kind="search",
        sized_by="threshold",
        traces_edges=True,
        settings=(
            Setting(
                name="head_order",
                default="descending",
                choices=("descending", "ascending"),
                help="order in which a layer's heads are tried as senders; the original's is descending",
            ),
        ),
        color="#0072B2",
        marker="o",
    ),
    Method(
        name="sp",
        label="SP",
        help="subnetwork probing, Cao et al. 2021",
        code="acdc.methods.sp:Sp",
        kind="search",
        keeps="nodes",
        sized_by="regularisation",
        settings=(
            Setting(name="steps", default=10_000, least=1, help="steps of training"),
            Setting(name="learning_rate", default=0.001, above=0, help="learning rate of Adam"),
            Setting(
                name="prompts_per_step", default=100, least=1, help="prompts in a step; all, where there are fewer"
            ),
            Setting(name="seed", default=0, least=0, most=MOST_SEED, help="seed of the masks that are drawn"),
        ),
        color="#D55E00",
        marker="s",
    ),
    Method(
        name="edge_pruning",
        label="Edge Pruning",
        help="masks of edges, trained to a target of the sparsity, Bhaskar et al. 2024",
        code="acdc.methods.edge_pruning:EdgePruning",
        kind="search",
        sized_by="sparsity_target",
        value_range=(0, 2),  # above 1 it cannot be reached, and keeps the pressure up
        settings=(
            Setting(name="steps", default=1000, least=1, help="steps of training; the original's are 3000"),
            Setting(name="learning_rate", default=0.8, above=0, help="peak learning rate of AdamW"),
            Setting(
                name="multiplier_learning_rate",
                default=0.8,
                above=0,
                help="the same for the two multipliers that drive the sparsity to its target",
            ),
            Setting(
                name="warmup", default=0.067, least=0, most=1, help="share of the steps in which learning rates rise"
            ),
            Setting(
                name="target_warmup",
                default=0.833,
                least=0,
                most=1,
                help="share of the steps in which the target rises",
            ),
            Setting(name="prompts_per_step", default=32, least=1, help="prompts in a step; all, where there are fewer"),
            Setting(name="seed", default=0, least=0, most=MOST_SEED, help="seed of the masks that are drawn"),
        ),
        color="#332288",
        marker="p",
    ),
    Method(
        name="hisp",
        label="HISP",
        help="head importance, Michel et al. 2019",
        code="acdc.methods.hisp:hisp",
        kind="score",
        keeps="nodes",
        needs_slope=True,
        color="#009E73",
        marker="^",
    ),
    Method(
        name="eap",
        label="EAP",
        help="edge attribution patching, Syed et al. 2023",
        code="acdc.methods.eap:eap",
        kind="score",
        settings=SELECTION,
        needs_slope=True,
        color="#E69F00",
        marker="D",
    ),
    EAP_IG,
    variant(
        EAP_IG,
        name="eap_ig_signed",
        label="EAP-IG, signed",
        help="EAP-IG, and edges of largest score instead of largest size, as MIB's CPR takes them",
        select=only("signed"),
        color="#44AA99",
        marker=">",
    ),
    variant(
        EAP_IG,
        name="eap_ig_ratio",
        label="EAP-IG, ratio",
        help="EAP-IG, and a share of edges of positive score, Nikankin et al. 2025",
        select=only("ratio"),
        color="#999933",
        marker="*",
    ),
    variant(
        EAP_IG,
        name="eap_ig_program",
        label="EAP-IG, program",
        help="EAP-IG, and the connected circuit of the largest sum, Nikankin et al. 2025",
        select=only("program"),
        color="#AA4499",
        marker="8",
    ),
    variant(
        EAP_IG,
        name="eap_ig_consistent",
        label="EAP-IG, consistent",
        help="EAP-IG on resamples of the prompts, and edges of one sign in them first, Nikankin et al. 2025",
        bootstraps={"default": 10, "off": None},
        color="#661100",
        marker="d",
    ),
    Method(
        name="eap_ig_activations",
        label="EAP-IG of activations",
        help="EAP with integrated gradients over what components write, Hanna et al. 2024",
        code="acdc.methods.eap:eap_ig_activations",
        kind="score",
        settings=(Setting(name="ig_steps", default=5, least=1, help="steps from ablated to clean outputs"), *SELECTION),
        color="#7A4988",
        marker="<",
    ),
    Method(
        name="gim",
        label="GIM",
        help="EAP with gradient interaction modifications, Edin et al. 2025",
        code="acdc.methods.gim:gim",
        kind="score",
        settings=SELECTION,
        needs_slope=True,
        color="#56B4E9",
        marker="P",
    ),
    Method(
        name="relp",
        label="RelP",
        help="EAP with coefficients of relevance propagation, Jafari et al. 2025",
        code="acdc.methods.relp:relp",
        kind="score",
        settings=SELECTION,
        needs_slope=True,
        color="#8C6D31",
        marker="h",
    ),
    Method(
        name="random",
        label="random",
        help="edges in a random order, as a control",
        code="acdc.methods.random_order:random_order",
        kind="score",
        uses_prompts=False,
        settings=(Setting(name="order_seed", default=0, least=0, most=MOST_SEED, help="seed of the order"),),
        color="#6E6E6E",
        marker="X",
    ),
)
"""Methods, by name."""

METRICS: Catalogue[Metric] = Catalogue(
    "metric",
    "METRIC",
    Metric(
        name="kl_divergence",
        label="KL divergence",
        unit="nats",
        is_distance=True,
        published="kl_divergence",
        code="acdc.metrics:KLDivergence",
    ),
    Metric(
        name="logit_difference",
        label="logit difference",
        unit="logits",
        as_share=True,
        published="own",
        code="acdc.metrics:LogitDifference",
    ),
    Metric(
        name="docstring_metric",
        label="docstring metric",
        unit="logits",
        published="own",
        code="acdc.metrics:MaxLogitDifference",
    ),
    Metric(
        name="probability_difference",
        label="probability difference",
        published="own",
        code="acdc.metrics:ProbabilityDifference",
    ),
    Metric(name="nll", label="nll", unit="nats", published="own", code="acdc.metrics:NegativeLogLikelihood"),
    Metric(name="l2", label="L2", is_distance=True, published="own", code="acdc.metrics:L2"),
    Metric(name="output_difference", label="output difference", code="acdc.metrics:OutputDifference"),
)
"""Metrics, by name."""

ABLATIONS: Catalogue[AblationEntry] = Catalogue(
    "ablation",
    "ABLATION",
    AblationEntry(
        name="corrupted",
        label="corrupted",
        run="corrupted\nrun",
        published="corrupted",
        code="acdc.ablation:Ablation",
    ),
    AblationEntry(
        name="corrupted_permuted",
        label="corrupted, permuted",
        run="permuted\nrun",
        published="corrupted",
        code="acdc.ablation:CorruptedPermuted",
    ),
    AblationEntry(name="zero", label="zero", run="zero-ablated\nrun", published="zero", code="acdc.ablation:Zero"),
    AblationEntry(name="mean", label="mean", run="mean-ablated\nrun", code="acdc.ablation:Mean"),
)
"""Ablations, by name."""

LEVELS: Catalogue[Level] = Catalogue(
    "level",
    "LEVEL",
    Level(name="edge", label="edges", published="edge", code="acdc.analysis.recovery:edge_confusion"),
    Level(name="node", label="nodes", code="acdc.analysis.recovery:node_confusion"),
    Level(
        name="original_node",
        label="nodes as the paper counts them",
        published="node",
        code="acdc.analysis.recovery:original_node_confusion",
    ),
)
"""Levels of comparison with a known circuit, by name."""

FORMATS: Catalogue[Format] = Catalogue(
    "format",
    "FORMAT",
    Format(name="original", label="the original's dictionary of edges", suffix=".pth", code="acdc.exchange:ORIGINAL"),
    Format(name="eap_json", label="EAP-IG's and MIB's JSON", suffix=".json", code="acdc.exchange:EAP_JSON"),
    Format(name="eap_pt", label="EAP-IG's and MIB's matrices", suffix=".pt", code="acdc.exchange:EAP_PT"),
    Format(name="graphml", label="networkx's GraphML", suffix=".graphml", code="acdc.exchange:GRAPHML"),
)
"""Formats of other tools, by name."""

OF_TEXT = ("kl_divergence", "logit_difference")
"""The metrics of a task whose prompts have correct and incorrect answers."""
OF_NUMBERS = ("l2", "output_difference")
"""The metrics of a task whose model's outputs are numbers, of which the dataset has the right ones."""
COMPARED = 3
"""The number of methods that a search needs for a figure that compares them."""
DISTANCE_IS_FLAT = "its gradient is zero where nothing is removed"
"""The reason why a method that needs a gradient cannot use a distance."""


def methods(kind: Literal["search", "score"]) -> list[Method]:
    """Return the methods of one kind, in the catalogue's order."""
    return [method for method in METHODS.values() if method.kind == kind]


def is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_suits(method: Method, metric: Metric) -> None:
    """Check that a method that needs a gradient is not used with a distance; raise InputError if it is."""
    if method.needs_slope and metric.is_distance:
        others = ", ".join(m.name for m in methods("score") if not m.needs_slope and m.uses_prompts)
        raise InputError(
            f"{method.name} by {metric.name} scores everything 0, for {DISTANCE_IS_FLAT}: use a metric of the answers, "
            f"or {others}"
        )


def label(name: str) -> str:
    """Return the label of a method, metric, ablation or level; for any other name, the name with spaces."""
    for entries in (METHODS, METRICS, ABLATIONS, LEVELS):
        if name in entries:
            return entries[name].label
    return name.replace("_", " ")


# Extensions.


def extension_files() -> list[Path]:
    """Return the files that may add declarations, sorted by name."""
    return sorted(EXTENSIONS.glob("*.py"))


def extension(path: Path) -> ModuleType:
    """Import the Python file of an extension, once.

    Raises:
        InputError: the file fails when it is run; the message has the file and the error.
    """
    name = f"acdc_extension_{path.stem}"
    known = sys.modules.get(name)
    return known if known is not None and known.__file__ == str(path) else run_file(path, name, "extension")


def run_file(path: Path, name: str, sort: str) -> ModuleType:
    """Run a Python file as a module of the given name.

    Args:
        path: the file.
        name: the name of the module.
        sort: the name for such a file in messages.

    Raises:
        InputError: the file fails when it is run; the message has the file and the error.
    """
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec  # a loader of a file has one
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{sort} {path} does not load: {type(error).__name__}: {error}") from error
    return module


def extended(attribute: str) -> Iterator[Any]:
    """Yield the declarations that extensions assign to a name, such as ``METHOD``."""
    for path in extension_files():
        if attribute in assigned(path):
            yield getattr(extension(path), attribute)


def assigned(path: Path) -> frozenset[str]:
    """Return the names that a Python file defines at its top level, by assignments and by functions.

    Raises:
        InputError: the file is no Python.
    """
    return assigned_at(path, path.stat().st_mtime_ns)


@cache
def assigned_at(path: Path, changed: int) -> frozenset[str]:
    """Return the names that a file defines at its top level, cached by the file's time of modification."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        raise InputError(f"extension {path} is no Python: {error}") from error
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return frozenset(target.id for target in targets if isinstance(target, ast.Name)) | functions
