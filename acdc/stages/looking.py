"""Circuits in a terminal."""

from __future__ import annotations

from pathlib import Path

from acdc.errors import InputError
from acdc.stages.files import read_circuit, read_effects


def log(circuit: Path, trace: Path) -> None:
    """Print a trace in the form of the original implementation's log."""
    import pandas as pd

    from acdc.trace import original_lines

    for line in original_lines(pd.read_csv(trace), read_circuit(circuit)[2].graph):
        print(line)


def show(circuit: Path, most: int) -> None:
    """Print a circuit: where it is from, its nodes, and its edges by their effect.

    Example:
      python -m acdc show results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json
    """
    from rich.console import Console

    from acdc.terminal import shown

    settings, result, found = read_circuit(circuit)
    Console().print(shown(settings, result, found, read_effects(circuit), most), soft_wrap=True)


def diff(first: Path, second: Path, most: int) -> None:
    """Compare two circuits of one model: their overlap, and the edges that only one of them has."""
    from rich.console import Console

    from acdc.terminal import compared

    a, b = (read_circuit(path)[2] for path in (first, second))
    if a.graph != b.graph:
        raise InputError(f"{first} and {second} are circuits of two models: their graphs differ")
    Console().print(compared(a, b, most), soft_wrap=True)
