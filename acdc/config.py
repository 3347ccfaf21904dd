"""Read configs, check them against their schema, and fill in what they leave out.

A config says what a study has; ``acdc.study`` makes searches and files of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from acdc.catalogue import ABLATIONS, METHODS, MOST_SEED, methods
from acdc.errors import InputError, first_line
from acdc.models.pinned import wheel_of
from acdc.prompt_files import MOST_PROMPTS

SCHEMA = Path("workflow/schemas/config.schema.yaml")
DEFAULT = Path("workflow/config/default.yaml")
PROMPT_KEYS = ("prompts", "test_prompts")
"""Keys of tasks that are files of prompts."""
PATHS = ("folder", "module", *PROMPT_KEYS)
"""Keys of models and tasks that are paths."""


def read_configs(paths: Iterable[Path], root: Path) -> dict[str, Any]:
    """Read configs over the default config: maps are merged and everything else is replaced, as Snakemake does.

    Raises:
        InputError: a file cannot be read, is no YAML, or has a key twice; the message names it and the line.
    """
    config: dict[str, Any] = {}
    for path in (root / DEFAULT, *paths):
        check_keys(path)
        config = merged(config, yaml.safe_load(path.read_text(encoding="utf-8")))
    return config


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with another one over it: maps are merged, lists and values are replaced."""
    both = {
        key: merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **over, **both}


def check_keys(path: Path) -> None:
    """Check that a file is YAML of keys and values, with each key once; YAML itself keeps the last of two.

    Raises:
        InputError: it is not; the message names the file and the line.
    """

    def visit(node: yaml.Node | None) -> None:
        if isinstance(node, yaml.SequenceNode):
            for entry in node.value:
                visit(entry)
        if not isinstance(node, yaml.MappingNode):
            return
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if first := lines.get(str(key.value)):
                raise InputError(f"{path}: key {key.value!r} stands twice, in lines {first} and {line}: keep one")
            lines[str(key.value)] = line
            visit(value)

    try:
        text = path.read_text(encoding="utf-8")
        whole = yaml.compose(text, yaml.SafeLoader)
        yaml.safe_load(text)  # raises for tags that are not plain YAML's
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(
            f"{path}{where}: this is no YAML ({error.problem}): mend it there or in the line above"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"config {path} cannot be read ({first_line(error)}): it must be a file of YAML") from None
    if not isinstance(whole, yaml.MappingNode):
        raise InputError(f"config {path} has no keys: it must hold some, such as `study: mine`")
    visit(whole)


def schema(root: Path) -> dict[str, Any]:
    """Return the schema of configs, with the catalogue's declarations filled in."""
    found = yaml.safe_load((root / SCHEMA).read_text(encoding="utf-8"))
    parts = found["$defs"]
    parts["ablations"]["items"]["enum"] = list(ABLATIONS)
    for key in ("n_prompts", "n_test_prompts"):
        parts["task"]["properties"][key]["maximum"] = MOST_PROMPTS
    parts["seed"]["maximum"] = MOST_SEED
    search = parts["search"]["properties"]
    search["scores"]["items"]["enum"] = [method.name for method in methods("score")]
    significance = found["properties"]["significance"]["properties"]
    significance["seed"]["maximum"] = MOST_SEED
    significance["methods"]["items"]["enum"] = list(METHODS)
    search |= {method.values_key: {"$ref": "#/$defs/values"} for method in methods("search")}
    parts["methods"]["properties"] = {
        name: {
            "type": "object",
            "additionalProperties": False,
            # A default here would hide that of the whole study in a task's own settings.
            "properties": {s.name: {k: v for k, v in s.schema().items() if k != "default"} for s in method.settings},
        }
        for name, method in METHODS.items()
    }
    return found


def is_integer(checker: jsonschema.TypeChecker, value: Any) -> bool:
    """Return whether a value is a whole number as commands take it, which 2.0 is not."""
    return isinstance(value, int) and not isinstance(value, bool)


VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer),
)
"""Checks configs."""


def completed(config: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return a config as studies hold it: checked, with every default, pinned wheels, and paths from the home folder.

    Args:
        config: the config, as Snakemake merged it.
        root: the folder of the repository, which has the schema.

    Raises:
        InputError: the config is wrong; one sentence names the key and the remedy.
    """
    rules = schema(root)
    return at_home(with_pins(with_defaults(rules, validated(config, rules))))


def validated(config: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the config; raise InputError if it violates the schema."""
    errors = list(VALIDATOR(rules).iter_errors(config))
    if errors:
        error = jsonschema.exceptions.best_match(errors)
        raise InputError(f"{describe_key(config, list(error.absolute_path))} is wrong: {explain(error)}")
    return copy.deepcopy(dict(config))


def with_defaults(rules: Mapping[str, Any], value: Any, whole: Mapping[str, Any] | None = None) -> Any:
    """Return a valid value with the schema's defaults for missing entries."""
    whole = whole or rules
    rules = resolved(rules, whole)
    if isinstance(value, list) and "items" in rules:
        return [with_defaults(rules["items"], item, whole) for item in value]
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for key, rule in rules.get("properties", {}).items():
        rule = resolved(rule, whole)
        if key in filled or "default" in rule:
            filled[key] = with_defaults(rule, filled.get(key, copy.deepcopy(rule.get("default"))), whole)
    return filled


def with_pins(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config in which every pinned model has the wheels of that pin.

    Raises:
        InputError: no model of that name is pinned.
    """
    models = [
        {**without(entry, "pinned"), **wheel_of(entry["pinned"])} if "pinned" in entry else entry
        for entry in config["models"]
    ]
    return {**config, "models": models}


def at_home(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config in which ~ at the beginning of a path is the user's home folder."""

    def expanded(entry: dict[str, Any]) -> dict[str, Any]:
        paths = {key: str(Path(entry[key]).expanduser()) for key in PATHS if str(entry.get(key, "")).startswith("~")}
        return entry | paths

    return config | {kind: [expanded(entry) for entry in config[kind]] for kind in ("models", "tasks")}


def without(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an entry of the config without one key."""
    return {name: value for name, value in entry.items() if name != key}


def resolved(rule: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a rule of the schema, with a reference replaced by its definition."""
    return whole["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule


def describe_key(config: Any, path: list[str | int]) -> str:
    """Return the place of a key as a text, such as ``key 'tasks[1] (ioi).thresholds[0]'``."""
    text, value = "", config
    for part in path:
        value = value[part]
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        if isinstance(part, int) and isinstance(value, dict) and "name" in value:
            text += f" ({value['name']})"
    return f"key '{text}'" if text else "the top level"


def explain(error: jsonschema.ValidationError) -> str:
    """Return the validator's message; for a pattern, a description of it."""
    rules = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "pattern" or (error.validator == "type" and "pattern" in rules):
        return f"{error.instance!r} is not {rules.get('description', 'of the form ' + rules['pattern'])}"
    if error.validator == "oneOf":
        return "a model has one source: pinned, wheel (with file and sha256), hub, folder, build or reset (with seed)"
    if error.validator == "dependentRequired":
        return "file and sha256 go with wheel, revision goes with hub, seed and head_outputs go with reset"
    return error.message
