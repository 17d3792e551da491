"""Intervals of any metric that is a function of sums: each sampling unit gives a vector, a resample is a weighted sum.

Units with equal vectors are one type with a count, and a resample only says how often each type was drawn: a hundred types
of a million rows cost what a hundred rows cost. All resamples are one matrix product, no metric library is called per
resample, and the order of the rows does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.types import Metric

Floats = npt.NDArray[np.float64]
Values = Callable[[Floats], Mapping[str, Floats]]  # summed vectors [resamples, k] to metrics [resamples]

_CELLS = 4_000_000  # weights at a time: 32 MB
LOWER_IS_BETTER = ("mae", "ece")


class Types(NamedTuple):
    """Distinct units: vectors [u, k] in an order of their own, and how many units have each, [u]."""

    vectors: Floats
    counts: npt.NDArray[np.int64]

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def totals(self) -> Floats:
        """The sum over all units, [1, k]."""
        return np.asarray((self.counts @ self.vectors)[None])


def distinct(units: Floats) -> Types:
    """The types of some units [n, k]; whatever order these are in, the same."""
    if not len(units):
        return Types(units, np.zeros(0, dtype=np.int64))
    # A projection tells rows apart a hundred times as fast as sorting them; where two fell together, they are sorted.
    # Summed row by row: a matrix product rounds a row by where it stands.
    keys = (np.ascontiguousarray(units) * np.random.default_rng(0).standard_normal(units.shape[1])).sum(axis=1)
    _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    vectors = units[first]
    if (vectors[inverse.ravel()] != units).any():
        vectors, counts = np.unique(units, axis=0, return_counts=True)
    return Types(np.asarray(vectors), counts.astype(np.int64))


def by_unit(rows: Floats, units: Sequence[str | int]) -> Floats:
    """Vectors [n, k] summed over the rows of each unit [n]: [units, k], in the order in which units first come."""
    _, first, codes = np.unique(np.asarray(units, dtype=object).astype(str), return_index=True, return_inverse=True)
    out = np.zeros((len(first), rows.shape[1]))
    np.add.at(out, np.argsort(np.argsort(first))[codes.ravel()], rows)
    return out


def resampled(types: Types, resamples: int, seed: int) -> Iterator[Floats]:
    """Sums over bootstrap resamples of the units (Efron, 1979), in chunks of [some, k]."""
    n, kinds = types.n, len(types.counts)
    random = np.random.default_rng(seed)
    few = kinds * 4 <= n  # then how often each type comes is drawn at once, else unit by unit
    size = max(1, _CELLS // (kinds if few else n))
    unit_types = np.repeat(np.arange(kinds), types.counts)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        if few:
            drawn = random.multinomial(n, types.counts / n, size=rows)
        else:
            places = unit_types[random.integers(0, n, size=(rows, n))] + (np.arange(rows) * kinds)[:, None]
            drawn = np.bincount(places.ravel(), minlength=rows * kinds).reshape(rows, kinds)
        yield drawn.astype(np.float64) @ types.vectors


def point(units: Floats, values: Values) -> dict[str, float]:
    """The metrics of the units as they are."""
    return {name: float(value[0]) for name, value in values(units.sum(axis=0, keepdims=True)).items()}


def intervals(
    units: Floats, values: Values, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Metric]:
    """Every metric with its BCa bootstrap interval over the units [n, k] (Efron, "Better bootstrap confidence intervals",
    JASA 82, 1987). Raises ValueError without units."""
    if not len(units):
        raise ValueError("no rows to score")
    types = distinct(units)
    chunks = [values(chunk) for chunk in resampled(types, resamples, seed)]
    without = values(types.totals - types.vectors) if types.n > 1 else {}
    result = {}
    for name, found in values(types.totals).items():
        value = float(found[0])
        draws = np.concatenate([chunk[name] for chunk in chunks])
        low, high = bca(value, draws, without.get(name, draws[:0]), types.counts, level)
        result[name] = Metric(value=value, low=low, high=high, n=types.n, higher_is_better=name not in LOWER_IS_BETTER)
    return result


def bca(
    value: float, draws: Floats, without: Floats, counts: npt.NDArray[np.int64], level: float = 0.95
) -> tuple[float, float]:
    """Bounds of a two-sided BCa interval: percentiles of the draws, moved by their bias and by the acceleration.

    without [u]: the metric with one unit of each type left out. Where all draws lie on one side of the value, or nothing
    changes it, the percentiles stay where they are.
    """
    normal = NormalDist()
    tail = (1 - level) / 2
    shares = [tail, 1 - tail]
    below = float(np.mean(draws < value) + np.mean(draws <= value)) / 2
    if 0 < below < 1 and len(without):
        bias = normal.inv_cdf(below)
        center = float(np.average(without, weights=counts))
        off = center - without
        spread = float((counts * off**2).sum())
        push = float((counts * off**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        moved = [bias + (z := bias + normal.inv_cdf(share)) / (1 - push * z) for share in shares]
        shares = [normal.cdf(z) for z in moved]
    low, high = np.quantile(draws, sorted(shares))
    return float(min(low, value)), float(max(high, value))
