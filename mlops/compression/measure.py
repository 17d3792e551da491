"""What a package costs on this machine beside others: time, memory, size; measured in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops.errors import UserError
from mlops.serving.apart import ask_apart
from mlops.serving.package import MODEL
from mlops.tasks.base import Item
from mlops.types import Value

_MODULE = "mlops.compression.measuring"
_PATIENCE = 300.0  # seconds beyond the budget after which a measurement hangs


class Percentiles(Value):
    """Milliseconds of a request with one row of so many tokens."""

    tokens: int
    p50: float
    p95: float
    p99: float


class Measured(Value):
    """What one package costs.

    p50, p95, p99: milliseconds of one row at a time, as rows come. by_length: the same for a short, a median and a long row
    (5th, 50th, 95th percentile by tokens). p50_ratio: p50 against the first package's in the same race; like all of these a
    point estimate. throughput: rows a second in groups of rows of similar length, which come as often as the rows' own
    lengths have it. ratio: its throughput against the first package's, the median over the rounds of both in
    the same round; ratio_low, ratio_high: the median's interval by order statistics, 95% from 6 rounds on. memory_mb:
    highest resident memory of a process that loads it and answers; model_mb: what of it came with loading and answering and
    stayed. size_mb: of the model file. load_seconds: of its Runtime.load, libraries imported. MB are 10^6 bytes.
    """

    p50: float
    p95: float
    p99: float
    p50_ratio: float
    by_length: dict[str, Percentiles]
    throughput: float
    ratio: float
    ratio_low: float
    ratio_high: float
    memory_mb: float
    model_mb: float
    size_mb: float
    load_seconds: float
    rounds: int


def measure(
    folders: Mapping[str, Path], items: Sequence[Item], budget_seconds: float, seed: int = 0
) -> dict[str, Measured]:
    """Measures packages against the first of them, in rounds that alternate so that the machine's noise meets all alike.

    items: rows as the packages' task asks them. budget_seconds: about how long it takes, at least 3 rounds. seed: of the
    order within a round. Raises UserError without items, and for a folder that the runtime cannot load.
    """
    if not len(items):
        raise UserError("measure: found no items, at least 1 is needed")
    started = time.perf_counter()
    names = list(folders)
    asked = [str(Path(folders[name]).absolute()) for name in names]
    alone = [_ask({"alone": folder, "items": _some(items)}, budget_seconds) for folder in asked]
    # Loading may have taken long: half of the budget is for the race in any case.
    left = max(budget_seconds / 2, budget_seconds - (time.perf_counter() - started))
    race = _ask({"race": asked, "items": list(items), "seconds": left, "seed": seed}, budget_seconds)
    return {
        name: Measured(**own | costs, size_mb=(Path(folders[name]) / MODEL).stat().st_size / 1e6, rounds=race["rounds"])
        for name, own, costs in zip(names, race["packages"], alone, strict=True)
    }


def _ask(question: dict[str, Any], budget: float) -> dict[str, Any]:
    return ask_apart(_MODULE, question, budget + _PATIENCE)


def _some(items: Sequence[Item], rows: int = 64) -> list[Item]:
    return list(items[:: max(1, len(items) // rows)][:rows])
