"""A test that is looked at after each observation: how often it is wrong, and how soon it is right."""

from __future__ import annotations

import random
import statistics

import pytest

from mlops.statistics.sequential import Bet, Limit

ALPHA = 0.05


def looks(share: float, limit: Limit, seed: int, most: int) -> tuple[str, int]:
    """What is shown first of Bernoulli observations, and after how many."""
    draw = random.Random(seed)
    for number in range(1, most + 1):
        limit.add(float(draw.random() < share))
        if limit.kept(ALPHA):
            return "kept", number
        if limit.broken(ALPHA):
            return "broken", number
    return "neither", most


@pytest.mark.parametrize("share", [0.1, 0.5, 0.85, 0.99])
def test_at_the_limit_itself_either_is_shown_wrongly_with_alpha_at_the_most(share: float) -> None:
    found = [looks(share, Limit(share), seed, 1000)[0] for seed in range(400)]
    error = 2 * (ALPHA * (1 - ALPHA) / 400) ** 0.5  # of 400 simulations
    assert found.count("kept") / 400 <= ALPHA + error
    assert found.count("broken") / 400 <= ALPHA + error


@pytest.mark.parametrize(("share", "shown", "most"), [(0.98, "kept", 80), (0.6, "broken", 80), (0.9, "kept", 900)])
def test_what_is_off_the_limit_is_shown(share: float, shown: str, most: int) -> None:
    found = [looks(share, Limit(0.85), seed, 5000) for seed in range(40)]
    assert sum(what == shown for what, _ in found) >= 38
    assert statistics.median(number for _, number in found) <= most


def test_numbers_of_any_range_and_those_outside_of_it() -> None:
    errors = Limit(-0.01, low=-1.0, high=1.0)
    for _ in range(700):
        errors.add(0.0)
    assert errors.kept(ALPHA)
    assert not errors.broken(ALPHA)
    assert errors.mean == 0
    with pytest.raises(ValueError, match=r"found 1.5; allowed are 0 to 1"):
        errors.add(2.0)
    with pytest.raises(ValueError, match="limit is 1; allowed is more than 0 and less than 1"):
        Bet(1.0)
