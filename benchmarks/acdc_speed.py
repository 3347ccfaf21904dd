"""Measure what ACDC costs: one hooked forward pass per tried edge, the engine edge by edge, and the engine as it is.

Run: python -m benchmarks.acdc_speed gpt2 --prompts 3        (GPT-2 small's shape, random weights)
     python -m benchmarks.acdc_speed folder --model data/default/models/smollm2-135m-q4 \
         --dataset data/default/datasets/smollm2-135m-q4/ioi/discovery.safetensors --metric logit_difference
     add --device cuda for a GPU; --help tells the rest.

All are timed in turns in one process on the same model, prompts and thresholds. Only a search that ends within
--minutes is run whole; of others, and always of the slower two, sampled receivers of every second layer are
timed and the rest is extrapolated: seconds per tried edge there times the edges that the search tries around there.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from acdc.catalogue import METRICS
from acdc.data import Dataset
from acdc.engine.load import device_of
from acdc.engine.memory import keep_freed_memory
from acdc.engine.model import Engine
from acdc.engine.resident import resident
from acdc.engine.weights import Block, Weights, rotary_tables
from acdc.graph import Circuit, Node
from acdc.methods import speculation
from acdc.methods.acdc import Progress, receivers_of_layer, sender_order
from acdc.methods.acdc_fast import Acdc, Step, removals_of
from acdc.models.architecture import Architecture
from acdc.tasks import OF_TEXT
from benchmarks.flops import unavoidable
from benchmarks.instruments import Profile, rates

GPT2 = Architecture(
    n_layers=12,
    d_model=768,
    n_heads=12,
    n_kv_heads=12,
    d_head=64,
    d_mlp=3072,
    d_vocab=50257,
    n_ctx=64,
    norm="layer",
    eps=1e-5,
    positions="learned",
    activation="gelu_new",
    gated=False,
)
REGIMES = ("sparse:3e-4", "dense:3e-5:0.3", "all:-inf:1")
HOW_REGIMES = "NAME:THRESHOLD, run whole, or NAME:THRESHOLD:DENSITY, sampled over random circuits of this density"


@dataclass
class Setup:
    """Hold a model, its prompts, and what is minimised; ``bridge`` builds the oracle's model in TransformerLens."""

    weights: Weights
    dataset: Dataset
    kind: type
    bridge: Callable | None


@dataclass
class Sample:
    """Hold what was measured of sampled receivers: of edges into each (layer, kind)."""

    seconds: Counter = field(default_factory=Counter)
    tried: Counter = field(default_factory=Counter)
    kept: Counter = field(default_factory=Counter)
    flops: dict[tuple, Counter] = field(default_factory=dict)

    def per_edge(self, stratum: tuple) -> float:
        return self.seconds[stratum] / self.tried[stratum]


def random_weights(a: Architecture = GPT2, seed: int = 0, device: str = "cpu") -> Weights:
    """Return random weights of a shape, so scaled that corrupted prompts change GPT-2 small's output by KL ~ 0.5."""
    generator = torch.Generator(device).manual_seed(seed)
    ones = torch.ones(a.d_model, device=device)
    zeros = torch.zeros(a.d_model, device=device)
    n_ports, is_rotary = a.n_heads + 2 * a.n_kv_heads, a.positions == "rotary"

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device).mul_(std)

    def block() -> Block:
        attention = Block(
            ln1_w=ones,
            ln1_b=zeros,
            w_port=normal(n_ports, a.d_model, a.d_head, std=0.04),
            b_port=normal(n_ports, a.d_head, std=0.02),
            qk_norm_w=ones.new_ones(n_ports - a.n_kv_heads, a.d_head) if a.query_key_norm else None,
            w_o=normal(a.n_heads, a.d_head, a.d_model, std=0.04),
            b_o=zeros,
        )
        if not a.d_mlp:
            return attention
        return replace(
            attention,
            ln2_w=ones,
            ln2_b=zeros,
            w_gate=normal(a.d_model, a.d_mlp, std=0.03) if a.gated else None,
            w_in=normal(a.d_model, a.d_mlp, std=0.03),
            b_in=normal(a.d_mlp, std=0.02),
            w_out=normal(a.d_mlp, a.d_model, std=0.03),
            b_out=zeros,
        )

    embed = normal(a.d_vocab, a.d_model, std=0.02)
    return Weights(
        a,
        embed=embed,
        pos_embed=None if is_rotary else normal(a.n_ctx, a.d_model, std=0.02),
        blocks=[block() for _ in range(a.n_layers)],
        ln_final_w=ones,
        ln_final_b=zeros,
        unembed=(2 * embed).T.contiguous(),
        b_unembed=None,
        **(dict(zip(("rotary_cos", "rotary_sin"), rotary_tables(a), strict=True)) if is_rotary else {}),
    )


def random_prompts(n_prompts: int, n_pos: int, seed: int = 1, d_vocab: int = GPT2.d_vocab) -> Dataset:
    """Return prompts of random tokens, scored at the last position."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randint(0, d_vocab, (2, n_prompts, n_pos), generator=generator)
    correct, incorrect = torch.randint(0, d_vocab, (2, n_prompts), generator=generator)
    scored = torch.zeros(n_prompts, n_pos, dtype=torch.bool)
    scored[:, -1] = True
    return Dataset(clean, corrupted, scored, {"correct": correct, "incorrect": incorrect})


def gpt2_bridge(weights: Weights):
    """Return the same model in TransformerLens, for the oracle."""
    from acdc.models.bridge import boot_native

    a = weights.architecture
    sizes = {
        name: getattr(a, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab")
    }
    bridge = boot_native(sizes | {"act_fn": "gelu_new", "normalization_type": "LN", "eps": a.eps})
    state = {"embed.weight": weights.embed, "pos_embed.weight": weights.pos_embed, "unembed.weight": weights.unembed.T}
    for layer, block in enumerate(weights.blocks):
        ports = zip("qkv", block.w_port.chunk(3), block.b_port.chunk(3), strict=True)
        parts = {f"attn.{port}": (w.transpose(1, 2).flatten(0, 1), b.flatten()) for port, w, b in ports}
        parts |= {"attn.o": (block.w_o.flatten(0, 1).T, block.b_o)}
        parts |= {"mlp.in": (block.w_in.T, block.b_in), "mlp.out": (block.w_out.T, block.b_out)}
        for name, (w, b) in parts.items():
            state |= {f"blocks.{layer}.{name}.weight": w, f"blocks.{layer}.{name}.bias": b}
    own = bridge.state_dict()
    # Norms and the bias of the unembedding are as an untrained model has them: ones and zeros.
    bridge.load_state_dict(own | {name: value for name, value in state.items() if name in own})
    bridge.enable_compatibility_mode(no_processing=True)
    return bridge.requires_grad_(False).eval()


def at_layer(circuit: Circuit, layer: int) -> Circuit:
    """Return what ACDC has left of the graph when it comes to a layer: nothing is gone there or before."""
    graph, result = circuit.graph, circuit.copy()
    earlier = slice(0, graph.first_receiver(layer + 1) if layer < graph.n_layers else None)
    result.present[:, earlier] = graph.exists[:, earlier]
    result.direct[earlier] = graph.has_direct[earlier]
    return result.reaching_logits() if layer < graph.n_layers else result


def random_background(graph, density: float) -> Circuit:
    """Return a circuit that keeps each edge with this probability, for a search that is too long to run whole."""
    circuit = Circuit.full(graph)
    circuit.present &= np.random.default_rng(0).random(circuit.present.shape) < density
    return circuit.reaching_logits()


def stratum(node: Node) -> tuple[int, str]:
    return node.layer, node.port or node.component


def strata(circuit: Circuit) -> Counter:
    """Count the addition edges that a search with this result tries, by layer and kind of receiver."""
    count, graph = Counter(), circuit.graph
    for r, node in enumerate(graph.receivers):
        if circuit.is_read(r):
            count[stratum(node)] += int(graph.exists[:, r].sum())
    return count


def tried_in(progress: Progress) -> Counter:
    """Count the addition edges that a search tried, by layer and kind of receiver."""
    node = progress.circuit.graph.node
    return Counter(stratum(node(row.receiver)) for row in progress.trace if row.kind == "addition")


def sampled_layers(graph, every: int) -> list[int]:
    return [graph.n_layers, *reversed(range(0, graph.n_layers, every))]


def sampled_receivers(circuit: Circuit, layer: int) -> Iterator[Node]:
    """Yield one receiver of each kind that some present edge leads on from."""
    seen = set()
    for node, kind in receivers_of_layer(circuit.graph, layer):
        if kind == "addition" and stratum(node) not in seen and circuit.is_read(circuit.graph.receiver_index[node]):
            seen.add(stratum(node))
            yield node


def sample(engine: Engine, metric: list, threshold: float, background: Circuit, every: int) -> Sample:
    """Prune sampled receivers as the search would."""
    result = Sample()
    for layer in sampled_layers(engine.graph, every):
        progress = Progress(at_layer(background, layer), layer)
        removals = removals_of(engine, progress.circuit, layer, metric, threshold)
        guesses = speculation.Speculation()
        for receiver in sampled_receivers(progress.circuit, layer):
            step, before = Step(removals, guesses, progress, receiver, threshold), len(progress.trace)
            result.flops[stratum(receiver)] = flops_of(engine, metric, progress.circuit, step.index)
            start = time.perf_counter()
            step.prune(sender_order(engine.graph, receiver, "descending"))
            synchronise(engine)
            result.seconds[stratum(receiver)] += time.perf_counter() - start
            rows = progress.trace[before:]
            result.tried[stratum(receiver)] += len(rows)
            result.kept[stratum(receiver)] += sum(not row.removed for row in rows)
    return result


def flops_of(engine: Engine, metric: list, circuit: Circuit, receiver: int) -> Counter:
    total: Counter = Counter()
    for chunk, of_chunk in zip(engine.chunks, metric, strict=True):
        n_columns = engine.weights.unembed.shape[1] if of_chunk.columns is None else of_chunk.columns.shape[1]
        total += unavoidable(engine.weights.architecture, circuit, receiver, chunk.rows, n_columns)
    return total


def synchronise(engine: Engine) -> None:
    if engine.device.type == "cuda":
        torch.cuda.synchronize()


def one_by_one(engine: Engine, metric: list, threshold: float, background: Circuit, every: int) -> Sample:
    """Prune the same sample without speculation."""
    largest, speculation.LARGEST_BLOCK = speculation.LARGEST_BLOCK, 1
    try:
        return sample(engine, metric, threshold, background, every)
    finally:
        speculation.LARGEST_BLOCK = largest


def hooked(bridge, engine: Engine, kind: type, background: Circuit, every: int) -> dict[int, float]:
    """Return the seconds of a forward pass through hooks, which a tried edge costs, by layer that the search is at."""
    from acdc.reference import Reference

    oracle, seconds = Reference(bridge, engine.dataset, ablation="corrupted"), {}
    metric = kind(engine.dataset, engine.model_logits)
    for layer in sampled_layers(engine.graph, every):
        circuit, start = at_layer(background, layer), time.perf_counter()
        logits = oracle.logits(circuit)
        metric(logits if metric.columns is None else logits.gather(-1, metric.columns)).mean().item()
        seconds[layer] = time.perf_counter() - start
    return seconds


def total(per_edge: dict[tuple, float], tried: Counter) -> float:
    """Return the seconds of a search: each stratum's edges at the price of the nearest sampled stratum of its kind."""
    return sum(n * per_edge[nearest(per_edge, key)] for key, n in tried.items())


def nearest(known: dict, key: tuple[int, str]) -> tuple[int, str]:
    """Return the sampled stratum of the same kind, or else of any but the logits', whose layer is nearest."""

    def distance(other: tuple[int, str]) -> tuple:
        is_logits = "logits" in (key[1], other[1])
        return is_logits and key != other, other[1] != key[1], abs(other[0] - key[0])

    return min(known, key=distance)


def full_search(engine: Engine, kind: type, threshold: float, minutes: float) -> tuple[Progress, float] | None:
    """Run the whole search; return it with its seconds, or None if it takes longer than it may."""
    start, search = time.perf_counter(), Acdc(engine, kind, threshold, head_order="descending")
    for _ in search.steps():
        if time.perf_counter() - start > 60 * minutes:
            return None
    return search.progress, time.perf_counter() - start


def ideal_seconds(found: Sample, tried: Counter, rate: dict[str, float]) -> float:
    """Return the seconds of the unavoidable arithmetic at the rates that the engine's own products reach."""
    slowest, work = min(rate.values()), Counter()
    for key, n in tried.items():
        for label, flops in found.flops[nearest(found.flops, key)].items():
            work[label] += n * flops
    return sum(flops / rate.get(label, slowest) for label, flops in work.items())


def measure(name: str, setup: Setup, threshold: float, density: float | None, arguments) -> dict:
    """Return one row of the table."""
    memory, is_mixed = round(arguments.memory_gib * 2**30), arguments.precision == "mixed"
    engine = Engine(setup.weights, setup.dataset, ablation="corrupted", memory=memory, mixed=is_mixed)
    metric, every = engine.metric(setup.kind), arguments.every
    whole = full_search(engine, setup.kind, threshold, arguments.minutes) if density is None else None
    background = whole[0].circuit if whole else random_background(engine.graph, density if density else 0.03)
    tried = tried_in(whole[0]) if whole else strata(background)
    row = {"regime": name, "threshold": threshold}
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    # Twice: the first time pays for touching memory, as only the beginning of a whole search does.
    ours = [sample(engine, metric, threshold, background, every) for _ in range(2)][-1]
    seconds = whole[1] if whole else total({k: ours.per_edge(k) for k in ours.seconds}, tried)
    kept = whole[0].circuit.present.sum() / engine.graph.exists.sum() if whole else None
    row["kept"] = kept if whole else sum(ours.kept.values()) / sum(ours.tried.values())
    row["tried"] = sum(tried.values())
    row["engine, s"], row["whole"] = seconds, bool(whole)
    alone = one_by_one(engine, metric, threshold, background, every)
    row["no speculation, s"] = total({k: alone.per_edge(k) for k in alone.seconds}, tried)
    if arguments.device == "cpu":
        profile = Profile(engine.weights)
        with profile.running():
            sample(engine, metric, threshold, background, every)
        rate = rates(profile, engine.weights)
        sampled = Counter({k: ours.tried[k] for k in ours.tried})
        row["fraction"] = ideal_seconds(ours, sampled, rate) / sum(ours.seconds.values())
        row["profile"], row["rates"] = profile.seconds, rate
    if setup.bridge is not None:
        passes = {(k, "any"): s for k, s in hooked(setup.bridge(), engine, setup.kind, background, every).items()}
        row["hooked, s"] = sum(n * passes[min(passes, key=lambda p, k=k: abs(p[0] - k[0]))] for k, n in tried.items())
    row["RSS, MiB"] = rss
    rows = [sum(len(c.rows.live) for c in engine.chunks), sum(len(c.rows.scored) for c in engine.chunks)]
    held = resident(setup.weights.architecture, engine.graph, *rows, engine.weights.embed.element_size())
    # Python and its libraries come on top of what the formula counts.
    row["bound, MiB"] = (held + engine.memory + 2 * n_bytes(setup.weights)) / 2**20
    if arguments.device == "cuda":
        row["GPU, MiB"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def n_bytes(weights: Weights) -> int:
    """Return the bytes of the model's weights; on a CPU they are held twice at most, as loaded and as packed."""
    tensors = [*vars(weights).values(), *(t for block in weights.blocks for t in vars(block).values())]
    return sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))


def setup_of(arguments) -> Setup:
    kind = METRICS[arguments.metric].load()
    if arguments.model_kind == "gpt2":
        weights = random_weights().to(device_of(arguments.device), torch.float32)
        bridge = None if arguments.no_hooks else lambda: gpt2_bridge(weights)
        return Setup(weights, random_prompts(arguments.prompts, arguments.positions), kind, bridge)
    from acdc.models.bridge import load_bridge
    from acdc.models.convert import weights_of

    bridge = load_bridge(arguments.model)
    weights, dataset = (
        weights_of(bridge).to(device_of(arguments.device), torch.float32),
        Dataset.load(arguments.dataset),
    )
    return Setup(weights, dataset, kind, None if arguments.no_hooks else lambda: bridge)


def show(rows: list[dict]) -> None:
    """Print the table, and where the engine's time went."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    for column in ("hooked, s", "no speculation, s"):
        if column in frame:
            frame[f"{column[:-3]} / engine"] = frame[column] / frame["engine, s"]
    if "profile" not in frame:
        print(frame.to_markdown(index=False, floatfmt=".3g"))
        return
    profiles, rate = frame.pop("profile"), frame.pop("rates")
    print(frame.to_markdown(index=False, floatfmt=".3g"), "\n")
    shares = pd.DataFrame([Counter(p) for p in profiles], index=frame["regime"]).T
    print((100 * shares / shares.sum()).round(1).to_markdown(), "\n")
    print((pd.DataFrame(list(rate), index=frame["regime"]).T / 1e9).round(0).to_markdown())


def regime(text: str) -> tuple[str, float, float | None]:
    """Read the name, the threshold and, where there is one, the density of a regime, see ``REGIMES``."""
    name, threshold, *density = text.split(":")
    return name, float(threshold), float(density[0]) if density else None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_kind", choices=("gpt2", "folder"))
    parser.add_argument("--model", type=Path, help="with folder: as the workflow makes it")
    parser.add_argument("--dataset", type=Path, help="with folder: discovery.safetensors of a task")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--positions", type=int, default=15)
    parser.add_argument("--metric", choices=OF_TEXT, default="kl_divergence")
    parser.add_argument("--regimes", type=regime, nargs="+", default=[*map(regime, REGIMES)], help=HOW_REGIMES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "mixed"), default="float32")
    parser.add_argument("--memory-gib", type=float, default=2, help="for candidates")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=int, default=2, help="sample every so many layers")
    parser.add_argument("--no-hooks", action="store_true", help="leave the hooked forward passes out")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    keep_freed_memory()  # as jobs do
    torch.set_num_threads(1)
    setup = setup_of(arguments)
    print(f"torch {torch.__version__}, {arguments.device}, {setup.dataset.clean.shape[0]} prompts", flush=True)
    show([measure(name, setup, threshold, density, arguments) for name, threshold, density in arguments.regimes])


if __name__ == "__main__":
    with torch.no_grad():
        main()
