"""Time the engine's two ways to multiply, at the shapes of SmolLM2-135M's MLP, a head and the unembedding.

Run: python -m benchmarks.matmul. They are timed in turns in one process on one thread; what counts is the ratio.
"""

import time
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from acdc.engine import linear
from acdc.engine.linear import Linear, products

SHAPES = {"MLP up": (576, 1536), "MLP down": (1536, 576), "q, k, v": (576, 64), "head": (64, 576)}
UNEMBEDDING = (576, 49152)
ROWS = (3, 16, 128, 1024)
TURNS = 20


def gigaflops(product: Callable[[Tensor], Tensor], x: Tensor, w: Tensor) -> float:
    """Return the GFLOP/s of one product, timed once."""
    start = time.perf_counter()
    product(x)
    return 2 * len(x) * w.numel() / (time.perf_counter() - start) / 1e9


def row(name: str, w: Tensor, rows: int, turns: int) -> str:
    """Return a row of the table: the best of many turns, for the machine's other work only ever adds time."""
    with mock.patch.object(linear, "products", lambda: "onednn"):
        packed = Linear(w)
    x = torch.randn(rows, w.shape[0])
    rates = [[gigaflops(product, x, w) for product in (w.__rmatmul__, packed)] for _ in range(turns)]
    plain, onednn = map(max, zip(*rates, strict=True))
    return f"| {name} | {rows} | {plain:.0f} | {onednn:.0f} | {onednn / plain:.2f} |"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{torch.backends.cpu.get_cpu_capability()}: the engine uses {products()}\n")
    print("| weight | rows | `@`, GFLOP/s | oneDNN, GFLOP/s | ratio |\n|---|---|---|---|---|")
    for name, shape in {**SHAPES, "unembedding": UNEMBEDDING}.items():
        w = torch.randn(*shape)
        for rows in ROWS if shape != UNEMBEDDING else ROWS[:-1]:
            print(row(name, w, rows, TURNS if shape != UNEMBEDDING else 5))


if __name__ == "__main__":
    with torch.no_grad():
        main()
