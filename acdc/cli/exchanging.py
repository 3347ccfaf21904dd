"""Commands that write circuits for other tools and read theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from acdc.catalogue import ABLATIONS, FORMATS, METHODS
from acdc.found import IMPORTED, Found

FormatName = Annotated[str, Parameter(choices=tuple(FORMATS))]


def export(
    circuit: Path, /, *, format: FormatName, out: Path, trace: Path | None = None, d_model: int | None = None
) -> None:
    """Write a circuit for other tools: the original's .pth, EAP-IG's and MIB's .json, networkx's .graphml.

    Try:
      python -m acdc export results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --format graphml --out planted.graphml
      python -m acdc export results/test/tiny-llama/ioi/kl_divergence/corrupted/acdc/0.1/circuit.json \\
          --format eap_json --d-model 32 --out ioi.json

    Args:
        circuit: a circuit.json
        format: what is written
        out: .pth, .json or .graphml
        trace: its trace.csv, for effects of edges where the format has a place for them
        d_model: of eap_json: the width of the model's residual stream
    """
    found = Found.load(circuit, trace)
    FORMATS[format].load().write(found.circuit, found.effects, out, d_model)


def import_(
    file: Path,
    /,
    *,
    format: FormatName,
    task: str,
    model_name: str,
    metric: str,
    ablation: Annotated[str, Parameter(choices=tuple(ABLATIONS))],
    method: str,
    value: str,
    out: Path,
    size_by: str | None = None,
    like: Path | None = None,
) -> None:
    """Read a circuit that another tool found, and write it as circuit.json, for show, diff, evaluate and recover.

    What the file says of effects goes into a trace.csv beside it, which draw and page read too. The names are labels:
    nothing is computed. Code that a file brings along is refused, not run.

    Try:
      python -m acdc import ioi.json --format eap_json --task ioi --model-name gpt2 --metric logit_difference \\
          --ablation corrupted --method eap --size-by n_edges --value 200 --out imported

    Args:
        file: .pth, .json or .graphml
        format: what the file is
        task: the task
        model_name: the model's name in tables
        metric: that the circuit was found with
        ablation: what a removed edge carried
        method: that found it
        value: the threshold, regularisation or number of edges that sets its size
        out: the folder for circuit.json and trace.csv
        size_by: what the value is; by default what sets the size of the method's circuits, or n_edges
        like: a circuit.json of the model, whose size a pickled list does not tell
    """
    import pandas as pd

    graph = Found.load(like).circuit.graph if like else None
    circuit, effects = FORMATS[format].load().read(file, graph)
    known = METHODS[method].sized_by if method in METHODS else ""
    names = {"task": task, "model": model_name, "metric": metric, "ablation": ablation, "method": method}
    settings = names | {"size_by": size_by or known or "n_edges", "value": value}
    result = {"final_metric": None, "evaluations": None, "converged": None, "origin": IMPORTED}
    keys = [dict(zip(("receiver", "sender", "kind"), key, strict=True)) for key in effects]
    rows = [{**key, "effect": effect, "removed": False} for key, effect in zip(keys, effects.values(), strict=True)]
    Found(settings, circuit, result, pd.DataFrame(rows) if rows else None).save(out)
