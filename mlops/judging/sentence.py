"""A judgement in one sentence of plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops.judging.case import Case
from mlops.judging.checks import CHAMPION, confidence
from mlops.statistics.paired import Difference
from mlops.types import Verdict


def sentence(case: Case, verdict: Verdict, gap: Difference | None, baselines: Sequence[dict[str, Any]]) -> str:
    """What was decided about the candidate, or the file, and the number that decided it."""
    who = "The candidate" if case.subject == "candidate" else f"The {case.subject} file"
    metric = case.evaluation.metrics.get(case.rules.metric)
    if metric is None:
        return f"{who} cannot be judged: it has no metric {case.rules.metric}."
    bad = [check for check in verdict.checks if check.outcome in ("fail", "inconclusive")]
    absolute = [check for check in bad if check.name != CHAMPION]
    reach = f"{case.rules.metric} {metric.value:.4f} on {metric.n:,} {case.units_named(metric.n)}"
    if absolute and any(check.outcome == "fail" for check in absolute):
        named = ", ".join(f"{check.name} ({check.observed}, allowed {check.allowed})" for check in absolute)
        return f"{who} is kept out by {named}; it reaches {reach}."
    if gap is None:
        beaten = ", ".join(f"{each['name']} {each['value']:.4f}" for each in baselines)
        if absolute:
            named = ", ".join(check.name for check in absolute)
            return f"{who} reaches {reach}, and the rows are too few to be sure of {named} (baselines: {beaten})."
        return f"{who} is the first that is good enough: {reach}, floor {case.rules.floor:g}, baselines {beaten}."
    sure = f"difference {gap.value:+.4f}, at least {gap.low:+.4f} with {confidence(case.level)} confidence"
    worse = f"{who} is worse than the champion: {reach}, difference {gap.value:+.4f}, at most {gap.high:+.4f}."
    if any(check.name == CHAMPION and check.outcome == "fail" for check in bad):
        return worse
    if absolute:
        return f"{who} reaches {reach} ({sure}), and the rows are too few to be sure of {absolute[0].name}."
    if not bad:
        how = (
            "is better than the champion" if gap.low > 0 else f"is as good as the champion within {case.rules.margin:g}"
        )
        return f"{who} {how}: {reach}, {sure}."
    needed = gap.rows_to_settle(case.rules.margin, case.level)
    rest = f"about {needed:,} would settle it" if needed else "more rows would not let it in"
    margin = f"{case.rules.margin:g}, the rows are too few to tell"
    return f"{who} may be worse than the champion by more than {margin}: {reach}, {sure}; {rest}."
