"""Circuits in a terminal."""

from __future__ import annotations

from pathlib import Path

from acdc.errors import InputError
from acdc.stages.files import read_circuit, read_effects, read_node_effects


def log(circuit: Path, trace: Path) -> None:
    """Print a trace in the form of the original implementation's log."""
    import pandas as pd

    from acdc.trace import original_lines

    for line in original_lines(pd.read_csv(trace), read_circuit(circuit)[2].graph):
        print(line)


def show(circuit: Path, most: int) -> None:
    """Print a circuit: where it is from, its nodes, and nodes and edges by their effect.

    Effects of edges are in trace.csv beside the file, those of nodes in nodes.csv beside its folder, where they are.

    Example:
      python -m acdc show results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json
    """
    from rich.console import Console

    from acdc.terminal import shown

    settings, result, found = read_circuit(circuit)
    table = circuit.parent.with_name("nodes.csv")
    nodes = read_node_effects(table).get(settings["threshold"], {}) if table.exists() else {}
    Console().print(shown(settings, result, found, read_effects(circuit), nodes, most), soft_wrap=True)


def diff(first: Path, second: Path, most: int) -> None:
    """Compare two circuits of one model: their overlap, and the edges that only one of them has."""
    from rich.console import Console

    from acdc.terminal import compared

    a, b = (read_circuit(path)[2] for path in (first, second))
    if a.graph != b.graph:
        raise InputError(f"{first} and {second} are circuits of two models: their graphs differ")
    Console().print(compared(a, b, most), soft_wrap=True)
