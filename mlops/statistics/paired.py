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

        The variance of the difference is taken for that of k units that changed hands and the one that the bound adds: k
        grows with the units, the one does not.
        """
        gap = self.value + margin
        if gap <= 0:
            return None
        half = self.value - self.low
        changed = max(0.0, (self.n * self.error) ** 2 - 1)

        def reach(times: float) -> float:
            return half / times * math.sqrt((changed * times + 1) / (changed + 1))

        low, high = 1.0, 2.0
        while reach(high) >= gap and high < 1e12:
            low, high = high, high * 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if reach(middle) < gap else (middle, high)
        return max(self.n + 1, math.ceil(self.n * high))


class Extremes(NamedTuple):
    """What one unit more might have been, [m, k] each: its statistics if answered right, and if answered wrong."""

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
    are: for the lower bound the one of `extremes` that, answered wrong by a and right by b, costs a most; for the upper one
    the other way round. For the share of rows that a alone gets wrong that is the exact bound of Clopper and
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
    bad = good = np.zeros(2 * width)
    if extremes is not None and len(extremes.right):
        total = both.sum(axis=0)
        worse = distinct(np.hstack([extremes.wrong, extremes.right])).vectors
        better = np.hstack([worse[:, width:], worse[:, :width]])
        bad, good = worse[int(np.argmin(gap(total + worse)))], better[int(np.argmax(gap(total + better)))]
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
    types = distinct(both)
    random = np.random.default_rng(seed)
    size = max(1, _CELLS // max(len(types.counts), 1))
    lows: list[Floats] = []
    highs: list[Floats] = []
    for start in range(0, count, size):
        rows = min(size, count - start)
        weights = random.standard_gamma(types.counts.astype(np.float64), size=(rows, len(types.counts)))
        totals = weights @ types.vectors
        one_more = random.standard_exponential(size=(rows, 1))
        lows.append(gap(totals + one_more * bad))
        highs.append(gap(totals + one_more * good))
    return np.concatenate(lows), np.concatenate(highs)


def _bound(draws: Floats, alpha: float) -> float:
    """The alpha quantile; where too few draws lie beyond it that of an exponential tail fitted to the lowest ones.

    No log-concave tail is heavier, and the draws of a share are log-concave (Beta).
    """
    if len(draws) * alpha >= _TAIL:
        return float(np.quantile(draws, alpha))
    tail = np.sort(draws)[: max(5 * _TAIL, len(draws) // 1000)]
    edge = float(tail[-1])
    return edge + (edge - float(tail.mean())) * math.log(alpha * len(draws) / len(tail))
