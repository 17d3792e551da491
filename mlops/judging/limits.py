"""The limits of a file that may ship: what it lost against the model that it was made from, how fast and how large it is."""

from __future__ import annotations

from mlops.judging.answers import flips, paired
from mlops.judging.case import Case
from mlops.types import Check


def limit_checks(case: Case) -> list[Check]:
    """One check per limit; none for the candidate itself."""
    limits, original = case.limits, case.original
    if limits is None or original is None:
        return []
    lost = paired(case.task, original, case.candidate, case.outputs, case.rules)
    changed = flips(case.task, case.candidate.predicted, original.predicted)
    what = "tags" if case.task.kind == "tokens" else "labels"
    latency, evaluation = case.evaluation.latency, case.evaluation
    return [
        _limit("metric_drop", lost.value, limits.max_drop, "", f"interval {lost.low:+.4f} to {lost.high:+.4f}"),
        _limit("label_flips", changed, limits.max_flips, "", f"share of {what} other than the original's"),
        _limit("p95_ms", latency.p95 if latency else None, limits.p95_ms, " ms", "one row at a time"),
        _limit("size_mb", evaluation.size / 1e6, limits.max_size_mb, " MB"),
    ]


def _limit(name: str, observed: float | None, allowed: float | None, unit: str, detail: str = "") -> Check:
    kept = allowed is None or (observed is not None and observed <= allowed)
    return Check(
        name=name,
        observed=None if observed is None else round(observed, 4),
        allowed="no limit" if allowed is None else f"<= {allowed:g}",
        unit=unit,
        outcome="pass" if kept else "fail",
        detail=detail,
    )
