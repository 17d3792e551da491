"""Intervals of any metric that is a function of sums: each sampling unit gives a vector, a resample is a weighted sum.

So all resamples are one matrix product with the units' vectors, and no metric library is called per resample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mlops.types import Metric

Floats = npt.NDArray[np.float64]
Values = Callable[[Floats], Mapping[str, Floats]]  # summed vectors [resamples, k] to metrics [resamples]

_CHUNK = 250  # resamples at a time: memory stays at chunk × units × 8 bytes
LOWER_IS_BETTER = ("mae",)


def resampled(units: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Sums of `units` [n, k] over bootstrap resamples of the units (Efron, 1979), in chunks of [≤ 250, k]."""
    n = len(units)
    random = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        yield random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64) @ units


def point(units: Floats, values: Values) -> dict[str, float]:
    """The metrics of the units as they are."""
    return {name: float(value[0]) for name, value in values(units.sum(axis=0, keepdims=True)).items()}


def intervals(units: Floats, values: Values, resamples: int = 2000, seed: int = 0) -> dict[str, Metric]:
    """Every metric with its 95% percentile-bootstrap interval over the units. Raises ValueError without units."""
    if not len(units):
        raise ValueError("no rows to score")
    draws = [values(chunk) for chunk in resampled(units, resamples, seed)]
    result = {}
    for name, value in point(units, values).items():
        low, high = np.quantile(np.concatenate([draw[name] for draw in draws]), [0.025, 0.975])
        result[name] = Metric(
            value=value,
            low=float(low),
            high=float(high),
            n=len(units),
            higher_is_better=name not in LOWER_IS_BETTER,
        )
    return result
