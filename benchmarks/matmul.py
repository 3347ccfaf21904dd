"""How much faster the engine's matrix products are than torch's ``@``, at the shapes of SmolLM2-135M's MLP.

Run: python benchmarks/matmul.py. Both are timed in turns in one process on one thread; what counts is the ratio.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from acdc.models.architecture import Linear  # noqa: E402

D_IN, D_OUT = 576, 1536
TURNS = 20


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    w = torch.randn(D_IN, D_OUT)
    linear = Linear(w)
    print("| rows | `@`, GFLOP/s | engine, GFLOP/s | ratio |\n|---|---|---|---|")
    for rows in (16, 128, 1024, 4096):
        x = torch.randn(rows, D_IN)
        flops = 2 * rows * D_IN * D_OUT
        # The best of many turns: the machine's other work only ever adds time.
        plain, packed = (
            min(times) for times in zip(*((seconds(lambda: x @ w), seconds(lambda: linear(x))) for _ in range(TURNS)))
        )
        print(f"| {rows} | {flops / plain / 1e9:.0f} | {flops / packed / 1e9:.0f} | {plain / packed:.2f} |")


if __name__ == "__main__":
    with torch.no_grad():
        main()
