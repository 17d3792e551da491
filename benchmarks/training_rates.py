"""Floating-point rates: what a training computes, and what bare products of the same shapes reach in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


def flops(lengths: Sequence[int], config: Any) -> float:
    """Floating-point operations of a pass forward and back over sequences, padding not counted: two per weight of a
    product and token forward, four back; attention's products grow with the square of the length."""
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
    return float(sum(6 * weights * length + 12 * layers * hidden * length * length for length in lengths))


def finished(where: str) -> None:
    """Waits for a GPU to be done."""
    import torch

    if where == "cuda":
        torch.cuda.synchronize()


def card_rate(size: int = 8192, repeats: int = 20) -> float:
    """GFLOP/s of products of large random matrices in bf16."""
    import torch

    one, other = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    finished("cuda")
    started = time.perf_counter()
    for _ in range(repeats):
        one @ other
    finished("cuda")
    return 2.0 * size**3 * repeats / (time.perf_counter() - started) / 1e9


def bare_rate(tokens: int, config: Any, precision: str, where: str = "cpu", repeats: int = 5) -> float:
    """GFLOP/s of nothing but the layers' matrix products, forward and back, at a batch of so many tokens."""
    import torch

    kind = torch.bfloat16 if precision.startswith("bf16") else torch.float32

    hidden, inner = config.hidden_size, config.intermediate_size
    done = 0.0
    spent = 0.0
    for rows, columns, times in ((hidden, hidden, 4), (hidden, inner, 1), (inner, hidden, 1)):
        shapes = ((tokens, rows), (columns, rows), (tokens, columns))
        given, weight, out = (torch.randn(shape).to(where, kind) for shape in shapes)
        products: tuple[Callable[[], Any], ...] = (
            lambda given=given, weight=weight: given @ weight.T,  # type: ignore[misc]
            lambda out=out, weight=weight: out @ weight,  # type: ignore[misc]
            lambda out=out, given=given: out.T @ given,  # type: ignore[misc]
        )
        for product in products:
            product()
            finished(where)
            started = time.perf_counter()
            for _ in range(repeats * times * 4):
                product()
            finished(where)
            spent += time.perf_counter() - started
            done += 2.0 * tokens * rows * columns * repeats * times * 4
    return done / spent / 1e9
