"""Figures and pages."""

from __future__ import annotations

from pathlib import Path

from acdc.stages.files import read_circuit, read_effects, read_tables


def roc(recovery: Path, published: Path, level: str, out: list[Path]) -> None:
    import pandas as pd

    from acdc.figures import roc as figure
    from acdc.figures import save

    save(figure(read_tables([recovery]), pd.read_csv(published, comment="#"), level), out)


def pareto(tables: list[Path], out: list[Path]) -> None:
    from acdc.figures import pareto as figure
    from acdc.figures import save

    save(figure(read_tables(tables)), out)


def curves(evaluation: Path, out: list[Path]) -> None:
    from acdc.figures import curves as figure
    from acdc.figures import save

    save(figure(read_tables([evaluation])), out)


def draw(circuit: Path, trace: Path, max_edges: int, out: list[Path]) -> None:
    import pandas as pd

    from acdc.figures import draw as figure
    from acdc.figures import save

    settings, _, found = read_circuit(circuit)
    title = f"{settings['task']} on {settings['model']}: ACDC, {settings['metric']}, threshold {settings['threshold']}"
    save(figure(found, pd.read_csv(trace), title, max_edges=max_edges), out)


def page(circuits: list[Path], nodes: Path | None, start: str, out: Path) -> None:
    from acdc.figures.page import Found
    from acdc.figures.page import page as render

    effects = effects_of_nodes(nodes) if nodes else {}
    sweep = []
    for path in circuits:
        settings, result, found = read_circuit(path)
        threshold = settings["threshold"]
        measured = effects.get(threshold, {})
        sweep.append(Found(threshold, result["final_metric"], found, read_effects(path), measured))
    how = f"{settings['method']} by {settings['metric']}, {settings['ablation']} ablation"
    title = f"{settings['task']} on {settings['model']}: {how}"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(sweep, title, settings["metric"], start), encoding="utf-8")


def effects_of_nodes(table: Path) -> dict[str, dict[str, float]]:
    """By threshold and node."""
    rows = read_tables([table])
    return {key: dict(zip(of["node"], of["effect"], strict=True)) for key, of in rows.groupby("threshold", sort=False)}
