"""List every damage to every file that a stage reads, and judge what comes of it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.faults import forks, small_study
from tests.faults.damage import (
    CUT,
    FLIPS,
    JSON,
    MORE,
    NESTED,
    ROWS,
    TEXT,
    WHOLE,
    Damage,
    copied,
)
from tests.faults.small_study import (
    AGREEMENT,
    BEHAVIOUR,
    DATASET,
    DISCOVERY,
    ENGINE,
    EVALUATE,
    FOUND,
    HEADS,
    LABELS,
    OF_NODES,
    SEARCH,
    SEVERAL,
    STABILITY,
    TEST,
)

Damages = Mapping[str, Damage]
OURS_IN_BYTES: Damages = {**WHOLE, **FLIPS}
"""Damage to a file that acdc wrote, of which something tells whether any byte changed."""
OUR_JSON: Damages = {**WHOLE, **FLIPS, **TEXT, **NESTED, **JSON, **MORE}
OUR_TABLE: Damages = {**WHOLE, **FLIPS, **TEXT, **ROWS}
CUT_TABLE: Damages = {**{name: WHOLE[name] for name in ("empty", "99 zeros", "another text")}, **CUT}
SOME_ROWS: Damages = {
    **CUT_TABLE,
    **{name: ROWS[name] for name in ("a row twice", "a column dropped", "a number is x")},
}
SOME: Damages = {name: WHOLE[name] for name in ("empty", "cut in half", "zeros", "missing")}
"""A part of these, for what takes long or reads as others do."""
THEIR_JSON: Damages = {**WHOLE, **NESTED, **{name: TEXT[name] for name in ("latin-1", "UTF-16", "CRLF")}}
"""Damage that leaves no sound file, to one of which nothing tells whether it was changed."""
THEIR_TEXT: Damages = {**WHOLE, **TEXT, **{name: ROWS[name] for name in ("the last row cut", "no header")}}


def without(damages: Damages, *names: str) -> Damages:
    """Return the damages without some."""
    return {name: damage for name, damage in damages.items() if name not in names}


class Stage(NamedTuple):
    """Hold a command, and the files that it reads with what may happen to each."""

    name: str
    arguments: list[str]
    reads: dict[str, Damages]


def importing(file: str, format: str, *more: str) -> list[str]:
    """Return the arguments of the command that reads another tool's file."""
    labels = [*LABELS, "--method", "eap", "--value", "9"]
    return ["import", file, "--format", format, *labels, "--out", "out", *more]


MODEL = {name: OURS_IN_BYTES for name in ("planted/engine.safetensors", "planted/architecture.json")}
MODEL |= {"planted/sha256.txt": WHOLE}
PROGRAM = {"planted/model.safetensors": OURS_IN_BYTES, "planted/native.json": {**OURS_IN_BYTES, **MORE}}
TOKENIZER = {"model/tokenizer.json": WHOLE | FLIPS, "model/tokenizer_config.json": WHOLE | FLIPS}
TRACE = "found/acdc/0.01/trace.csv"
NODES = "found/acdc/0.01/nodes.csv"
MINE = ["dataset", "--task", "mine", "--model", "model", "--n-prompts", "2", "--n-test-prompts", "2", "--seed", "0"]
MINE += ["--metrics", "kl_divergence", "--out", "out"]
ONE = ["circuits", *ENGINE, *SEARCH, *DISCOVERY, "--methods", "acdc=0.01"]
RESAMPLE = "work/acdc/0/1"

STAGES = (
    Stage(
        "model of a folder",
        ["model", "--folder", "source", "--out", "out"],
        {
            # The command copies these files as they are, CRLF too, and no model needs a tokenizer.
            "source/config.json": without(THEIR_JSON, "CRLF"),
            "source/model.safetensors": WHOLE,
            "source/tokenizer.json": without(THEIR_JSON, "CRLF", "missing"),
            "source/tokenizer_config.json": without(THEIR_JSON, "CRLF", "missing", "an object"),
        },
    ),
    Stage(
        "model of TransformerLens 1.x",
        ["model", "--folder", "legacy", "--out", "out"],
        {"legacy/config.json": THEIR_JSON, "legacy/model_final.pth": OURS_IN_BYTES},
    ),
    Stage("model, reset", ["model", "--reset", "planted", "--out", "out"], {**PROGRAM, "planted/sha256.txt": WHOLE}),
    Stage("dataset", [*DATASET, "--out", "out"], {"planted/sha256.txt": WHOLE}),
    *(
        Stage(f"dataset of {suffix}", [*MINE, "--prompts", f"prompts.{suffix}"], {f"prompts.{suffix}": damages})
        for suffix, damages in {
            **dict.fromkeys(("csv", "tsv"), THEIR_TEXT),
            **{"json": THEIR_JSON, "jsonl": THEIR_JSON, "parquet": WHOLE},
        }.items()
    ),
    Stage("dataset with a tokenizer", [*MINE, "--prompts", "prompts.csv"], TOKENIZER),
    Stage(
        "behaviour",
        [*BEHAVIOUR, "--out", "out.csv", "--logits", "out1", "out2"],
        {**dict.fromkeys(MODEL, SOME), **dict.fromkeys(PROGRAM, SOME), DISCOVERY[1]: OURS_IN_BYTES},
    ),
    Stage(
        "circuits",
        [*ONE, "--out", "out"],
        {**MODEL, DISCOVERY[1]: OURS_IN_BYTES, DISCOVERY[3]: OURS_IN_BYTES},
    ),
    Stage(
        "circuits, begun",
        [*ONE, "--out", "begun"],
        {"begun/acdc/0.01/checkpoint.pt": OURS_IN_BYTES},
    ),
    Stage(
        "circuits, found",
        [*ONE, "--out", "found"],
        {FOUND: {**OURS_IN_BYTES, **MORE}, TRACE: {**SOME_ROWS, **FLIPS}, NODES: CUT_TABLE},
    ),
    Stage(
        "stability, begun",
        [*STABILITY, "--work", "work", "--out", "out.csv"],
        {f"{RESAMPLE}/circuit.json": WHOLE | FLIPS, f"{RESAMPLE}/trace.csv": CUT_TABLE},
    ),
    Stage(
        "evaluate",
        [*EVALUATE, "--recovery", "out/recovery.csv", "--out", "out/evaluation.csv"],
        {**dict.fromkeys((*MODEL, TEST[1], TEST[3]), SOME), FOUND: SOME | FLIPS},
    ),
    Stage(
        "controls",
        ["controls", *ENGINE, "--task", "planted", *TEST, "--ablations", "corrupted", "--seeds", "1", "--out", "out"],
        {TEST[1]: SOME},
    ),
    Stage(
        "nodes",
        ["nodes", *ENGINE, *SEARCH, *DISCOVERY, "--circuits", FOUND, "--out", "out.csv"],
        {FOUND: SOME},
    ),
    Stage("table", ["table", "controls.csv", "search.csv", "--out", "out.csv"], {"search.csv": OUR_TABLE}),
    Stage(
        "faithfulness",
        ["faithfulness", "--evaluation", "evaluation.csv", "--out", "out.csv"],
        {"evaluation.csv": OUR_TABLE},
    ),
    Stage("auc", ["auc", "--recovery", "recovery.csv", "--out", "out.csv"], {"recovery.csv": SOME_ROWS}),
    Stage(
        "auc-tables",
        ["auc-tables", "--auc", "auc.csv", "--out", *(f"auc_corrupted.{e}" for e in ("csv", "md", "tex"))],
        {"auc.csv": SOME_ROWS},
    ),
    Stage(
        "methods",
        ["methods", "--faithfulness", "faithfulness.csv", "--timing", "timing.csv", "--circuits", FOUND, SEVERAL]
        + [OF_NODES, "--auc", "auc.csv", "--out", "out.csv"],
        {"faithfulness.csv": SOME_ROWS, "timing.csv": SOME_ROWS, "auc.csv": CUT_TABLE, FOUND: SOME},
    ),
    Stage("readable", ["readable", "behaviour.csv", "--out", "out.html"], {"behaviour.csv": SOME_ROWS}),
    Stage(
        "roc",
        ["roc", "--recovery", "recovery.csv", "--levels", "edge", "--out", "out.pdf"],
        {"recovery.csv": CUT_TABLE},
    ),
    Stage(
        "pareto",
        ["pareto", "--tables", "controls.csv", "search.csv", "--ablations", "corrupted", "--out", "out.svg"],
        {"controls.csv": CUT_TABLE},
    ),
    Stage("heads", [*HEADS, "--out", "out.csv"], {FOUND: SOME}),
    Stage("agreement", [*AGREEMENT, "--out", "out.csv"], {"heads.csv": CUT_TABLE}),
    Stage(
        "page of heads",
        ["page", "--circuits", FOUND, "--start", "0.01", "--heads", "heads.csv", "--attention", "attention.json"]
        + ["--out", "out.html"],
        {"heads.csv": SOME_ROWS, "attention.json": {**OURS_IN_BYTES, **MORE}},
    ),
    Stage("curves", ["curves", "--evaluation", "evaluation.csv", "--out", "out.pdf"], {"evaluation.csv": CUT_TABLE}),
    Stage(
        "cost",
        ["cost", "--methods", "methods.csv", "--by", "evaluations", "--out", "out.pdf"],
        {"methods.csv": CUT_TABLE},
    ),
    Stage(
        "trained-and-reset",
        ["trained-and-reset", "--auc", "auc.csv", "--pairs", "planted=planted", "--out", "o.pdf"],
        {"auc.csv": CUT_TABLE},
    ),
    Stage(
        "draw",
        ["draw", "--circuits", FOUND, "--traces", TRACE, "--nodes", NODES, "--page", "out.html", "--out", "out.pdf"],
        {TRACE: CUT_TABLE, NODES: CUT_TABLE, FOUND: SOME},
    ),
    Stage(
        "page",
        ["page", "--circuits", FOUND, "--nodes", NODES, "--start", "0.01", "--out", "out.html"],
        {NODES: SOME_ROWS},
    ),
    Stage(
        "page of scores",
        ["page", "--circuits", SEVERAL, "--start", "9", "--out", "out.html"],
        {SEVERAL: WHOLE | FLIPS, "found/eap/scores.csv": SOME_ROWS},
    ),
    Stage(
        "collection",
        ["collection", "--pages", "page.html", "--title", "all", "--out", "out.html"],
        {"page.html": OURS_IN_BYTES},
    ),
    # The trace may be missing: effects are shown where there are some.
    Stage("show", ["show", FOUND, "--nodes", NODES], {TRACE: SOME_ROWS, NODES: CUT_TABLE}),
    Stage("diff", ["diff", FOUND, "found/acdc/1/circuit.json"], {FOUND: OUR_JSON}),
    Stage("log", ["log", "--circuit", FOUND, "--trace", TRACE], {FOUND: WHOLE, TRACE: OUR_TABLE}),
    Stage(
        "export",
        ["export", SEVERAL, "--value", "9", "--format", "graphml", "--out", "out.graphml"],
        {SEVERAL: SOME | MORE, "found/eap/scores.csv": CUT_TABLE},
    ),
    Stage("import original", importing("circuit.pth", "original"), {"circuit.pth": OURS_IN_BYTES}),
    Stage("import edges", importing("edges.pkl", "original", "--like", FOUND), {"edges.pkl": WHOLE, FOUND: WHOLE}),
    Stage("import eap_json", importing("eap.json", "eap_json"), {"eap.json": THEIR_JSON}),
    Stage("import eap_pt", importing("eap.pt", "eap_pt"), {"eap.pt": OURS_IN_BYTES}),
    Stage("import graphml", importing("circuit.graphml", "graphml"), {"circuit.graphml": {**WHOLE, **TEXT}}),
    Stage(
        "find",
        ["find", "--model", "source", "--prompts", "prompts.csv", "--metric", "logit_difference", "--threshold", "3"]
        + ["--out", "out"],
        {"source/config.json": NESTED, "source/model.safetensors": WHOLE, "prompts.csv": WHOLE},
    ),
)
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where the many small folders lie: making and removing them on a disk takes longer than most commands."""
REFUSED, RIGHT = "refused in one sentence", "the right result"


class Case(NamedTuple):
    """Hold one damage to one file that a command reads."""

    stage: Stage
    file: str
    damage: str

    @property
    def name(self) -> str:
        """Return what the case is called."""
        return f"{self.stage.name}: {self.file}: {self.damage}"


def cases() -> Iterator[Case]:
    """Yield all cases of the table."""
    for stage in STAGES:
        for file, damages in stage.reads.items():
            yield from (Case(stage, file, name) for name in damages)


@cache
def study() -> Path:
    """Return the folder of the study, which is made once."""
    folder = Path(tempfile.mkdtemp(dir=IN_MEMORY))
    atexit.register(removed, folder, os.getpid())
    small_study.make(folder)
    return folder


@contextmanager
def a_copy() -> Iterator[Path]:
    """Give a copy of the study."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as temporary:
        Path(temporary).chmod(0o755)
        yield copied(study(), Path(temporary) / "copy")


def removed(folder: Path, process: int) -> None:
    """Remove a folder at the end of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder)


Changes = dict[str, bytes | None]
"""The files that a command made or changed, by name; None where it removed one."""


@cache
def expected(arguments: tuple[str, ...]) -> tuple[str, Changes]:
    """Return what a command prints and changes where nothing is damaged."""
    with a_copy() as folder:
        before = forks.signatures(folder)
        ended = forks.run(arguments, folder)
        assert ended.status == 0, ended.err
        return ended.out, forks.changes(before, folder)


def outcome(arguments: list[str], file: str, damage: Damage) -> str:
    """Run a command on a copy of the study with one file damaged; return ``REFUSED``, ``RIGHT`` or what is wrong."""
    printed, right = expected(tuple(arguments))
    with a_copy() as folder:
        damage(folder / file)
        before = forks.signatures(folder)
        ended = forks.run(arguments, folder)
        changed = forks.changes(before, folder)
    if ended.status:
        return judged_refused(ended, file, changed)
    # The damaged file may stay as it is, or be made again.
    compared = {*changed, *right} - ({file} if file not in changed else set())
    differ = {name for name in compared if now(changed, name) != now(right, name)}
    if not differ and ended.out == printed:
        return RIGHT
    return f"another result in silence ({', '.join(sorted(differ)) or 'printed'})"


def now(changed: Changes, name: str) -> bytes | None:
    """Return what a file of the study holds after some changes; None where there is none."""
    path = study() / name
    return changed[name] if name in changed else path.read_bytes() if path.is_file() else None


def judged_refused(ended: forks.Ended, file: str, changed: Changes) -> str:
    """Return ``REFUSED``, or what is wrong with how a command failed."""
    said = forks.one_sentence(ended)
    if not said:
        how = "a traceback" if "Traceback" in ended.err else "no sentence"
        return f"{how}, exit status {ended.status}: {ended.err[-700:]}"
    if Path(file).name not in said and str(Path(file).parent) not in said:
        return f"the file is not named: {said}"
    return f"files were left: {sorted(changed)}" if changed else REFUSED
