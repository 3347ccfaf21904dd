"""How much faster the engine's matrix products are than torch's ``@``, at the shapes of SmolLM2-135M's MLP.

Run: python -m benchmarks.matmul. Both are timed in turns in one process on one thread; what counts is the ratio.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from acdc.engine.linear import Linear

D_IN, D_OUT = 576, 1536
TURNS = 20


def gigaflops(product: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Of one product, timed once."""
    start = time.perf_counter()
    product(x)
    return 2 * len(x) * D_IN * D_OUT / (time.perf_counter() - start) / 1e9


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    w = torch.randn(D_IN, D_OUT)
    products = (w.__rmatmul__, Linear(w))
    print("| rows | `@`, GFLOP/s | engine, GFLOP/s | ratio |\n|---|---|---|---|")
    for rows in (16, 128, 1024, 4096):
        x = torch.randn(rows, D_IN)
        turns = [[gigaflops(product, x) for product in products] for _ in range(TURNS)]
        # The best of many turns: the machine's other work only ever adds time.
        plain, packed = map(max, zip(*turns, strict=True))
        print(f"| {rows} | {plain:.0f} | {packed:.0f} | {packed / plain:.2f} |")


if __name__ == "__main__":
    with torch.no_grad():
        main()
