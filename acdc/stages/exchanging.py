"""Circuits to and from the files of other tools."""

from __future__ import annotations

from pathlib import Path

from acdc.stages.files import read_circuit, read_effects, write_json, write_table


def export(circuit: Path, format: str, d_model: int | None, out: Path) -> None:
    """Write a circuit for other tools: the original's .pth, EAP-IG's and MIB's .json, networkx's .graphml.

    Effects of edges are taken from the trace.csv beside the circuit, where the format has a place for them.

    Examples:
      python -m acdc export results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --format graphml --out planted.graphml
      python -m acdc export results/test/tiny-llama/ioi/kl_divergence/corrupted/acdc/0.1/circuit.json \\
          --format eap_ig --d-model 32 --out ioi.json
    """
    from acdc.exchange import FORMATS

    FORMATS[format].write(read_circuit(circuit)[2], read_effects(circuit), out, d_model)


def import_(
    file: Path, format: str, like: Path | None, task: str, model_name: str, metric: str, ablation: str, method: str,
    threshold: str, out: Path,
) -> None:  # fmt: skip
    """Read a circuit that another tool found, and write it as circuit.json, for show, diff, evaluate and recover.

    What the file says of effects goes into a trace.csv beside it, which draw and page read too. The names are labels:
    nothing is computed. Code that a file brings along is refused, not run.

    Example:
      python -m acdc import ioi.json --format eap_ig --task ioi --model-name gpt2 --metric logit_difference \\
          --ablation corrupted --method eap_ig --threshold "top 200" --out imported
    """
    from acdc.exchange import FORMATS

    graph = read_circuit(like)[2].graph if like else None
    circuit, effects = FORMATS[format].read(file, graph)
    settings = {"task": task, "model": model_name, "metric": metric, "ablation": ablation, "method": method}
    sizes = {"n_edges": circuit.n_edges, "n_nodes": len(circuit.nodes)}
    result = {**sizes, "final_metric": None, "evaluations": None, "note": "imported"}
    found = {"settings": settings | {"threshold": threshold}, "result": result, "circuit": circuit.to_json()}
    write_json(found, out / "circuit.json")
    if effects:
        rows = [dict(zip(("receiver", "sender", "kind"), key, strict=True)) for key in effects]
        values = zip(rows, effects.values(), strict=True)
        write_table([{**row, "effect": effect, "removed": False} for row, effect in values], out / "trace.csv")
