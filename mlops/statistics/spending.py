"""How much of alpha each look at a test set may spend, so that all of them together err no more often than alpha says.

The looks of a sequence that never has to end: alpha_k = alpha / (k (k + 1)), which add up to alpha. A test at each of these
levels keeps the family-wise error at alpha whatever the looks have to do with each other (Bonferroni's inequality; alpha
spending after Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983; for sequences
without an end Foster and Stine, "Alpha-investing", JRSS B 70, 2008, and Tian and Ramdas, "Online control of the familywise
error rate", Statistical Methods in Medical Research 30, 2021).
"""

from __future__ import annotations

from statistics import NormalDist

WORN = 1.5  # a set is worn where a difference has to be this many times as large as at the first look


def level(alpha: float, look: int) -> float:
    """The level of the look, from 1; ValueError for others."""
    if look < 1:
        raise ValueError(f"look {look}; allowed: 1 and up")
    return alpha / (look * (look + 1))


def spent(alpha: float, look: int) -> float:
    """What the first `look` looks spend together."""
    return alpha * look / (look + 1)


def effort(alpha: float, look: int) -> float:
    """How many times as far from the margin a difference has to lie as at the first look, in standard errors."""
    normal = NormalDist()
    return normal.inv_cdf(1 - level(alpha, look)) / normal.inv_cdf(1 - level(alpha, 1))


def worn_at(alpha: float) -> int:
    """The first look at which a test set ought to be refreshed."""
    return next(look for look in range(1, 10_000) if effort(alpha, look) >= WORN)
