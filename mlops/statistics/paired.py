"""The paired difference of two models on the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mlops.statistics.classification import Floats, Ints, counts, resampled, scores


@dataclass(frozen=True)
class Difference:
    """a - b of one metric. low, high: the one-sided 1 - alpha bounds to either side. n: rows.

    detectable: the smallest drop that these rows would have shown with 80% power: from the bootstrap's standard error, and
    never below the share of broken rows at which n rows have one among them in 80% of cases, 1 - 0.2^(1/n).
    changed: rows on which exactly one of the two is right, as (a right, b right).
    """

    value: float
    low: float
    high: float
    n: int
    detectable: float
    changed: tuple[int, int]

    def rows_to_settle(self, margin: float, alpha: float) -> int | None:
        """About how many rows would bring the lower bound above -margin if the difference stays what it is; none if never.

        From the normal approximation: the bound's distance shrinks with the square root of the rows.
        """
        gap = self.value + margin
        if gap <= 0:
            return None
        half = self.value - self.low
        return max(self.n + 1, math.ceil(self.n * (half / gap) ** 2))


def difference(
    labels: Ints,
    a: Ints,
    b: Ints,
    names: Sequence[str],
    metric: str,
    alpha: float,
    resamples: int = 5000,
    seed: int = 0,
) -> Difference:
    """Paired bootstrap of metric(a) - metric(b): both are resampled by the same rows, so that what they share cancels.

    labels, a, b: [n] positions in `names`. The bounds are the alpha and 1 - alpha percentiles (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapter 13). With few rows that changed hands they are narrower than an
    exact test's: `detectable` and `changed` are reported beside them so that a reader can see it.
    Raises ValueError without rows or for an unknown metric.
    """
    n = len(labels)
    if n == 0:
        raise ValueError("no rows to compare")
    width = 3 * len(names)
    rows = np.hstack([counts(labels, a, len(names)), counts(labels, b, len(names))])
    point = rows.sum(axis=0, keepdims=True)
    known = scores(point[:, :width], n, names)
    if metric not in known:
        raise ValueError(f"unknown metric {metric!r}; allowed: {', '.join(known)}")

    def gap(totals: Floats) -> Floats:
        return scores(totals[:, :width], n, names)[metric] - scores(totals[:, width:], n, names)[metric]

    value = float(gap(point)[0])
    draws = np.concatenate([gap(chunk) for chunk in resampled(rows, resamples, seed)])
    low, high = (float(bound) for bound in np.quantile(draws, [alpha, 1 - alpha]))
    better, worse = int(((a == labels) & (b != labels)).sum()), int(((a != labels) & (b == labels)).sum())
    normal = NormalDist()
    spread = float(draws.std()) * (normal.inv_cdf(1 - alpha) + normal.inv_cdf(0.8))
    detectable = max(spread, 1 - 0.2 ** (1 / n))
    return Difference(value, min(low, value), max(high, value), n, detectable, (better, worse))
