"""The rules that judge a candidate and the file that ships: pure functions, no I/O.

`judge_candidate` is the gate: floor, baseline, paired comparison with the champion. `judge_variant` judges one
compressed file: what it lost against the original, its limits, and the same paired comparison again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlops.config import GateSection, PipelineConfig
from mlops.statistics.classification import Ints, counts, scores
from mlops.statistics.paired import Difference, difference
from mlops.types import Check, Evaluation, Verdict

CHAMPION = "against_champion"


@dataclass(frozen=True)
class Rows:
    """Predictions of one model on frozen rows, in the order of their ids: labels and predicted as text, [n] each."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]


def _positions(values: Sequence[str], names: Sequence[str]) -> Ints:
    place = {name: position for position, name in enumerate(names)}
    return np.array([place.get(value, -1) for value in values], dtype=np.int64)


def _names(rows: Rows, candidate: Evaluation) -> list[str]:
    """The labels that the metric averages over: the candidate's own, as in its evaluation, and those of the rows."""
    own = {name.removeprefix("f1/") for name in candidate.metrics if name.startswith("f1/")}
    return sorted(own | set(rows.labels))


def paired(candidate: Rows, other: Rows, names: Sequence[str], rules: GateSection) -> Difference:
    """Candidate minus other on the same rows; ValueError unless they were scored on the same rows."""
    if candidate.ids != other.ids or candidate.labels != other.labels:
        raise ValueError(f"{len(candidate.ids)} and {len(other.ids)} rows that are not the same rows")
    labels, ours, theirs = (
        _positions(part, names) for part in (candidate.labels, candidate.predicted, other.predicted)
    )
    return difference(labels, ours, theirs, names, rules.metric, rules.alpha, rules.resamples)


def _value(rows: Rows, predicted: Sequence[str], names: Sequence[str], metric: str) -> float:
    totals = counts(_positions(rows.labels, names), _positions(predicted, names), len(names)).sum(axis=0, keepdims=True)
    return float(scores(totals, len(rows.ids), names)[metric][0])


def floor_check(evaluation: Evaluation, rules: GateSection) -> Check:
    """The absolute floor, on the value of the gate's metric."""
    metric = evaluation.metrics[rules.metric]
    return Check(
        name="floor",
        observed=round(metric.value, 4),
        allowed=f">= {rules.floor:g}",
        outcome="pass" if metric.value >= rules.floor else "fail",
        detail=f"{rules.metric} {metric.value:.4f}, interval {metric.low:.4f} to {metric.high:.4f} over {metric.n} rows",
    )


def majority_check(candidate: Rows, names: Sequence[str], rules: GateSection) -> Check:
    """Beats, with confidence, a model that always answers the rows' most frequent label."""
    values, sizes = np.unique(np.array(candidate.labels), return_counts=True)
    label = str(values[sizes.argmax()])
    constant = Rows(candidate.ids, candidate.labels, (label,) * len(candidate.ids))
    gap = paired(candidate, constant, names, rules)
    baseline = _value(candidate, constant.predicted, names, rules.metric)
    return Check(
        name="majority_baseline",
        observed=round(gap.low, 4),
        allowed="> 0",
        outcome="pass" if gap.low > 0 else "fail",
        detail=f"always {label!r} reaches {rules.metric} {baseline:.4f}; lower bound of the gain over it",
    )


def champion_check(candidate: Rows, champion: Rows, names: Sequence[str], rules: GateSection) -> Check:
    """Not worse than the champion by more than the margin: the lower bound of the paired difference decides.

    pass: it is above -margin (non-inferior). fail: the upper bound is below 0, the candidate is worse. Otherwise the
    rows are too few to tell: inconclusive, with the number of rows that would settle it.
    """
    gap = paired(candidate, champion, names, rules)
    fixed, broken = gap.changed
    detail = (
        f"{rules.metric} {gap.value:+.4f} against the champion, {1 - 2 * rules.alpha:.0%} interval "
        f"{gap.low:+.4f} to {gap.high:+.4f} over {gap.n} rows; {fixed} fixed, {broken} broken; "
        f"smallest drop these rows would show: {gap.detectable:.4f}"
    )
    if gap.low > -rules.margin:
        outcome = "pass"
        detail = ("better: " if gap.low > 0 else "as good: ") + detail
    elif gap.high < 0:
        outcome, detail = "fail", "worse: " + detail
    else:
        outcome = "inconclusive"
        needed = gap.rows_to_settle(rules.margin, rules.alpha)
        detail += f"; about {needed} test rows would settle it" if needed else "; more rows would not let it in"
    return Check(
        name=CHAMPION,
        observed=round(gap.low, 4),
        allowed=f"> {-rules.margin:g}",
        outcome=outcome,  # type: ignore[arg-type]
        detail=detail,
    )


def judge_candidate(evaluation: Evaluation, candidate: Rows, champion: Rows | None, rules: GateSection) -> Verdict:
    """The gate's verdict. `champion` is none for the first one, which the floor and the baseline judge alone."""
    if rules.metric not in evaluation.metrics:
        check = Check(
            name="metric",
            observed=rules.metric,
            allowed=", ".join(evaluation.metrics),
            outcome="fail",
            detail="gate.metric names a metric that this model does not have",
        )
        return Verdict(subject="candidate", checks=(check,))
    names = _names(candidate, evaluation)
    checks = [floor_check(evaluation, rules), majority_check(candidate, names, rules)]
    if champion is not None:
        checks.append(champion_check(candidate, champion, names, rules))
    return Verdict(subject="candidate", checks=tuple(checks))


def _limit(name: str, observed: float, allowed: float | None, unit: str, detail: str = "") -> Check:
    return Check(
        name=name,
        observed=round(observed, 4),
        allowed="no limit" if allowed is None else f"<= {allowed:g}",
        unit=unit,
        outcome="pass" if allowed is None or observed <= allowed else "fail",
        detail=detail,
    )


def judge_variant(
    config: PipelineConfig,
    variant: str,
    evaluation: Evaluation,
    rows: Rows,
    original: Rows,
    champion: Rows | None,
) -> Verdict:
    """The verdict on one file: metric drop and label flips against the original, p95, size, floor, champion."""
    rules = config.gate
    names = _names(rows, evaluation)
    lost = paired(original, rows, names, rules)
    flips = float(np.mean([ours != theirs for ours, theirs in zip(rows.predicted, original.predicted, strict=True)]))
    latency = evaluation.latency
    checks = [
        _limit(
            "metric_drop", lost.value, config.compress.max_drop, "", f"interval {lost.low:+.4f} to {lost.high:+.4f}"
        ),
        _limit(
            "label_flips", flips, config.verify.max_flips, "", "share of rows with another label than the original's"
        ),
        _limit("p95_ms", latency.p95 if latency else float("inf"), config.verify.p95_ms, " ms", "one row at a time"),
        _limit("size_mb", evaluation.size / 1e6, config.verify.max_size_mb, " MB"),
        floor_check(evaluation, rules),
    ]
    if champion is not None:
        checks.append(champion_check(rows, champion, names, rules))
    return Verdict(subject=variant, checks=tuple(checks))
