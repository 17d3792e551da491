"""The paired difference of two models on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mlops.statistics.bootstrap import Floats, Values, resampled


@dataclass(frozen=True)
class Difference:
    """a - b of one metric. low, high: the one-sided 1 - alpha bounds to either side. n: sampling units.

    detectable: the smallest drop that these units would have shown with 80% power: from the bootstrap's standard error,
    and never below the share of broken ones at which n have one among them in 80% of cases, 1 - 0.2^(1/n).
    """

    value: float
    low: float
    high: float
    n: int
    detectable: float

    def rows_to_settle(self, margin: float, alpha: float) -> int | None:
        """About how many units would bring the lower bound above -margin if the difference stays what it is; none if never.

        From the normal approximation: the bound's distance shrinks with the square root of the units.
        """
        gap = self.value + margin
        if gap <= 0:
            return None
        half = self.value - self.low
        return max(self.n + 1, math.ceil(self.n * (half / gap) ** 2))


def difference(
    a: Floats, b: Floats, values: Values, metric: str, alpha: float, resamples: int = 5000, seed: int = 0
) -> Difference:
    """Paired bootstrap of metric(a) - metric(b): both are resampled by the same units, so that what they share cancels.

    a, b: the statistics of either model [n, k], unit by unit the same rows. The bounds are the alpha and 1 - alpha
    percentiles (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). With few rows that changed
    hands they are narrower than an exact test's: `detectable` is reported beside them so that a reader can see it.
    Raises ValueError without rows, for rows that do not pair, or for an unknown metric.
    """
    n, width = a.shape
    if n == 0:
        raise ValueError("no rows to compare")
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} units that do not pair")
    known = values(a.sum(axis=0, keepdims=True))
    if metric not in known:
        raise ValueError(f"unknown metric {metric!r}; allowed: {', '.join(known)}")

    def gap(totals: Floats) -> Floats:
        return np.asarray(values(totals[:, :width])[metric] - values(totals[:, width:])[metric])

    both = np.hstack([a, b])
    value = float(gap(both.sum(axis=0, keepdims=True))[0])
    draws = np.concatenate([gap(chunk) for chunk in resampled(both, resamples, seed)])
    low, high = (float(bound) for bound in np.quantile(draws, [alpha, 1 - alpha]))
    normal = NormalDist()
    spread = float(draws.std()) * (normal.inv_cdf(1 - alpha) + normal.inv_cdf(0.8))
    detectable = max(spread, 1 - 0.2 ** (1 / n))
    return Difference(value, min(low, value), max(high, value), n, detectable)
