"""A test that may be looked at after each observation: whether a mean is above or below a limit.

A bet against the hypothesis, whose capital stays below 1 / alpha for ever with a chance of at least 1 - alpha where the
hypothesis holds (Ville 1939). What is staked follows what was seen so far (Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting", JRSS B 86, 2024, section 4 and appendix B.2: aGRAPA). Observations need not be independent: it is
enough that, whatever came before, the next one's mean keeps to the hypothesis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_MOST = 0.75  # of the capital that one observation may cost


@dataclass
class Bet:
    """Evidence that the mean of numbers from 0 to 1 is above `limit`, which lies between 0 and 1."""

    limit: float
    count: int = 0
    log_capital: float = 0.0
    _mean: float = 0.5  # as if one observation of .5 had been there before
    _squares: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.limit < 1:
            raise ValueError(f"limit is {self.limit:g}; allowed is more than 0 and less than 1")

    def add(self, value: float) -> None:
        """ValueError for a number outside of 0 to 1."""
        if not 0 <= value <= 1:
            raise ValueError(f"found {value:g}; allowed are 0 to 1")
        over = self._mean - self.limit
        variance = self._squares / (self.count + 1)
        stake = min(max(over / (variance + over * over), 0.0), _MOST / self.limit)
        self.log_capital += math.log1p(stake * (value - self.limit))
        self.count += 1
        step = value - self._mean
        self._mean += step / (self.count + 1)
        self._squares += step * (value - self._mean)

    def shown(self, alpha: float) -> bool:
        """Whether the mean is above the limit, wrongly so with a chance of at most alpha over all looks."""
        return self.log_capital >= -math.log(alpha)


@dataclass
class Limit:
    """Numbers from low to high whose mean should not be below `least`: shown to keep to it, shown to break it, or neither yet.

    alpha of `kept` and of `broken` is that of all looks together.
    """

    least: float
    low: float = 0.0
    high: float = 1.0
    total: float = 0.0
    _above: Bet = field(init=False)
    _below: Bet = field(init=False)

    def __post_init__(self) -> None:
        place = (self.least - self.low) / (self.high - self.low)
        self._above, self._below = Bet(place), Bet(1 - place)

    @property
    def count(self) -> int:
        return self._above.count

    @property
    def mean(self) -> float:
        """Of what was seen; NaN before anything was."""
        return self.total / self.count if self.count else math.nan

    def add(self, value: float) -> None:
        """One more of them."""
        place = (value - self.low) / (self.high - self.low)
        self._above.add(place)
        self._below.add(1 - place)
        self.total += value

    def kept(self, alpha: float) -> bool:
        return self._above.shown(alpha)

    def broken(self, alpha: float) -> bool:
        return self._below.shown(alpha)
