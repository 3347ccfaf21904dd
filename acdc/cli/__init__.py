"""Build the command line: one command per rule of the workflow, and some for direct use.

A command is a typed function with a docstring, from which cyclopts makes flags and help. Cyclopts was chosen over typer
because a flag may take a list (``--values 0.1 0.3``), a dataclass may hold the flags that commands share, and a
command's module is imported only when that command is called.
"""

from __future__ import annotations

import ast
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TextIO

from cyclopts import App, Group, Parameter

from acdc import __version__
from acdc.errors import InputError, first_line
from acdc.files import sentence_of

PIPE_CLOSED = 141
"""The exit status for a closed pipe, as shells count it: 128 plus the signal's number."""
COMMANDS = {
    "Circuits, from a model and prompts": ("finding:find",),
    "A study": ("checking:check",),
    "Models and prompts": (
        *("making:download", "making:model"),
        *("making:prompts", "making:dataset", "making:behaviour", "making:retrain"),
    ),
    "Stages that find circuits": ("finding:circuits", "finding:stability"),
    "What circuits do": (
        "measuring:evaluate",
        "measuring:controls",
        "measuring:nodes",
        "measuring:significance",
        "measuring:mib",
        "measuring:heads",
        "measuring:agreement",
    ),
    "Tables": (
        *("tabulating:table", "tabulating:faithfulness", "tabulating:methods"),
        *("tabulating:auc", "tabulating:auc_tables", "tabulating:readable"),
    ),
    "Figures": (
        *("drawing:roc", "drawing:pareto", "drawing:curves", "drawing:cost", "drawing:trained_and_reset"),
        *("drawing:draw", "drawing:page", "drawing:collection"),
    ),
    "Circuits to look at and to exchange": (
        *("looking:show", "looking:diff", "looking:log", "exchanging:export", "exchanging:import_"),
    ),
}
"""Commands by group, as ``module:function`` of this package."""


def app() -> App:
    """Build the command line without importing any command's module."""
    # A flag may be given as a list; a switch has no --no-switch.
    flags = Parameter(consume_multiple=True, negative=())
    root = App(
        name="acdc",
        help="Find circuits in transformers (Conmy et al. 2023), and measure and draw them.\n\n"
        "The workflow calls these commands with paths that it makes from the config. Every call is in .snakemake/log: "
        "it can be pasted and changed. `acdc COMMAND --help` says what a command reads and writes.",
        version=__version__,
        default_parameter=flags,
        help_format="plaintext",
        error_formatter=lambda error: f"acdc: {error}",
        result_action="return_value",
    )
    for i, (title, functions) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=i)
        for j, place in enumerate(functions):
            module, _, function = place.partition(":")
            name = function.rstrip("_").replace("_", "-")
            help_line = first_lines(module)[function]
            root.command(f"acdc.cli.{place}", name=name, group=group, sort_key=j, help=help_line)
    return root


@cache
def first_lines(module: str) -> dict[str, str]:
    """Return the first docstring line of every function in a module of this package, without importing the module."""
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in functions}


def say(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning on one line, without the code that gave it."""
    print(f"acdc: warning: {message}", file=file or sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; report bad input in one sentence, with exit status 1.

    Args:
        arguments: the words of the command line; None for those of the process.
    """
    warnings.showwarning = say
    try:
        app()(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output wanted no more of it, as `head` does. Python must not flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except KeyboardInterrupt:
        sys.exit("acdc: stopped: the same command goes on from the last checkpoint, where it writes one")
    except (InputError, ArithmeticError) as error:
        sys.exit(f"acdc: {error}")
    except OSError as error:
        sys.exit(f"acdc: {sentence_of(error)}")
    except MemoryError as error:
        sys.exit(f"acdc: there is too little memory ({first_line(error)}): take a machine with more, or fewer prompts")
