"""Commands, examples, flags, keys and calls of README and docs are tried, or looked up where a run would be long."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import yaml
from snakemake.cli import get_argument_parser
from transformers import LlamaConfig, LlamaForCausalLM

import acdc
from acdc import tasks
from acdc.cli import app
from acdc.config import PROMPT_KEYS, VALIDATOR, schema
from acdc.models.toy.random_decoder import LLAMA
from acdc.models.toy.word_tokenizer import word_tokenizer
from acdc.study import PROMPTS
from tests.checkout import PAGES, ROOT, Checkout
from tests.named import ENDINGS, part, thing
from tests.test_study import CONFIGS, study

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
README, GUIDE, PYTHON = (TEXTS[name] for name in ("README.md", "docs/guide.md", "docs/python.md"))


def blocks(text: str, *languages: str) -> list[str]:
    return [block for language, block in FENCE.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """Return what stands in backticks, outside of code blocks."""
    found = re.findall(r"`([^`]+)`", FENCE.sub("", text))
    return [" ".join(span.replace("\\|", "|").split()) for span in found]


def of_pages(part_of: Any) -> dict[str, str]:
    """Return what a function finds in all pages, each once, with the page where it is first."""
    return {found: page for page, text in reversed(TEXTS.items()) for found in part_of(text)}


# Commands.

PROGRAMS = ("acdc", "conda", "make", "pip", "python", "sbatch", "snakemake")
ELSEWHERE = (
    *("cd", "git clone", "conda env create", "conda activate", "source .venv/bin/activate", "pip install"),
    *("docker build", "docker save", "apptainer build", "buildah bud", "sacct", "cat results/test/logs/"),
)
"""Commands that are not ours to test."""
ASSIGNED = re.compile(r"([A-Z_]+)=\S*")
BLANK = re.compile(r"<[^<>]+>")
"""A placeholder that the reader replaces."""


def commands(text: str) -> Iterator[str]:
    """Yield the commands of code blocks without their outputs, and those in the text."""
    for block in blocks(text, "bash", "sh", "shell", "console", ""):
        yield from split(block)
    for block in blocks(text, "text"):
        lines = block.splitlines()
        typed = [line for line in lines if line.startswith("$ ")]
        yield from split("\n".join(typed or [line for line in lines if line.startswith((*PROGRAMS, *ELSEWHERE))]))
    for span in spans(text):
        words = [word for word in span.split() if not ASSIGNED.fullmatch(word)]
        if len(words) > 1 and words[0] in PROGRAMS:
            yield from split(span)


def split(block: str) -> Iterator[str]:
    """Yield the commands of some lines, without comments; those joined by && or ; one by one."""
    for line in BLANK.sub("filled_in", block.replace("\\\n", " ")).splitlines():
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&")
        words.whitespace_split, words.commenters = True, "#"
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set(";&"):
                if command:
                    yield shlex.join(command)
                command = []
            else:
                command.append(word)


def test_the_readme_has_the_two_commands():
    assert {"make reproduce", "make test", "snakemake --cores all"} <= set(commands(README))


@pytest.mark.parametrize("command", of_pages(commands))
def test_a_command_is_accepted(fresh, command):
    check(fresh, shlex.split(command))


def check(fresh: Checkout, words: list[str]) -> None:
    """Try a command as far as can be without running it: by its parser, or by a dry run."""
    while assigned := ASSIGNED.fullmatch(words[0]):
        assert assigned[1] in variables()
        words = words[1:]
    program, *arguments = words
    if program == "snakemake":
        check_snakemake(arguments)
    elif program == "make":
        result = fresh.run("make", "-n", *arguments)
        assert result.returncode == 0, result.stdout
    elif program == "acdc":
        check_acdc(arguments)
    elif words[:2] == ["python", "-m"]:
        check_module(*arguments[1:])
    elif "--wrap" in words:
        check(fresh, shlex.split(words[words.index("--wrap") + 1]))
    elif "snakemake" in words:  # in a container
        check_snakemake(words[words.index("snakemake") + 1 :])
    else:
        assert shlex.join(words).startswith(ELSEWHERE), f"the test does not know what to do with {words}"


@cache
def variables() -> set[str]:
    """Return the names in capitals that the code, the tests and make read."""
    files = [ROOT / "Makefile", *(ROOT / "acdc").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    return {name for file in files for name in re.findall(r"\b[A-Z][A-Z_]+\b", file.read_text())}


def assigned(text: str) -> list[str]:
    return [found[1] for span in spans(text) if (found := ASSIGNED.fullmatch(span))]


@pytest.mark.parametrize("name", of_pages(assigned))
def test_a_variable_of_the_environment_is_read(name):
    assert name in variables()


def check_acdc(arguments: list[str]) -> None:
    """Parse a command line; fails where a flag is unknown or a value is of another type."""
    if len(arguments) == 1:  # the text speaks of a command
        assert arguments[0] in app()
    else:
        app().parse_args(arguments, exit_on_error=False, print_error=False)
    assert all(is_made(str(Path(word).parent)) for word in arguments if RESULT.fullmatch(word))


def check_module(name: str, *arguments: str) -> None:
    if name == "acdc":
        check_acdc(list(arguments))
    elif name == "pytest":
        assert all((ROOT / word).exists() for word in arguments if "/" in word)
    else:
        found = importlib.util.find_spec(name)
        assert found and found.origin and '__name__ == "__main__"' in Path(found.origin).read_text()
        if arguments:
            parsed(name, *arguments)


def parsed(name: str, *arguments: str) -> None:
    """Run a script until it has parsed its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser) -> None:
        parse(parser)
        sys.exit("parsed")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="^parsed$"):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def check_snakemake(arguments: list[str]) -> None:
    """Fail where Snakemake does not know a flag, a config is no study, or a target is not of it."""
    ours = [words for words in " ".join(arguments).split(" --") if not words.startswith("slurm-")]  # of a plugin
    flags = get_argument_parser().parse_args(" --".join(ours).split())
    names = {Path(name).stem for name in flags.configfile or ["default"]}
    assert names <= {*CONFIGS, *shown_configs()}
    if names <= set(CONFIGS):  # what a page shows is tried with the page's files, below
        assert set(flags.targets) <= {*rules(), *(file for name in names for file in files_of(name))}
    assert not flags.workflow_profile or (ROOT / flags.workflow_profile).is_dir()
    assert {text.partition("=")[0] for text in flags.config or ()} <= set(schema(ROOT)["properties"])


@cache
def files_of(name: str) -> list[str]:
    """Return what may be asked for of a study that ships."""
    one = study(name)
    models = [f"data/{name}/models/{model}" for model in one.models]
    return [*one.targets(), *one.all_circuits(), *one.all_timings(), *one.stabilities(), *models]


@cache
def rules() -> list[str]:
    files = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    return [name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE)]


# Configs, their keys, and flags in the text.


@cache
def shown_configs() -> dict[str, dict[str, Any]]:
    """Return the configs that pages show, by the names of their studies."""
    configs = [yaml.safe_load(block) for text in TEXTS.values() for block in blocks(text, "yaml")]
    return {config["study"]: config for config in configs}


def dry_runs(fresh: Checkout, text: str) -> dict[str, Any]:
    """Try every Snakemake command of a page on the config that it shows, and return the config's task."""
    (block,) = blocks(text, "yaml")
    config = yaml.safe_load(block)
    file = fresh.write(f"{config['study']}.yaml", block)
    typed = [shlex.split(command)[1:] for command in commands(text) if f"--configfile {file}" in command]
    assert typed
    for arguments in typed:
        result = fresh.snakemake("-n", *arguments)
        assert result.returncode == 0, result.stdout
    (task,) = config["tasks"]
    return task


def test_the_readmes_file_of_prompts_is_a_task(fresh):
    (prompts,) = blocks(README, "csv")
    file = fresh.root / fresh.write("capitals.csv", prompts)
    task = dry_runs(fresh, README)
    tokenizer = word_tokenizer(re.findall(r"\w+", prompts))
    made = tasks.of_prompts(task["name"], file).make_dataset(tokenizer, 4, task["seed"])
    assert sorted(map(tokenizer.decode, made.targets["correct"])) == [" Madrid", " Paris", " Rome", " Tokyo"]


def test_the_guides_new_task_runs(fresh):
    (module,) = (block for block in blocks(GUIDE, "python") if "TASK = " in block)
    file = fresh.root / fresh.write("workflow/extensions/capitals.py", module)
    task = dry_runs(fresh, GUIDE)
    file.unlink()  # the README's task has this name too

    scope: dict[str, Any] = {}
    exec(module, scope)
    tokenizer = word_tokenizer(re.findall(r"\w+", module))
    n_prompts = task["n_prompts"] + task["n_test_prompts"]
    assert len(scope["TASK"].make_dataset(tokenizer, n_prompts, task["seed"])) == n_prompts


def keys(text: str) -> Iterator[str]:
    """Yield what the text says to write into a config: ``key: value``."""
    yield from (span for span in spans(text) if re.match(r"[a-z_]+:( |$)", span))


@cache
def config_rules() -> dict[str, list[dict[str, Any]]]:
    """Return what the schema says of each key, wherever it may stand; nothing of keys of profiles and rules."""
    found: dict[str, list[dict[str, Any]]] = {}

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            for key, rule in node.get("properties", {}).items():
                found.setdefault(key, []).append(rule)
        for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            visit(below)

    visit(schema(ROOT))
    others = [*yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text()), "conda", "container", "envmodules"]
    return {key: [{}] for key in others} | found


@pytest.mark.parametrize("text", of_pages(keys))
def test_a_key_of_the_config_exists_and_takes_the_value(text):
    key, value = text.split(":", 1)
    assert key in config_rules()
    if value and "..." not in value:
        definitions = schema(ROOT)["$defs"]
        rules = [VALIDATOR({**rule, "$defs": definitions}) for rule in config_rules()[key]]
        assert any(rule.is_valid(yaml.safe_load(value)) for rule in rules)


@cache
def acdc_flags() -> dict[str, set[str]]:
    """Return the flags of every command of acdc."""
    root = app()
    names = [name for name in root if not name.startswith("-")]
    return {
        name: {flag for argument in root[name].assemble_argument_collection() for flag in argument.names}
        for name in names
    }


@cache
def other_flags() -> set[str]:
    """Return the flags of Snakemake, of its plugin for Slurm, of pip and containers, and of our scripts."""
    scripts = [*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("docs/*.py")]
    own = {flag for file in scripts for flag in re.findall(r"\"(--[\w-]+)\"", file.read_text())}
    others = {"--index-url", "--build-arg", "--isolation", "--slurm-status-command"}
    return own | others | set(re.findall(r"--[\w-]+", get_argument_parser().format_help()))


def flags(text: str) -> Iterator[str]:
    """Yield flags that the text speaks of, with the command of acdc where it stands before them."""
    for first, *rest in map(str.split, spans(text)):
        flags = [word for word in rest if word.startswith("--")]
        if first.startswith("--") or (first in acdc_flags() and flags):
            yield " ".join([first, *flags])


@pytest.mark.parametrize("text", of_pages(flags))
def test_a_flag_exists(text):
    first, *rest = text.split()
    if first in acdc_flags():
        assert set(rest) <= acdc_flags()[first]
    else:
        assert {first, *rest} <= set.union(other_flags(), *acdc_flags().values())


# Files.

FILE = re.compile(r"(acdc|benchmarks|docs|notebooks|profiles|tests|workflow)/[\w./*<>-]+(?=$|::)")
MADE = ("docs/api", "workflow/extensions/", "workflow/rules/tasks/", "acdc/tasks/<name>.py")
"""Paths that a command or the reader makes."""


def files(text: str) -> Iterator[str]:
    """Yield the files of the repository that the text names."""
    yield from (found[0] for span in spans(text) if (found := FILE.match(span)) and not span.startswith(MADE))


@pytest.mark.parametrize("name", of_pages(files))
def test_a_file_exists(name):
    assert list(ROOT.glob(re.sub("<.*?>", "*", name)))


RESULT = re.compile(r"(data|figures|results)/(\w+|{study})/[\w./-]+")


def results(text: str) -> Iterator[str]:
    """Yield the files of studies that the text names in full."""
    yield from filter(RESULT.fullmatch, spans(text))


@pytest.mark.parametrize("name", of_pages(results))
def test_a_result_is_made(name):
    assert is_made(name)


def is_made(name: str) -> bool:
    """Return whether a file or a folder is of a study that ships, or whether a page shows the study."""
    top, owner, rest = name.split("/", 2)
    owners = CONFIGS if owner == "{study}" else [owner]
    if owner in shown_configs() or f"{top}/{{study}}/{rest}" in outputs():
        return True
    return any(made.startswith(f"{top}/{one}/{rest}") for one in owners for made in files_of(one))


@cache
def outputs() -> str:
    """Return the text of the rules, with the patterns of paths that they share."""
    files = [ROOT / "acdc/study.py", *(ROOT / "workflow/rules").glob("*.smk")]
    return " ".join([*(PROMPTS.replace("{key}", key) for key in PROMPT_KEYS), *(file.read_text() for file in files)])


# Python.

ROOTS = {"acdc": acdc, "found": acdc.Found, "loaded": acdc.Found, "model": acdc.Model, "prompts": acdc.Dataset}
"""Objects of the package by the names that pages give them."""
TRIED = {
    "README.md": "tests/test_package.py",
    "docs/extending.md": "tests/test_extending.py",
    "docs/guide.md": "test_the_guides_new_task_runs",
    "docs/known_circuits.md": "test_the_program_is_the_files",
    "docs/python.md": "test_the_page_for_notebooks_runs",
}
"""Where the Python blocks of a page are run."""


def test_every_block_of_python_is_run_somewhere():
    assert {page for page, text in TEXTS.items() if blocks(text, "python")} == set(TRIED)


def expressions(text: str) -> list[str]:
    """Return the spans that use something by a name of ``ROOTS``, in order."""
    used = [span for span in spans(text) if re.match(rf"@?({'|'.join(ROOTS)})[.\[(]", span)]
    return [span for span in used if is_python(span) and span.rpartition(".")[2] not in ENDINGS]


def is_python(span: str) -> bool:
    try:
        ast.parse(span.removeprefix("@"), mode="eval")
    except SyntaxError:
        return False
    return True


def pythons(text: str) -> list[str]:
    return [*blocks(text, "python"), *expressions(text)]


@pytest.mark.parametrize("code", of_pages(pythons))
def test_names_and_keywords_exist(code):
    nodes = list(ast.walk(ast.parse(code.removeprefix("@"))))
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    known = {name: whole for name, whole in ROOTS.items() if name not in arguments}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("acdc"):
            known |= {alias.name: part(thing(node.module or ""), alias.name) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Call):
            check_call(node, known)
        elif isinstance(node, ast.Attribute):
            named(node, known)


def named(node: ast.expr, known: dict[str, Any]) -> Any:
    """Return what an expression names; None for what only a run can tell."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and (whole := named(node.value, known)) is not None:
        return part(whole, node.attr)
    return None


def check_call(node: ast.Call, known: dict[str, Any]) -> None:
    """Fail where a function that is known does not take a keyword."""
    function = named(node.func, known)
    if callable(function):
        parameters = inspect.signature(function).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        assert takes_any or {keyword.arg for keyword in node.keywords} <= set(parameters)


@pytest.mark.parametrize("heading", re.findall(r"^## \w+: `(acdc\.\w+\(.*\))`$", PYTHON, re.MULTILINE))
def test_a_signature_is_the_functions(heading):
    name, given = re.fullmatch(r"acdc\.(\w+)\((.*)\)", heading).groups()
    (written,) = ast.parse(f"def f({given.removesuffix(', ...')}): pass").body
    real = inspect.signature(getattr(acdc, name)).parameters
    arguments = [*written.args.args, *written.args.kwonlyargs]
    names = [argument.arg for argument in arguments]
    assert names == list(real)[: len(names)] and (given.endswith(", ...") or len(names) == len(real))
    defaults = [*written.args.defaults, *written.args.kw_defaults]
    for argument, default in zip(arguments[-len(defaults) :], defaults, strict=True):
        assert default is None or ast.literal_eval(default) == real[argument.arg].default


def test_the_program_is_the_files():
    page, file = TEXTS["docs/known_circuits.md"], "acdc/models/toy/tracr_sort.py"
    (block,) = blocks(page, "python")
    assert file in page and block in (ROOT / file).read_text()


NEED_FILES = ('acdc.load_model("', "acdc.load(path", 'acdc.load("circuits.json"', "acdc.Sweep.load(path)")


def test_the_page_for_notebooks_runs(tmp_path, monkeypatch):
    """Its block, and every expression in its text, on a small model of the words in it."""
    (block,) = blocks(PYTHON, "python")
    tokenizer = word_tokenizer(re.findall(r"\w+", block))
    hugging_face = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **LLAMA))
    scope: dict[str, Any] = {"acdc": acdc, "model": acdc.load_model(hugging_face, tokenizer)}
    monkeypatch.chdir(tmp_path)
    exec(block, scope)
    assert len(scope["prompts"]) == 3
    scope |= {"held_out": scope["prompts"][2:], "tokenizer": tokenizer, "bridge": scope["model"].bridge}
    scope["found"] = acdc.find(scope["model"], scope["prompts"][:2], metric="logit_difference", threshold=0.1)
    scope["found"].save("circuit.json")
    scope["loaded"] = acdc.load("circuit.json")
    for text in expressions(PYTHON):
        if "..." not in text and "*," not in text and not text.startswith(NEED_FILES):
            eval(text, scope | {"model": hugging_face} if "tokenizer" in text else scope)
    assert Path("circuit.html").stat().st_size > 1000
    plt.close("all")
