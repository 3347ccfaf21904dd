"""Define the commands that print circuits."""

from __future__ import annotations

from pathlib import Path

from cyclopts.types import PositiveInt

from acdc.errors import InputError
from acdc.found import Found
from acdc.tables import read_table, using
from acdc.trace import read_nodes


def show(
    circuit: Path,
    /,
    *,
    value: str | None = None,
    trace: Path | None = None,
    nodes: Path | None = None,
    most: PositiveInt = 40,
) -> None:
    """Print a circuit: how it was found, its nodes, and its nodes and edges by effect or score.

    Try:
      python -m acdc show results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json
      python -m acdc show results/test/tiny-llama/ioi/logit_difference/corrupted/eap/circuits.json --value 9

    Args:
        circuit: a circuit.json, or a circuits.json
        value: which of several circuits in the file: the value that sets its size
        trace: the circuit's trace.csv, for the effects of edges
        nodes: the table of the command nodes, for the effects of nodes
        most: the largest number of nodes, and of edges, to print
    """
    from rich.console import Console

    from acdc.cli.terminal import shown

    found = Found.load(circuit, trace, value=value)
    by_value = read_nodes([nodes]) if nodes else {}
    Console().print(shown(found, by_value.get(found.value, {}), most), soft_wrap=True)


def diff(
    first: Path,
    second: Path,
    /,
    *,
    first_value: str | None = None,
    second_value: str | None = None,
    most: PositiveInt = 40,
) -> None:
    """Compare two circuits of one model: print their overlap and the edges that only one of them has.

    Args:
        first: a circuit.json, or a circuits.json
        second: another, or the same circuits.json again
        first_value: which of several circuits in the first file: the value that sets its size
        second_value: which of several circuits in the second file
        most: the largest number of edges to print of each circuit
    """
    from rich.console import Console

    from acdc.cli.terminal import compared

    a, b = Found.load(first, value=first_value).circuit, Found.load(second, value=second_value).circuit
    if a.graph != b.graph:
        raise InputError(f"{first} and {second} are circuits of two models: their graphs differ")
    Console().print(compared(a, b, most), soft_wrap=True)


def log(*, circuit: Path, trace: Path) -> None:
    """Print a trace in the form of the original implementation's log.

    Args:
        circuit: circuit.json of ACDC
        trace: the circuit's trace.csv
    """
    from acdc.trace import original_lines

    graph = Found.load(circuit, trace).circuit.graph
    with using(trace):
        lines = list(original_lines(read_table(trace), graph))
    print(*lines, sep="\n")
