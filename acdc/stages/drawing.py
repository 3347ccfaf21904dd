"""Figures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acdc.stages.files import read_circuit, read_effects, read_node_effects, read_tables


def roc(recovery: Path, published: Path, level: str, out: list[Path]) -> None:
    """Draw ROC curves (Figure 3 of the paper), one panel a task, a point a threshold, the darker the higher."""
    import pandas as pd

    from acdc.figures import roc as figure
    from acdc.figures import save

    save(figure(read_tables([recovery]), pd.read_csv(published, comment="#"), level), out)


def pareto(tables: list[Path], out: list[Path]) -> None:
    """Draw the metrics of circuits against their number of edges (Figure 4 of the paper)."""
    from acdc.figures import pareto as figure
    from acdc.figures import save

    save(figure(read_tables(tables)), out)


def curves(evaluation: Path, out: list[Path]) -> None:
    """Draw how much of the metric circuits keep over their sizes, all methods in one figure."""
    from acdc.figures import curves as figure
    from acdc.figures import save

    save(figure(read_tables([evaluation])), out)


def cost(methods: Path, by: str, out: list[Path]) -> None:
    """Draw what finding circuits costs against how good they are, all methods.

    A point a method and search: 1 - CMD on held-out prompts and, where a circuit is known, the area under the ROC curve
    of edges, over seconds or evaluations of all its circuits.
    """
    from acdc.figures import cost as figure
    from acdc.figures import save

    save(figure(read_tables([methods]), by), out)


def trained_and_reset(auc: Path, pairs: list[tuple[str, str]], out: list[Path]) -> None:
    """Draw areas under ROC curves of trained models beside those of their reset networks, the paper's control."""
    from acdc.figures import save
    from acdc.figures import trained_and_reset as figure

    save(figure(read_tables([auc]), dict(pairs)), out)


def draw(circuit: Path, trace: Path, max_edges: int, out: list[Path]) -> None:
    """Draw a circuit (as Figure 1 of the paper does), its edges wider the more their removal costs.

    Example:
      python -m acdc draw --circuit results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --trace results/test/planted/planted/logit_difference/corrupted/acdc/1/trace.csv --max-edges 120 \\
          --out planted.pdf planted.png
    """
    import pandas as pd

    from acdc.figures import draw as figure
    from acdc.figures import save

    settings, _, found = read_circuit(circuit)
    how = f"{how_found(settings)}, threshold {settings['threshold']}"
    save(figure(found, pd.read_csv(trace), how, max_edges=max_edges), out)


def page(circuits: list[Path], nodes: Path | None, start: str, out: Path) -> None:
    """Make an interactive page of a sweep: one file, for any browser, without a network.

    Example:
      python -m acdc page --circuits results/test/planted/planted/logit_difference/corrupted/acdc/*/circuit.json \\
          --start 1 --out planted.html
    """
    from acdc.figures.page import Found
    from acdc.figures.page import page as render

    effects = read_node_effects(nodes) if nodes else {}
    sweep = []
    for path in circuits:
        settings, result, found = read_circuit(path)
        threshold = settings["threshold"]
        measured = effects.get(threshold, {})
        sweep.append(Found(threshold, result["final_metric"], found, read_effects(path), measured))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(sweep, how_found(settings), settings["metric"], start), encoding="utf-8")


def how_found(settings: dict[str, Any]) -> str:
    """The title of what is drawn of a circuit."""
    from acdc.figures.pareto import pretty

    how = f"{pretty(settings['method'])} by {pretty(settings['metric'])}, {pretty(settings['ablation'])} ablation"
    return f"{settings['task']} on {settings['model']}: {how}"
