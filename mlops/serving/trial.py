"""A candidate beside the champion on the same live requests: a pair of answers at a time, until something is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlops.config_rollout import RolloutSection
from mlops.statistics.sequential import Limit
from mlops.types import Check, Verdict

Outcome = Literal["running", "passed", "failed", "undecided"]


@dataclass(frozen=True)
class Pair:
    """Both answers to one request, none where it failed; seconds that each model took for it alone, else 0 or NaN."""

    candidate: Sequence[Any] | None
    champion: Sequence[Any] | None
    candidate_seconds: float = 0.0
    champion_seconds: float = 0.0


class Trial:
    """Three limits, each by a sequential test. Passed: all are shown to be kept, so alpha holds without a correction: a candidate
    that breaks one of them passes only if that very one is wrongly shown. Failed: one is shown to be broken, by a third of alpha.
    """

    def __init__(
        self, champion: str, candidate: str, rules: RolloutSection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.champion, self.candidate, self.rules = champion, candidate, rules
        self._clock, self._began = clock, clock()
        self.agreement = Limit(rules.min_agreement)
        self.errors = Limit(-rules.max_error_rate, low=-1.0, high=1.0)  # the champion's less the candidate's
        self.fast = Limit(0.5)  # requests within max_latency: half of them, so that the median is
        self.pairs = 0

    def add(self, pair: Pair) -> None:
        """What one request showed."""
        self.pairs += 1
        self.errors.add(float(pair.champion is None) - float(pair.candidate is None))
        if pair.candidate is None or pair.champion is None:
            return
        if pair.candidate:
            same = [alike(*both) for both in zip(pair.candidate, pair.champion, strict=True)]
            self.agreement.add(sum(same) / len(same))
        if pair.candidate_seconds > 0 and pair.champion_seconds > 0:
            self.fast.add(float(pair.candidate_seconds <= self.rules.max_latency * pair.champion_seconds))

    @property
    def _limits(self) -> tuple[Limit, ...]:
        return self.agreement, self.errors, self.fast

    @property
    def hours(self) -> float:
        return (self._clock() - self._began) / 3600

    @property
    def outcome(self) -> Outcome:
        """What is known by now."""
        rules = self.rules
        if any(limit.broken(rules.alpha / len(self._limits)) for limit in self._limits):
            return "failed"
        if self.pairs >= rules.min_requests and all(limit.kept(rules.alpha) for limit in self._limits):
            return "passed"
        if self.pairs >= rules.max_requests or self.hours >= rules.max_hours:
            return "undecided"
        return "running"

    def verdict(self) -> Verdict:
        """The state in the words of a judgement."""
        rules = self.rules
        told = (
            ("agreement", self.agreement, self.agreement.mean, rules.min_agreement, "texts that both answer alike"),
            ("errors", self.errors, -self.errors.mean, rules.max_error_rate, "failed requests above the champion's"),
            ("latency", self.fast, self.fast.mean, 0.5, f"requests within {rules.max_latency:g} x the champion's time"),
        )
        return Verdict(subject="rollout", checks=tuple(self._check(*each) for each in told))

    def _check(self, name: str, limit: Limit, observed: float, allowed: float, detail: str) -> Check:
        outcome: Literal["pass", "fail", "inconclusive"] = "inconclusive"
        if limit.broken(self.rules.alpha / len(self._limits)):
            outcome = "fail"
        elif limit.kept(self.rules.alpha):
            outcome = "pass"
        seen = round(observed, 4) if limit.count else None
        about = f"{detail}, {limit.count} pairs, version {self.candidate} beside {self.champion}"
        return Check(name=f"rollout {name}", observed=seen, allowed=allowed, outcome=outcome, detail=about)

    def told(self) -> dict[str, Any]:
        """The state for the server's page of it."""
        checks = [
            check.model_dump(include={"name", "observed", "allowed", "outcome"}) for check in self.verdict().checks
        ]
        return {
            "champion": self.champion,
            "candidate": self.candidate,
            "outcome": self.outcome,
            "pairs": self.pairs,
            "hours": round(self.hours, 3),
            "checks": checks,
        }


def alike(one: Any, other: Any) -> bool:
    """Whether two answers say the same: the label, the set of labels, the entities; a score of relevance within .1."""
    if isinstance(one, list):
        return _entities(one) == _entities(other)
    if "label" in one:
        return bool(one["label"] == other.get("label"))
    if "labels" in one:
        return set(one["labels"]) == set(other.get("labels", ()))
    return abs(float(one["score"]) - float(other["score"])) <= 0.1


def _entities(found: Sequence[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {(each["start"], each["end"], each["type"]) for each in found}
