"""The gate's rules one by one: each looks at a case and says pass, warn, inconclusive or fail, with the numbers."""

from __future__ import annotations

from typing import Any

from mlops.judging.answers import against, metric_values, paired, unit_statistics
from mlops.judging.case import Case
from mlops.judging.slices import Slice
from mlops.statistics.bootstrap import point
from mlops.statistics.paired import Difference
from mlops.statistics.spending import effort, spent, worn_at
from mlops.types import Check, Metric, Outcome

CHAMPION = "against_champion"
MAJORITY = "majority_baseline"
# What is measured against the champion alone: a candidate that only these keep out is held, not rejected.
RELATIVE = (CHAMPION, "slices", "forgetting")


def confidence(level: float) -> str:
    """1 - level in percent, with as many digits as keep it below 100."""
    return f"{1 - level:.1%}" if level >= 0.001 else f"{1 - level:.4%}"


def metric_check(case: Case) -> Check:
    """Whether the model has the gate's metric at all."""
    known = case.evaluation.metrics
    return Check(
        name="metric",
        observed=case.rules.metric,
        allowed=", ".join(known),
        outcome="pass" if case.rules.metric in known else "fail",
        detail="" if case.rules.metric in known else "gate.metric names a metric that this model does not have",
    )


def rows_check(case: Case, units: int) -> Check:
    """Enough sampling units to say anything."""
    return Check(
        name="min_rows",
        observed=units,
        allowed=f">= {case.rules.min_rows}",
        outcome="pass" if units >= case.rules.min_rows else "inconclusive",
        detail="test rows, or what they are sampled by",
    )


def looks_check(case: Case) -> Check:
    """How worn the test rows are: a warning from the look on at which they ought to be refreshed."""
    alpha, worn = case.rules.alpha, worn_at(case.rules.alpha)
    detail = f"this look may err with {case.level:.2g}, all so far with {spent(alpha, case.look):.2g} of {alpha:g}"
    if case.look >= worn:
        detail += (
            f"; a difference has to be {effort(alpha, case.look):.1f} times as clear as at the first look: refresh the test "
            "rows (more new ones than old ones, or data.test: rolling)"
        )
    outcome: Outcome = "warn" if case.look >= worn else "pass"
    return Check(name="looks", observed=case.look, allowed=f"< {worn}", outcome=outcome, detail=detail)


def floor_check(case: Case) -> Check:
    """The absolute floor, on the value of the gate's metric."""
    rules, metric = case.rules, case.evaluation.metrics[case.rules.metric]
    return Check(
        name="floor",
        observed=round(metric.value, 4),
        allowed=f">= {rules.floor:g}",
        outcome="pass" if metric.value >= rules.floor else "fail",
        detail=f"{rules.metric} {metric.value:.4f}, interval {metric.low:.4f} to {metric.high:.4f} over {metric.n} rows",
    )


def baseline_checks(case: Case) -> tuple[list[Check], list[dict[str, Any]]]:
    """(checks, what the record keeps) of every baseline.

    Beaten is one with a lower bound of the gain above 0. A first champion has to beat all that `case.required` names, and
    every one has to beat the majority; that another one is not beaten is a warning.
    """
    found = []
    kept = []
    answers = {"majority": case.task.constant(case.candidate.judged)}
    answers |= {name: rows.judged for name, rows in case.baselines.items()}
    for name, judged in answers.items():
        gap = against(case.task, case.candidate, judged, case.outputs, case.rules, case.level)
        units = unit_statistics(case.task, case.candidate, judged, case.outputs)
        value = point(units, metric_values(case.task, case.outputs))[case.rules.metric]
        found.append(_baseline_check(case, name, judged.predicted, value, gap))
        kept.append({"name": name, "value": value, "gain": gap.value, "low": gap.low, "high": gap.high})
    return found, kept


def _baseline_check(case: Case, name: str, predicted: Any, value: float, gap: Difference) -> Check:
    must = name == "majority" or (case.champion is None and name in case.required)
    outcome: Outcome = "pass"
    if gap.low <= 0:
        unclear = gap.value > 0 or (name != "majority" and gap.high >= 0)
        outcome = ("inconclusive" if unclear else "fail") if must else "warn"
    what = name
    if name == "majority":
        what = f"always {predicted[0][:100]!r}" if len(set(predicted)) == 1 else "an order by chance"
        what = "no entity anywhere" if case.task.kind == "tokens" else what
    detail = (
        f"{what} reaches {case.rules.metric} {value:.4f}; the gain over it is {gap.value:+.4f}, at least {gap.low:+.4f}"
    )
    if outcome == "inconclusive":
        needed = gap.rows_to_settle(0.0, case.level)
        detail += f"; about {needed} test rows would settle it" if needed else "; the candidate is not the better one"
    check = MAJORITY if name == "majority" else f"baseline:{name}"
    return Check(name=check, observed=round(gap.low, 4), allowed="> 0", outcome=outcome, detail=detail)


def champion_check(case: Case) -> tuple[Check, Difference]:
    """Not worse than the champion by more than the margin: the lower bound of the paired difference decides.

    pass: it is above -margin (non-inferior). fail: the upper bound is below 0, the candidate is worse. Otherwise the
    rows are too few to tell: inconclusive, with the number of rows that would settle it.
    """
    assert case.champion is not None
    rules = case.rules
    gap = paired(case.task, case.candidate, case.champion, case.outputs, rules, case.level)
    right, before = case.candidate.right, case.champion.right
    fixed, broken = int((right & ~before).sum()), int((~right & before).sum())
    units = case.units_named(gap.n)
    detail = (
        f"{rules.metric} {gap.value:+.4f} against the champion, {confidence(2 * case.level)} interval "
        f"{gap.low:+.4f} to {gap.high:+.4f} over {gap.n} {units}; {fixed} fixed, {broken} broken; "
        f"smallest drop these {units} would show: {gap.detectable:.4f}"
    )
    outcome: Outcome = "inconclusive"
    if gap.low > -rules.margin:
        outcome, detail = "pass", ("better: " if gap.low > 0 else "as good: ") + detail
    elif gap.high < 0:
        outcome, detail = "fail", "worse: " + detail
    else:
        needed = gap.rows_to_settle(rules.margin, case.level)
        detail += f"; about {needed} test {units} would settle it" if needed else f"; more {units} would not let it in"
    check = Check(
        name=CHAMPION, observed=round(gap.low, 4), allowed=f"> {-rules.margin:g}", outcome=outcome, detail=detail
    )
    return check, gap


def slices_check(case: Case, found: list[Slice]) -> Check:
    """All declared slices as one rule."""
    judged = [one for one in found if one.difference is not None]
    bad = [one for one in judged if one.outcome != "pass"]
    empty = [one.name for one in found if not one.rows]
    outcome: Outcome = (
        "fail" if any(one.outcome == "fail" for one in bad) else "warn" if bad or empty or not judged else "pass"
    )
    worst = min((one.difference[0] for one in judged if one.difference), default=0.0)
    few = sum(one.candidate is None for one in found)
    detail = "; ".join(
        f"{one.name}: {one.metric} {one.difference[0]:+.4f} on {one.rows} rows, adjusted p {one.p_adjusted:.3f}"
        for one in bad
        if one.difference
    )
    detail += f"{'; ' if detail else ''}{few} slices have fewer than {case.rules.min_slice_rows} rows" if few else ""
    detail += f"; no row at all in {', '.join(empty[:5])}: a name that is not there?" if empty else ""
    most = case.rules.max_slice_drop
    allowed = "no limit" if most is None else f">= {-most:g}"
    return Check(name="slices", observed=round(worst, 4), allowed=allowed, outcome=outcome, detail=detail)


def forgetting_check(case: Case, found: Slice) -> Check:
    """No significant drop on the rows that the champion was judged on when it came."""
    most = case.rules.forgetting or 0.0
    if found.difference is None:
        detail = f"{found.rows} of today's test rows are among them: too few to tell"
        return Check(name="forgetting", observed=None, allowed=f">= {-most:g}", outcome="pass", detail=detail)
    value, low, high = found.difference
    detail = f"{case.rules.metric} {value:+.4f}, {low:+.4f} to {high:+.4f}, on {found.rows} rows that the champion was judged on"
    return Check(
        name="forgetting", observed=round(value, 4), allowed=f">= {-most:g}", outcome=found.outcome, detail=detail
    )


def calibration_check(case: Case, error: Metric | None) -> Check | None:
    """The expected calibration error, where there is a limit."""
    most = case.rules.max_ece
    if most is None:
        return None
    if error is None:
        detail = f"{case.task.key} has no probabilities to calibrate"
        return Check(name="calibration", observed=None, allowed=f"<= {most:g}", outcome="warn", detail=detail)
    return Check(
        name="calibration",
        observed=round(error.value, 4),
        allowed=f"<= {most:g}",
        outcome="pass" if error.value <= most else "fail",
        detail=f"expected calibration error, interval {error.low:.4f} to {error.high:.4f}",
    )


def golden_check(case: Case) -> Check | None:
    """The golden rows, where there are any."""
    if case.rules.golden is None or case.golden is None:
        return None
    right = case.golden.right
    wrong = [row for row, good in zip(case.golden.ids, right, strict=True) if not good]
    share = float(right.mean())
    detail = f"{int(right.sum())} of {len(right)} golden rows answered right"
    detail += f"; wrong: {', '.join(wrong[:10])}" if wrong else ""
    return Check(
        name="golden",
        observed=round(share, 4),
        allowed=f">= {case.rules.golden.floor:g}",
        outcome="pass" if share >= case.rules.golden.floor else "fail",
        detail=detail,
    )


def behaviour_checks(case: Case) -> list[Check]:
    """One per group of behaviour cases."""
    return [
        Check(
            name=f"behaviour:{group.name}",
            observed=round(group.passed / group.cases, 4) if group.cases else None,
            allowed=f">= {group.least:g}",
            outcome="warn"
            if not group.cases
            else "pass"
            if group.passed / group.cases >= group.least
            else group.severity,
            detail=f"{group.passed} of {group.cases} {group.kind} cases"
            + "".join(f"; {one}" for one in group.failures[:3]),
        )
        for group in case.evaluation.behaviour
    ]
