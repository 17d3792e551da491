"""A candidate's trial: what is shown by which pairs of answers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlops.config_rollout import RolloutSection
from mlops.serving.trial import Pair, Trial, alike

A, B = {"label": "a", "score": 0.9}, {"label": "b", "score": 0.6}


def tried(pair: Pair, most: int, **rules: Any) -> Trial:
    trial = Trial("1", "2", RolloutSection(**rules))
    while trial.outcome == "running" and trial.pairs < most:
        trial.add(pair)
    return trial


def test_what_keeps_to_all_limits_passes_and_not_before_each_is_shown() -> None:
    trial = tried(Pair([A, A], [A, A], 0.010, 0.010), 2000)
    assert trial.outcome == "passed"
    # One failure in a hundred cannot be ruled out by fewer than 300 requests without any.
    assert 300 <= trial.pairs <= 600
    assert [check.outcome for check in trial.verdict().checks] == ["pass"] * 3
    assert trial.verdict().outcome == "pass"


@pytest.mark.parametrize(
    ("pair", "wrong"),
    [
        (Pair([A, B], [A, A], 0.01, 0.01), "rollout agreement"),
        (Pair(None, [A]), "rollout errors"),
        (Pair([A], [A], 0.020, 0.010), "rollout latency"),
    ],
)
def test_what_breaks_a_limit_fails_soon_and_the_verdict_names_it(pair: Pair, wrong: str) -> None:
    trial = tried(pair, 2000)
    assert trial.outcome == "failed"
    assert trial.pairs <= 60
    assert [check.name for check in trial.verdict().checks if check.outcome == "fail"] == [wrong]
    assert trial.verdict().outcome == "fail"


def test_failures_that_the_champion_has_too_are_not_the_candidates() -> None:
    trial = tried(Pair(None, None), 200)
    assert trial.outcome == "running"
    assert trial.errors.mean == 0


def test_requests_that_shared_a_call_tell_nothing_about_time() -> None:
    trial = tried(Pair([A], [A], math.nan, 0.01), 700)
    assert trial.fast.count == 0
    assert trial.outcome == "running"
    assert "latency" in str(trial.verdict().explain())
    assert trial.verdict().outcome == "inconclusive"


def test_it_ends_undecided_after_its_requests_or_its_hours() -> None:
    assert tried(Pair([A], [A]), 2000, max_requests=150).outcome == "undecided"
    now = [0.0]
    trial = Trial("1", "2", RolloutSection(max_hours=2), lambda: now[0])
    now[0] = 3600.0 * 1.9
    assert trial.outcome == "running"
    now[0] = 3600.0 * 2.1
    assert trial.outcome == "undecided"
    assert trial.told()["hours"] == 2.1


def test_answers_of_every_kind() -> None:
    entity = {"start": 0, "end": 3, "type": "person", "text": "Ada", "score": 0.9}
    assert alike(A, A | {"score": 0.1})
    assert not alike(A, B)
    assert alike({"labels": ["x", "y"], "scores": {}}, {"labels": ["y", "x"], "scores": {}})
    assert not alike({"labels": ["x"], "scores": {}}, {"labels": [], "scores": {}})
    assert alike([entity], [entity | {"score": 0.2}])
    assert not alike([entity], [])
    assert alike({"score": 0.50}, {"score": 0.55})
    assert not alike({"score": 0.1}, {"score": 0.5})
