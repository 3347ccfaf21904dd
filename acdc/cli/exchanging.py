"""Define the commands that write circuits for other tools and read theirs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from acdc.catalogue import ABLATIONS, FORMATS, METHODS
from acdc.cli.flags import OutFolder
from acdc.errors import InputError
from acdc.files import check_folder_output, check_outputs
from acdc.found import IMPORTED, Found, Sweep

if TYPE_CHECKING:
    from acdc.graph import Circuit, Graph
    from acdc.trace import Effects

MIB = "mib"
FormatName = Annotated[str, Parameter(choices=tuple(FORMATS))]


def export(
    circuit: Path,
    /,
    *,
    format: Annotated[str, Parameter(choices=(*FORMATS, MIB))],
    out: Path,
    value: str | None = None,
    trace: Path | None = None,
    d_model: int | None = None,
) -> None:
    """Write a circuit for other tools: the original's .pth, EAP-IG's and MIB's .json and .pt, networkx's .graphml.

    EAP-IG's files have the score of every edge, also outside the circuit: the edge's effect when ACDC tried it, or its
    score by a method that scores edges. For hisp, sp and edge_pruning, which give edges no scores, it is 0. GraphML has
    scores of the circuit's edges, as effects. The original's file has no place for scores.

    With --format mib all circuits of a method become one task's folder of a submission to MIB's circuit track: a file
    of scores or, for a sweep, nine circuits, the largest that have no more than 0.1, 0.2, 0.5, ... 50% of the edges.

    Try:
      python -m acdc export results/test/planted/planted/logit_difference/corrupted/acdc/1/circuit.json \\
          --format graphml --out planted.graphml
      python -m acdc export results/test/tiny-llama/ioi/kl_divergence/corrupted/acdc/0.1/circuit.json \\
          --format eap_json --d-model 32 --out ioi.json
      python -m acdc export results/test/tiny-llama/ioi/logit_difference/corrupted/eap/circuits.json --value 9 \\
          --format eap_pt --d-model 32 --out ioi.pt
      python -m acdc export results/test/tiny-llama/ioi/logit_difference/corrupted/eap/circuits.json \\
          --format mib --d-model 32 --out submission/ioi_tiny

    Args:
        circuit: a circuit.json, or a circuits.json; for mib a circuits.json, or a folder with a folder for each circuit
        format: the format of the file
        out: .pth, .json, .pt or .graphml; for mib a folder, which MIB wants to be called TASK_MODEL
        value: which of several circuits in the file: the value that sets its size
        trace: the circuit's trace.csv, if it is not beside the circuit
        d_model: for eap_json, eap_pt and mib: the width of the model's residual stream
    """
    if format == MIB:
        from acdc.analysis.mib import check_ranked, write_submission

        check_folder_output(out)
        found_by_it = Sweep.load(circuit).found
        check_ranked(found_by_it, circuit)
        write_submission(found_by_it, out, d_model)
        return
    check_outputs(out)
    found = Found.load(circuit, trace, value=value)
    FORMATS[format].load().write(found.circuit, found.importance, out, d_model)


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
    out: OutFolder,
    size_by: str | None = None,
    by_score: bool = False,
    like: Path | None = None,
) -> None:
    """Read a circuit that another tool found, and write it as circuit.json, for show, diff and evaluate.

    Effects or scores of edges in the file go into a trace.csv beside it, which draw and page read too. The names are
    labels: nothing is computed. Code in a file is refused, not run.

    Try:
      python -m acdc import ioi.json --format eap_json --task ioi --model-name gpt2 --metric logit_difference \\
          --ablation corrupted --method eap --size-by n_edges --value 200 --out imported
      python -m acdc import importances.pt --format eap_pt --task ioi --model-name gpt2 --metric logit_difference \\
          --ablation corrupted --method eap --value 200 --by-score --out imported

    Args:
        file: .pth, .json, .pt or .graphml
        format: the format of the file
        task: the task
        model_name: the model's name in tables
        metric: the metric that the circuit was found with
        ablation: the activations that removed edges carried
        method: the method that found the circuit
        value: the threshold, regularisation or number of edges that sets its size
        out: the folder for circuit.json and trace.csv
        size_by: the name of the value; by default what sets the size of the method's circuits, or n_edges
        by_score: take the VALUE edges of largest absolute score, in place of the file's circuit, which MIB's files of
            scores lack
        like: a circuit.json of the model: a pickled list does not tell the model's size, and EAP-IG's files do not
            tell whose heads share keys and values
    """
    import pandas as pd

    from acdc.trace import key_of

    graph = Found.graph_in(like) if like else None
    circuit, effects = FORMATS[format].load().read(file, graph)
    if by_score:
        circuit = best(circuit.graph, effects, value, file)
    elif effects and not circuit.n_edges:
        warnings.warn(f"{file} has scores and no circuit: --by-score takes the best edges", stacklevel=2)
    known = METHODS[method].sized_by if method in METHODS else ""
    names = {"task": task, "model": model_name, "metric": metric, "ablation": ablation, "method": method}
    settings = names | {"size_by": size_by or known or "n_edges", "value": value}
    result = {"final_metric": None, "evaluations": None, "converged": None, "origin": IMPORTED}
    kept = {key_of(edge) for edge in circuit.edges}
    rows = [(*key, effect, key not in kept) for key, effect in effects.items()]
    trace = pd.DataFrame(rows, columns=["receiver", "sender", "kind", "effect", "removed"])
    Found(settings, circuit, result, trace if rows else None).save(out)


def best(graph: Graph, effects: Effects, value: str, file: Path) -> Circuit:
    """Return the circuit of as many edges of the largest scores as ``value`` says.

    Raises:
        InputError: the file has no scores, or the value is no number of edges.
    """
    from acdc.exchange import matrix_of
    from acdc.graph import EdgeScores

    if not effects:
        raise InputError(f"{file} has no scores to choose edges by")
    if not value.isdecimal():
        raise InputError(f"--by-score takes as many edges as --value says: {value!r} is no number of edges")
    return EdgeScores(graph, matrix_of(graph, effects)).absolute().top(int(value))
