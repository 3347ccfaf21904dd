"""Read prompts from files of several formats and from tables in memory, without torch, so that a config is checked.

A row holds a clean prompt, its corrupted prompt, and the answers that are correct and incorrect after the clean prompt.
Files are CSV, TSV, JSON, JSONL or Parquet. Files that EAP-IG, auto-circuit and MIB ship are read as they are.
"""

from __future__ import annotations

import ast
import csv
import json
import operator
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from acdc.errors import InputError, first_line, reading
from acdc.labels import Labels, Span

MOST_PROMPTS = 10**6
"""The largest number of prompts in a dataset: larger numbers are typing errors, and would take days."""
COLUMNS = ("clean", "corrupted", "correct", "incorrect")
LABELS = ("clean_labels", "corrupted_labels")
"""The optional columns of labels: by label, the span of a word in the prompt, {"country": [15, 21]}."""
END = "END"
"""The label of the scored position, for prompts with one scored position."""
SEPARATOR = "|"
"""The separator of several answers in an entry of a CSV or TSV file."""
OF_IDS = ("_id", "_ids", "_idx")
"""The suffixes of columns in a CSV or TSV file whose numbers are token ids."""
CORRUPTED = {"clean": "clean", "corrupted": "corrupted"}
LAYOUTS: tuple[dict[str, str], ...] = (
    {name: name for name in COLUMNS},
    # EAP-IG: indirect objects, genders, countries, hypernyms.
    {**CORRUPTED, "correct": "correct_idx", "incorrect": "incorrect_idx"},
    {**CORRUPTED, "correct": "clean_answer_idx", "incorrect": "corrupted_answer_idx"},
    {**CORRUPTED, "correct": "country_idx", "incorrect": "corrupted_country_idx"},
    {**CORRUPTED, "correct": "answers_idx", "incorrect": "corrupted_answers_idx"},
    # auto-circuit.
    {"clean": "clean", "corrupted": "corrupt", "correct": "answers", "incorrect": "wrong_answers"},
    # MIB's circuit track: indirect objects, arithmetic, and questions with choices (colours, ARC).
    {
        **{"clean": "prompt", "corrupted": "s2_io_flip_counterfactual.prompt"},
        **{"correct": " {metadata.indirect_object}", "incorrect": " {metadata.subject}"},
    },
    {
        **{"clean": "prompt", "corrupted": "random_counterfactual.prompt"},
        **{"correct": "{label}", "incorrect": "{random_counterfactual.label}"},
    },
    {
        **{"clean": "prompt", "corrupted": "symbol_counterfactual.prompt"},
        # In braces, for some labels are numbers there, which are no token ids.
        "correct": "{choices.label[answerKey]}",
        "incorrect": "{symbol_counterfactual.choices.label[symbol_counterfactual.answerKey]}",
    },
)
"""The names of our columns in known files. For the form of a name, see ``values``."""
CHOSEN = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
"""The form of an entry of a list by its number: ``choices.label[answerKey]``."""


class Prompt(NamedTuple):
    """Hold a clean prompt, its corrupted prompt, and its correct and incorrect answers.

    Attributes:
        clean, corrupted: texts, or lists of token ids.
        correct, incorrect: an answer or a list of answers: a text as it stands after the clean text, with its space
            where one belongs there; or a token id.
        where: the file and the row, for messages.
        first_token: whether an answer's text is encoded by itself, and its first token is the answer.
        labels: the labelled words of the two prompts.
    """

    clean: Any
    corrupted: Any
    correct: Any
    incorrect: Any
    where: str = ""
    first_token: bool = False
    labels: Labels = MappingProxyType({})


class Table(NamedTuple):
    """Hold a table from which prompts are read.

    Attributes:
        names: the names of its columns.
        column: a function that returns a column by name, with an entry per row; None where a row lacks it.
        where: the beginning of messages about the table.
        is_text: whether all entries are texts, as in a CSV file, so that lists and token ids are parsed from texts.
    """

    names: Sequence[str]
    column: Callable[[str], Sequence[Any]]
    where: str
    is_text: bool = False


# Prompts.


def read(source: Any, columns: Mapping[str, str] | None = None, *, skip_empty: bool = False) -> list[Prompt]:
    """Return the prompts in a file or a table, in its order.

    Args:
        source: the path of a file; or columns by name: a dictionary, a pandas DataFrame, a ``datasets.Dataset``.
        columns: for ``clean``, ``corrupted``, ``correct`` and ``incorrect`` the name in the source, if it has none of
            the known layouts. A name is a column's name, a path into nested entries (``metadata.subject``), an entry of
            a nested list whose number is in another column (``choices.label[answerKey]``), or a text with these in
            braces (``" {metadata.subject}"``).
        skip_empty: whether rows that lack one of the four are left out.

    Raises:
        InputError: the file does not exist or cannot be read, a column is missing, or an entry is empty or neither text
            nor token ids.
    """
    table = of_file(Path(source)) if isinstance(source, (str, Path)) else in_memory(source)
    layout = layout_of(table, columns or {})
    entries = {name: values(table, layout[name]) for name in COLUMNS}
    lengths = {name: len(column) for name, column in entries.items()}
    if len(set(lengths.values())) > 1 or not lengths["clean"]:
        said = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise InputError(f"{table.where}prompts need one entry of each kind: there are {said}")
    given = [list(table.column(name)) if name in table.names else [None] * lengths["clean"] for name in LABELS]
    rows = enumerate(zip(zip(*entries.values(), strict=True), zip(*given, strict=True), strict=True), 1)
    kept = ((i, row, of_row) for i, (row, of_row) in rows if not (skip_empty and any(map(is_missing, row))))
    return [labels_of(prompt(table, layout, row, f"{table.where}row {i}: "), of_row) for i, row, of_row in kept]


def layout_of(table: Table, columns: Mapping[str, str]) -> dict[str, str]:
    """Return for each of ``COLUMNS`` its name in a table, as the user gives it or as in the first layout that fits.

    Raises:
        InputError: the table has none of the layouts.
    """
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise InputError(f"there is no column {unknown[0]} to name: prompts have {', '.join(COLUMNS)}")
    if wrong := [written for written in columns.values() if not isinstance(written, str)]:
        raise InputError(f"columns are named by texts, and {wrong[0]!r} is none")
    layouts = [{**layout, **columns} for layout in LAYOUTS]
    for layout in layouts:
        if not any(missing(table, written) for written in layout.values()):
            return layout
    lacking = next(name for written in layouts[0].values() for name in missing(table, written))
    raise InputError(
        f"{table.where}there is no column {lacking}: it needs {', '.join(COLUMNS)}, or columns to say which of its own "
        f"they are ({', '.join(map(str, table.names))})"
    )


def missing(table: Table, written: str) -> list[str]:
    """Return the columns that an expression of ``values`` needs and a table lacks."""
    if written in table.names:
        return []
    fields = re.findall(r"\{([^{}]+)\}", written) or [written]
    chosen = ((field, CHOSEN.fullmatch(field)) for field in fields)
    paths = [path for field, parts in chosen for path in (parts.groups() if parts else [field])]
    return [path for path in paths if path not in table.names and path.partition(".")[0] not in table.names]


def values(table: Table, written: str) -> list[Any]:
    """Return a value per row: of a column, of a path into nested entries, or of a text with these in braces."""
    if written in table.names:
        return list(table.column(written))
    fields = re.findall(r"\{([^{}]+)\}", written)
    if fields:
        parts = [values(table, field) for field in fields]
        return [filled(written, row) for row in zip(*parts, strict=True)]
    if chosen := CHOSEN.fullmatch(written):
        return [entry_of(*row) for row in zip(*(values(table, part) for part in chosen.groups()), strict=True)]
    name, *path = written.split(".")
    return [inside(entry, path) for entry in table.column(name)]


def entry_of(entries: Any, number: Any) -> Any:
    """Return the entry of a list at a number; None if there is none."""
    try:
        return list(entries)[operator.index(number)]
    except (TypeError, IndexError):
        return None


def filled(written: str, parts: Iterable[Any]) -> str | None:
    """Return a text with its braces filled in order; None if a part is missing."""
    rest = [None if is_missing(part) else str(part) for part in parts]
    if None in rest:
        return None
    filling = iter(rest)
    return re.sub(r"\{[^{}]+\}", lambda _: str(next(filling)), written)


def inside(entry: Any, path: Iterable[str]) -> Any:
    """Return the entry at a path in nested entries; None if there is none."""
    for name in path:
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    return entry


def prompt(table: Table, layout: Mapping[str, str], row: Sequence[Any], where: str) -> Prompt:
    """Return a row of a table as a prompt, see ``read``."""
    places = [f"{where}{layout[name]} " for name in COLUMNS]
    for place, entry in zip(places, row, strict=True):
        if is_missing(entry):
            raise InputError(f"{place}is empty: fill it in or remove the row")
    clean, corrupted = (tokens_or_text(table, *pair) for pair in zip(row[:2], places[:2], strict=True))
    if isinstance(clean, str) != isinstance(corrupted, str):
        raise InputError(f"{where}the clean and the corrupted prompt are both texts or both token ids: one is each")
    of_ids = not isinstance(clean, str)
    as_ids = [of_ids or layout[name].endswith(OF_IDS) for name in COLUMNS[2:]]
    correct, incorrect = (
        answers(table, entry, ids, place) for entry, ids, place in zip(row[2:], as_ids, places[2:], strict=True)
    )
    return Prompt(clean, corrupted, correct, incorrect, where)


def labels_of(one: Prompt, entries: Sequence[Any]) -> Prompt:
    """Return a prompt with the labels that a row's entries of ``LABELS`` state."""
    clean, corrupted = (
        spans(entry, text, f"{one.where}{name} ") for entry, text, name in zip(entries, one[:2], LABELS, strict=True)
    )
    names = dict.fromkeys([*clean, *corrupted])
    return one._replace(labels={name: (clean.get(name), corrupted.get(name)) for name in names})


def spans(entry: Any, text: str | list[int], where: str) -> dict[str, Span]:
    """Return the span of each labelled word in a prompt; raise InputError if the entry states none."""
    if is_missing(entry):
        return {}
    try:
        found = json.loads(entry) if isinstance(entry, str) else entry
        pairs = {str(name): tuple(map(operator.index, span)) for name, span in found.items() if span is not None}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f'{where}has {entry!r}: write it as {{"country": [15, 21]}}') from None
    for name, span in pairs.items():
        if len(span) != 2 or not 0 <= span[0] < span[1] <= len(text):
            raise InputError(f"{where}has {name} at {list(span)}: it is the first character and the one after the last")
        if name in ("", END):
            raise InputError(f"{where}has a label {name!r}: {END} is the scored position's, and others have a name")
    return {name: (span[0], span[1]) for name, span in pairs.items()}


def is_missing(entry: Any) -> bool:
    """Return whether an entry is missing: None, an empty text, or the NaN of pandas."""
    return entry is None or (isinstance(entry, str) and not entry) or (isinstance(entry, float) and entry != entry)


def tokens_or_text(table: Table, entry: Any, where: str) -> str | list[int]:
    """Return a clean or corrupted prompt: a text, or the token ids in a list."""
    ids = written_list(entry) if table.is_text else entry
    if isinstance(ids, str) or (table.is_text and not all(type(token) is int for token in ids)):
        return entry
    return [token_id(token, where) for token in listed(ids)]


def answers(table: Table, entry: Any, as_ids: bool, where: str) -> list[str | int]:
    """Return the answers in an entry: a list, one answer, or several with ``SEPARATOR`` between them in a CSV file.

    Args:
        as_ids: whether texts of numbers are token ids.
    """
    given = written_list(entry) if table.is_text else entry
    if table.is_text and isinstance(given, str):
        given = given.split(SEPARATOR)
    found = [answer if isinstance(answer, str) else token_id(answer, where) for answer in listed(given)]
    if not found or "" in found:
        raise InputError(f"{where}has an answer that is empty: a space is written as a space, several are split by |")
    return [written_id(answer, where) if as_ids and isinstance(answer, str) else answer for answer in found]


def listed(given: Any) -> list[Any]:
    """Return a list of one value or of several."""
    is_one = isinstance(given, str) or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) == 0
    return [given] if is_one else list(given)


def written_list(entry: str) -> Any:
    """Return the list that a text states, in JSON or in Python's notation; the text itself if it states none."""
    if not (entry.startswith("[") and entry.endswith("]")):
        return entry
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(entry)
        except (ValueError, SyntaxError):
            continue
        return found if isinstance(found, list) else entry
    return entry


def token_id(value: Any, where: str) -> int:
    """Return a token id as an int; raise InputError for anything but a whole number of 0 or more."""
    try:
        token = operator.index(value)
    except TypeError:
        token = -1
    if token < 0 or isinstance(value, bool):
        raise InputError(f"{where}has {value!r}, which is neither a text nor a token id")
    return token


def written_id(text: str, where: str) -> int:
    """Return the token id that a text states; raise InputError if it states none."""
    if not text.strip().isdecimal():
        raise InputError(f"{where}has {text!r}, which is no token id, as the prompts or the column's name say it is")
    return int(text)


# Prompts of a task.


def in_order(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Return the prompts in a random order that a seed determines."""
    return random.Random(seed).sample(prompts, len(prompts))


def distinct_prompts(path: Path, columns: Mapping[str, str] | None = None, *, skip_empty: bool = False) -> list[Prompt]:
    """Return the distinct prompts in a file, so that no prompt is both searched and tested on; see ``read``."""
    first: dict[str, Prompt] = {}
    for one in read(path, columns, skip_empty=skip_empty):
        first.setdefault(repr(one[:4]), one)
    return list(first.values())


def held_out(
    prompts: Sequence[Prompt], path: Path, columns: Mapping[str, str] | None = None, *, skip_empty: bool = False
) -> list[Prompt]:
    """Return the distinct prompts in a second file that are not among those of the first.

    Raises:
        InputError: the file cannot be read, see ``read``, or has texts where the first file has token ids.
    """
    others = distinct_prompts(path, columns, skip_empty=skip_empty)
    if prompts and others and isinstance(prompts[0].clean, str) != isinstance(others[0].clean, str):
        raise InputError(f"{path} and the prompts for discovery are both texts or both token ids: one is each")
    known = {repr(one[:4]) for one in prompts}
    return [one for one in others if repr(one[:4]) not in known]


def check_count(prompts: Sequence[Prompt], path: Path, n_prompts: int, n_test_prompts: int = 0) -> None:
    """Check that a file has as many distinct prompts as a task asks for; raise InputError if not."""
    if n_prompts + n_test_prompts > len(prompts):
        held_out = f" and n_test_prompts {n_test_prompts}" if n_test_prompts else ""
        raise InputError(
            f"{path} has {len(prompts)} distinct prompts and n_prompts {n_prompts}{held_out} ask for "
            f"{n_prompts + n_test_prompts}: ask for fewer or add rows"
        )


def check_held_out(prompts: Sequence[Prompt], path: Path, n_test_prompts: int) -> None:
    """Check that a second file has the held-out prompts that a task asks for, at least one; raise InputError if not."""
    if not 0 < n_test_prompts <= len(prompts):
        raise InputError(
            f"{path} has {len(prompts)} distinct prompts that are not among those for discovery, and n_test_prompts is "
            f"{n_test_prompts}: ask for 1 to {len(prompts)}, or add rows"
        )


# Tables.


def in_memory(source: Any) -> Table:
    """Return a table of columns by name: from a dictionary, a pandas DataFrame or a ``datasets.Dataset``."""
    names = getattr(source, "column_names", None)
    names = list(source if names is None else names)
    return Table(names, lambda name: list(source[name]), "")


def of_file(path: Path) -> Table:
    """Read a file as a table.

    Raises:
        InputError: the file does not exist, is of no known format, or is broken.
    """
    check_kind(path)
    kind = path.suffix.lower()
    if not path.exists():
        raise InputError(f"the file of prompts {path} does not exist: check the path")
    with reading(path, "save it again"):
        try:
            records = READERS[kind](path)
        except UnicodeDecodeError:
            raise InputError(f"{path} is not in UTF-8: save it as UTF-8") from None
        except (json.JSONDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read: {first_line(error)}") from None
    if not records:
        raise InputError(f"{path} has no prompts: give it a row for each")
    names = list(dict.fromkeys(name for record in records for name in record))
    return Table(names, lambda name: [record.get(name) for record in records], f"{path}: ", kind in SEPARATED)


def check_kind(path: Path) -> None:
    """Check that a file's name ends as a file of prompts does; raise InputError if not."""
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} is no file of prompts: its name must end in {', '.join(READERS)}")


def of_separated(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV or TSV file, with every entry as its text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=SEPARATED[path.suffix.lower()], strict=True)
        rows: list[dict[Any, Any]] = list(reader)
    for i, row in enumerate(rows, 1):
        beyond = row.pop(None, [])  # where DictReader puts entries beyond the header
        n_entries = sum(entry is not None for entry in row.values()) + len(beyond)
        if n_entries != len(row):
            raise InputError(
                f"{path}: row {i} has {n_entries} entries and the header {len(row)}: put texts with commas in quotes"
            )
    return rows


def of_json(path: Path) -> list[dict[str, Any]]:
    """Read the prompts in a JSON file: a list of them, alone or under the key ``prompts``, or a list per column."""
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    found = found.get("prompts", found) if isinstance(found, dict) else found
    if isinstance(found, dict) and all(isinstance(column, list) for column in found.values()):
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return objects(found, path)


def of_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the prompts in a file that has one JSON object per line."""
    found = []
    for i, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{path}: line {i} is no JSON: {first_line(error)}") from None
    return objects(found, path)


def of_parquet(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file; raise InputError if the package pyarrow is missing.

    Pandas is not used: where an entry is missing, it turns whole numbers in nested entries into floats.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path} needs the package pyarrow: install it, or save the table as .jsonl") from None
    return parquet.read_table(path).to_pylist()


def objects(found: Any, path: Path) -> list[dict[str, Any]]:
    """Return a list of objects unchanged; raise InputError for anything else."""
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise InputError(f"{path} has no list of prompts: each is an object such as {{'clean': ..., 'corrupted': ...}}")
    return found


SEPARATED = {".csv": ",", ".tsv": "\t"}
READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    **dict.fromkeys(SEPARATED, of_separated),
    **{".json": of_json, ".jsonl": of_json_lines, ".parquet": of_parquet},
}
"""The function that reads a file, by the suffix of its name."""
