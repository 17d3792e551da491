"""The rules that judge a candidate and the file that ships: pure functions, no I/O.

`judge_candidate` is the gate: floor, baseline, paired comparison with the champion. `judge_variant` judges one
compressed file: what it lost against the original, its limits, and the same paired comparison again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlops.config import PipelineConfig
from mlops.config_gate import GateSection
from mlops.statistics.bootstrap import point
from mlops.statistics.classification import Flags
from mlops.statistics.paired import Difference, difference
from mlops.tasks import get
from mlops.tasks.base import Judged, Task
from mlops.types import Check, Evaluation, Verdict

CHAMPION = "against_champion"


@dataclass(frozen=True)
class Rows:
    """One model's answers to frozen rows, in the order of their ids, [n] each.

    labels and predicted: as a snapshot writes them. scores: probabilities of the answers, or what a ranking goes by.
    groups: what rows are ranked within; the rows' ids where nothing is ranked.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    scores: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def judged(self) -> Judged:
        """What tasks make statistics of."""
        return Judged(self.labels, self.predicted, self.scores or (0.0,) * len(self.ids), self.groups or self.ids)


def _outputs(task: Task, rows: Rows, candidate: Evaluation) -> tuple[str, ...]:
    """The outputs that the metric averages over: the candidate's own, and what else the rows' labels need."""
    own = candidate.outputs or tuple(name.removeprefix("f1/") for name in candidate.metrics if name.startswith("f1/"))
    seen = {name for label in set(rows.labels) for name in task.label_names(label)}
    return (*own, *(output for output in task.outputs(sorted(seen)) if output not in own))


def paired(task: Task, candidate: Rows, other: Rows, outputs: Sequence[str], rules: GateSection) -> Difference:
    """Candidate minus other on the same rows; ValueError unless they were scored on the same rows."""
    if candidate.ids != other.ids or candidate.labels != other.labels:
        raise ValueError(f"{len(candidate.ids)} and {len(other.ids)} rows that are not the same rows")
    return _difference(task, candidate.judged, other.judged, outputs, rules)


def _difference(task: Task, candidate: Judged, other: Judged, outputs: Sequence[str], rules: GateSection) -> Difference:
    ours, theirs = (task.statistics(rows, outputs) for rows in (candidate, other))
    return difference(
        ours, theirs, lambda totals: task.values(totals, outputs), rules.metric, rules.alpha, rules.resamples
    )


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


def majority_check(task: Task, candidate: Rows, outputs: Sequence[str], rules: GateSection) -> Check:
    """Beats, with confidence, a model that has only learned which answer is frequent."""
    constant = task.constant(candidate.judged)
    gap = _difference(task, candidate.judged, constant, outputs, rules)
    baseline = point(task.statistics(constant, outputs), lambda totals: task.values(totals, outputs))[rules.metric]
    always = f"always {constant.predicted[0][:100]!r}" if len(set(constant.predicted)) == 1 else "an order by chance"
    return Check(
        name="majority_baseline",
        observed=round(gap.low, 4),
        allowed="> 0",
        outcome="pass" if gap.low > 0 else "fail",
        detail=f"{always} reaches {rules.metric} {baseline:.4f}; lower bound of the gain over it",
    )


def champion_check(task: Task, candidate: Rows, champion: Rows, outputs: Sequence[str], rules: GateSection) -> Check:
    """Not worse than the champion by more than the margin: the lower bound of the paired difference decides.

    pass: it is above -margin (non-inferior). fail: the upper bound is below 0, the candidate is worse. Otherwise the
    rows are too few to tell: inconclusive, with the number of rows that would settle it.
    """
    gap = paired(task, candidate, champion, outputs, rules)
    right, before = (_right(rows) for rows in (candidate, champion))
    fixed, broken = int((right & ~before).sum()), int((~right & before).sum())
    units = "rows" if gap.n == len(candidate.ids) else "groups"
    detail = (
        f"{rules.metric} {gap.value:+.4f} against the champion, {1 - 2 * rules.alpha:.0%} interval "
        f"{gap.low:+.4f} to {gap.high:+.4f} over {gap.n} {units}; {fixed} fixed, {broken} broken; "
        f"smallest drop these {units} would show: {gap.detectable:.4f}"
    )
    if gap.low > -rules.margin:
        outcome = "pass"
        detail = ("better: " if gap.low > 0 else "as good: ") + detail
    elif gap.high < 0:
        outcome, detail = "fail", "worse: " + detail
    else:
        outcome = "inconclusive"
        needed = gap.rows_to_settle(rules.margin, rules.alpha)
        detail += f"; about {needed} test {units} would settle it" if needed else f"; more {units} would not let it in"
    return Check(
        name=CHAMPION,
        observed=round(gap.low, 4),
        allowed=f"> {-rules.margin:g}",
        outcome=outcome,  # type: ignore[arg-type]
        detail=detail,
    )


def _right(rows: Rows) -> Flags:
    return np.array([label == answer for label, answer in zip(rows.labels, rows.predicted, strict=True)], dtype=bool)


def judge_candidate(
    task: Task, evaluation: Evaluation, candidate: Rows, champion: Rows | None, rules: GateSection
) -> Verdict:
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
    outputs = _outputs(task, candidate, evaluation)
    checks = [floor_check(evaluation, rules), majority_check(task, candidate, outputs, rules)]
    if champion is not None:
        checks.append(champion_check(task, candidate, champion, outputs, rules))
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
    rules, task = config.gate, get(config.task_key)
    outputs = _outputs(task, rows, evaluation)
    lost = paired(task, original, rows, outputs, rules)
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
        checks.append(champion_check(task, rows, champion, outputs, rules))
    return Verdict(subject=variant, checks=tuple(checks))
