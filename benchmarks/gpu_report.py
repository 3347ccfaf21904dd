"""Tell what acdc does on a GPU: whether it decides as a CPU does, how fast it is, what it holds. No hub, no model.

Run: make gpu-report        (python -m benchmarks.gpu_report --out report.md)

Weights are random, for only their shape counts here. The table can be pasted into an issue.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from acdc.catalogue import METRICS
from acdc.engine.load import device_of
from acdc.engine.memory import for_candidates, held, of_weights
from acdc.engine.model import Engine
from acdc.methods.acdc import Progress, receivers_of_layer, sender_order
from acdc.methods.acdc_fast import Step, acdc_fast, removals_of
from acdc.methods.speculation import Speculation
from acdc.models.architecture import Architecture
from benchmarks import acdc_speed
from benchmarks.acdc_speed import GPT2, at_layer, random_background, random_prompts, random_weights, synchronise

LLAMA = replace(
    GPT2,
    norm="rms",
    positions="rotary",
    activation="silu",
    gated=True,
    rotary_dim=64,
    rotary_base=10000.0,
)
SMALL = {
    "GPT-2": replace(GPT2, n_layers=4, d_model=64, n_heads=4, n_kv_heads=4, d_head=16, d_mlp=256, d_vocab=500),
    "Llama": replace(
        LLAMA, n_layers=4, d_model=64, n_heads=4, n_kv_heads=2, d_head=16, d_mlp=192, d_vocab=500, rotary_dim=16
    ),
}
LARGE = {
    "Llama-3.2-1B": replace(
        LLAMA, n_layers=16, d_model=2048, n_heads=32, n_kv_heads=8, d_head=64, d_mlp=8192, d_vocab=128256
    ),
    "Gemma-2-2B": replace(
        LLAMA,
        n_layers=26,
        d_model=2304,
        n_heads=8,
        n_kv_heads=4,
        d_head=256,
        d_mlp=9216,
        d_vocab=256000,
        rotary_dim=256,
    ),
    "Llama-2-7B": replace(
        LLAMA,
        n_layers=32,
        d_model=4096,
        n_heads=32,
        n_kv_heads=32,
        d_head=128,
        d_mlp=11008,
        d_vocab=32000,
        rotary_dim=128,
    ),
}
"""Shapes as the models' configs have them (their repositories on the Hugging Face hub)."""
SMALL |= {
    "Gemma 2": replace(SMALL["Llama"], norm_after=True, windows=(0, 5, 0, 5), attention_cap=50.0, logit_cap=30.0),
    "OLMo 2": replace(SMALL["Llama"], norm_before=False, norm_after=True, query_key_norm="all heads"),
}
ABLATIONS, OF_TEXT = ("corrupted", "zero", "mean"), ("kl_divergence", "logit_difference")
THRESHOLDS = {"kl_divergence": 5e-4, "logit_difference": 0.01}
SEARCHES = (("sparse", 3e-4, 0.03), ("dense", 4e-5, 0.3))
GIB, N_STEPS, N_SENDERS, DENSE = 2**30, 3, 64, 0.1


def decisions(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield, for searches on small models, how many of the decisions on the device are those on the CPU."""
    for name, architecture in SMALL.items():
        data = random_prompts(8, 12, d_vocab=architecture.d_vocab)
        for ablation in ABLATIONS:
            for metric in OF_TEXT:
                rows = [search(architecture, data, ablation, metric, where) for where in ("cpu", device)]
                mixed = search(architecture, data, ablation, metric, device, mixed=True)
                effects = [torch.tensor([row.effect for row in trace]) for trace in rows]
                same = [a.removed == b.removed and a.sender == b.sender for a, b in zip(*rows, strict=False)]
                yield {
                    "model": name,
                    "ablation": ablation,
                    "metric": metric,
                    "decisions": len(rows[0]),
                    "same": sum(same) if len(rows[0]) == len(rows[1]) else "another number of them",
                    "same, mixed": sum(a[:3] + a[-1:] == b[:3] + b[-1:] for a, b in zip(rows[0], mixed, strict=False)),
                    "kept": sum(not row.removed for row in rows[0]),
                    "largest difference of an effect": (effects[0] - effects[1]).abs().max().item()
                    if all(same)
                    else None,
                }


def search(architecture: Architecture, data, ablation: str, metric: str, device, mixed: bool = False) -> list:
    """Return the trace of one search."""
    engine = Engine(random_weights(architecture).to(device, torch.float32), data, ablation=ablation, mixed=mixed)
    return acdc_fast(engine, METRICS[metric].load(), THRESHOLDS[metric]).trace


def speeds(device: torch.device, minutes: float) -> Iterator[dict[str, Any]]:
    """Yield the seconds of searches at GPT-2 small's shape, see ``benchmarks.acdc_speed``, with their launches."""
    weights = random_weights().to(device, torch.float32)
    for n_prompts in (10, 100):
        data = random_prompts(n_prompts, 15)
        needed = held(GPT2, GPT2.graph(), data, torch.float32.itemsize, mixed=True)
        for (name, threshold, density), is_mixed in product(SEARCHES, (False, True)):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            memory = for_candidates(device, needed)
            engine = Engine(weights, data, ablation="corrupted", memory=memory, mixed=is_mixed)
            row = {"prompts": n_prompts, "regime": name, "precision": "mixed" if is_mixed else "float32"}
            yield row | speed(engine, threshold, density, minutes)


def speed(engine: Engine, threshold: float, density: float, minutes: float) -> dict[str, Any]:
    """Return one row of ``speeds``: a sparse search is run whole, a dense one is sampled."""
    kind = METRICS["kl_divergence"].load()
    whole = acdc_speed.full_search(engine, kind, threshold, minutes) if density < DENSE else None
    background = whole[0].circuit if whole else random_background(engine.graph, density)
    tried = acdc_speed.tried_in(whole[0]) if whole else acdc_speed.strata(background)
    row = {"tried": sum(tried.values()), "s": whole[1] if whole else None}
    if not whole:
        sampled = acdc_speed.sample(engine, engine.metric(kind), threshold, background, 6)
        row["s, extrapolated"] = acdc_speed.total({key: sampled.per_edge(key) for key in sampled.seconds}, tried)
    return row | launches_of(engine, kind, threshold, density) | {"peak, GiB": torch.cuda.max_memory_allocated() / GIB}


def launches_of(engine: Engine, kind: type, threshold: float, density: float) -> dict[str, float]:
    """Return what one decided edge costs the GPU: kernels, copies, and the share of the time that it computes."""
    progress, steps = middle_steps(engine, kind, threshold, density)
    steps[0].prune(sender_order(engine.graph, steps[0].receiver, "descending"))  # warm
    n_before = len(progress.trace)
    synchronise(engine)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        start = time.perf_counter()
        for step in steps[1:]:
            step.prune(sender_order(engine.graph, step.receiver, "descending"))
        synchronise(engine)
        seconds = time.perf_counter() - start
    tried = max(1, len(progress.trace) - n_before)
    events = [event for event in profiled.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = [event for event in events if event.name.startswith("Memcpy")]
    uploads = [event for event in copies if "HtoD" in event.name]
    downloads = [event for event in copies if "DtoH" in event.name]
    busy = sum(event.time_range.elapsed_us() for event in events) / 1e6
    return {
        "kernels / edge": (len(events) - len(copies)) / tried,
        "uploads / edge": len(uploads) / tried,
        "downloads / edge": len(downloads) / tried,
        "GPU busy (profiled)": busy / seconds,
    }


def middle_steps(engine: Engine, kind: type, threshold: float, density: float) -> tuple[Progress, list[Step]]:
    """Return the first steps in the middle layer of a search whose circuit keeps this share of the edges."""
    layer = engine.graph.n_layers // 2
    progress = Progress(at_layer(random_background(engine.graph, density), layer), layer)
    removals = removals_of(engine, progress.circuit, layer, engine.metric(kind), threshold)
    readers = [
        node
        for node, kind in receivers_of_layer(engine.graph, layer)
        if kind == "addition" and progress.circuit.is_read(engine.graph.receiver_index[node])
    ]
    return progress, [Step(removals, Speculation(), progress, node, threshold) for node in readers[:N_STEPS]]


def memory(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield what models of real size hold, by formula and as the GPU counts it, and one receiver's seconds."""
    for name, architecture in LARGE.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield {"model": name, **of_model(architecture, device)}


def of_model(architecture: Architecture, device: torch.device) -> dict[str, Any]:
    """Return one row of ``memory``."""
    data = random_prompts(20, 15, d_vocab=architecture.d_vocab)
    graph, itemsize = architecture.graph(), torch.float32.itemsize
    of_formula = of_weights(architecture, itemsize), held(architecture, graph, data, itemsize)
    row = dict(zip(("weights, GiB", "search, GiB"), (n / GIB for n in of_formula), strict=True))
    candidates = for_candidates(device, sum(of_formula))
    if sum(of_formula) + candidates > torch.cuda.mem_get_info(device)[0]:
        return row | {"peak, GiB": "does not fit"}
    weights = random_weights(architecture, device=str(device)).to(device, torch.float32)
    engine = Engine(weights, data, ablation="corrupted", memory=candidates)
    row["of the engine, measured"] = torch.cuda.memory_allocated() / GIB
    row |= first_receivers(engine)
    row["formula with candidates"] = (sum(of_formula) + candidates) / GIB
    return {"edges": graph.n_edges, **row, "peak, GiB": torch.cuda.max_memory_allocated() / GIB}


def first_receivers(engine: Engine) -> dict[str, float]:
    """Return the milliseconds per tried edge of a KL search that has come to its middle layer."""
    progress, (step, *_) = middle_steps(engine, METRICS["kl_divergence"].load(), 3e-4, 0.1)
    start = time.perf_counter()
    step.prune(sender_order(engine.graph, step.receiver, "descending")[:N_SENDERS])
    synchronise(engine)
    return {"ms / tried edge": 1e3 * (time.perf_counter() - start) / max(1, len(progress.trace))}


def about(device: torch.device) -> str:
    """Return what the numbers were measured on."""
    name = torch.cuda.get_device_name(device)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{name}, {versions}; float32 without TF32, but where a row says mixed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_report.md"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=1.0, help="most that a whole search may take")
    arguments = parser.parse_args()
    device = device_of(arguments.device)
    torch.set_num_threads(1)
    parts = {
        "Decisions": decisions(device),
        "Speed": speeds(device, arguments.minutes),
        "Memory": memory(device),
    }
    arguments.out.write_text(f"# acdc on a GPU\n\n{about(device)}\n")
    for title, rows in parts.items():
        start, done = time.perf_counter(), []
        for row in rows:
            done.append(row)
            print(row, flush=True)
        text = pd.DataFrame(done).to_markdown(index=False, floatfmt=".3g")
        with arguments.out.open("a") as report:
            report.write(f"\n## {title} ({time.perf_counter() - start:.0f} s)\n\n{text}\n")
    print(arguments.out.read_text())


if __name__ == "__main__":
    with torch.no_grad():
        main()
