"""The paired difference of two models on the same units, with bounds that hold for few units too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mlops.statistics.bootstrap import Floats, Values, distinct

_TAIL = 20  # draws beyond a quantile from which it is read off them
_MOST = 100_000
_CELLS = 4_000_000


@dataclass(frozen=True)
class Difference:
    """a - b of one metric. low, high: the one-sided 1 - alpha bounds to either side. n: sampling units.

    detectable: the smallest drop that these units would have shown with 80% power: from the draws' standard error,
    and never below the share of broken ones at which n have one among them in 80% of cases, 1 - 0.2^(1/n).
    error: the draws' standard error.
    """

    value: float
    low: float
    high: float
    n: int
    detectable: float
    error: float

    @property
    def p_drop(self) -> float:
        """How probable so low a value were if there were no difference, by the normal approximation."""
        return 1.0 if self.value >= 0 else NormalDist().cdf(self.value / max(self.error, 1e-12))

    def rows_to_settle(self, margin: float, alpha: float) -> int | None:
        """About how many units would bring the lower bound above -margin if the difference stays what it is; none if never.

        From the normal approximation: the bound's distance shrinks with the square root of the units.
        """
        gap = self.value + margin
        if gap <= 0:
            return None
        half = self.value - self.low
        return max(self.n + 1, math.ceil(self.n * (half / gap) ** 2))


class Extremes(NamedTuple):
    """The units' statistics [n, k] if every answer were right, and if every one were wrong."""

    right: Floats
    wrong: Floats


def difference(
    a: Floats,
    b: Floats,
    values: Values,
    metric: str,
    alpha: float,
    resamples: int = 5000,
    seed: int = 0,
    extremes: Extremes | None = None,
) -> Difference:
    """metric(a) - metric(b), both models' units drawn together, so that what they share cancels.

    a, b: the statistics of either model [n, k], unit by unit the same rows. Weights of the units are drawn from the flat
    Dirichlet distribution (Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981), with one unit more than there
    are: for the lower bound one that a gets wrong and b right, for the upper one the other way round, as one of the rows
    might have been (`extremes`). For the share of rows that a alone gets wrong that is the exact bound of Clopper and
    Pearson (Biometrika 26, 1934), whose quantiles are those of a Beta distribution with just this row more; the plain
    bootstrap calls two models equal for certain where a few hundred rows happen to show no difference.
    Raises ValueError without units, for units that do not pair, or for an unknown metric.
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
    bad = good = np.zeros((1, 2 * width))
    if extremes is not None:
        bad, good = np.hstack([extremes.wrong, extremes.right]), np.hstack([extremes.right, extremes.wrong])
    count = min(_MOST, max(resamples, math.ceil(2 * _TAIL / alpha)))
    lows, highs = _draws(both, bad, good, gap, count, seed)
    normal = NormalDist()
    error = float(lows.std())
    spread = error * (normal.inv_cdf(1 - alpha) + normal.inv_cdf(0.8))
    detectable = max(spread, 1 - 0.2 ** (1 / n))
    low, high = _bound(lows, alpha), -_bound(-highs, alpha)
    return Difference(value, min(low, value), max(high, value), n, detectable, error)


def _draws(
    both: Floats, bad: Floats, good: Floats, gap: Callable[[Floats], Floats], count: int, seed: int
) -> tuple[Floats, Floats]:
    """`count` differences with a bad unit more, and with a good one more."""
    types, worse, better = distinct(both), distinct(bad), distinct(good)
    random = np.random.default_rng(seed)
    size = max(1, _CELLS // max(len(types.counts), 1))
    lows: list[Floats] = []
    highs: list[Floats] = []
    for start in range(0, count, size):
        rows = min(size, count - start)
        weights = random.standard_gamma(types.counts.astype(np.float64), size=(rows, len(types.counts)))
        totals = weights @ types.vectors
        one_more = random.standard_exponential(size=(rows, 1))
        for extra, found in ((worse, lows), (better, highs)):
            which = random.choice(len(extra.counts), size=rows, p=extra.counts / extra.n)
            found.append(gap(totals + one_more * extra.vectors[which]))
    return np.concatenate(lows), np.concatenate(highs)


def _bound(draws: Floats, alpha: float) -> float:
    """The alpha quantile; from their mean and spread where too few draws lie beyond it."""
    if len(draws) * alpha >= _TAIL:
        return float(np.quantile(draws, alpha))
    return float(draws.mean() + NormalDist().inv_cdf(alpha) * draws.std())
