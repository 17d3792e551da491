"""The judgement of a candidate and of the file that ships: pure functions, no I/O.

Floor, baselines, the paired comparison with the champion, slices, calibration, golden rows and behaviour; of a file that
may ship also its own limits: what it lost against the model that it was made from, its speed, its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlops.judging import checks as rules_of
from mlops.judging.answers import Rows, evidence, paired, same_rows
from mlops.judging.calibration import calibration
from mlops.judging.case import Case, Limits
from mlops.judging.checks import CHAMPION, RELATIVE
from mlops.judging.examples import confusions, noise_ceiling
from mlops.judging.limits import limit_checks
from mlops.judging.sentence import sentence
from mlops.judging.slices import Slice, compared, decided, declared, discovered
from mlops.statistics.paired import Difference
from mlops.types import Check, Verdict

__all__ = ["CHAMPION", "RELATIVE", "Case", "Judgement", "Limits", "Rows", "judge", "paired"]


@dataclass(frozen=True)
class Judgement:
    """The verdict, one sentence of plain words, and the numbers behind them as the record keeps them."""

    verdict: Verdict
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)


def judge(case: Case) -> Judgement:
    """The judgement of a candidate, or of a file. ValueError for models that were not scored on the same rows."""
    for name, rows in {"champion": case.champion, "original": case.original, **case.baselines}.items():
        if rows is not None and not same_rows(case.candidate, rows):
            raise ValueError(
                f"candidate and {name}: {len(case.candidate.ids)} and {len(rows.ids)} rows that are not the same rows"
            )
    known = rules_of.metric_check(case)
    if known.outcome != "pass":
        verdict = Verdict(subject=case.subject, checks=(known,))
        return Judgement(verdict, sentence(case, verdict, None, []))
    units = evidence(case.task, case.candidate, case.outputs)
    found: list[Check] = limit_checks(case)
    found += [rules_of.rows_check(case, units), rules_of.looks_check(case), rules_of.floor_check(case)]
    beaten, baselines = rules_of.baseline_checks(case)
    found += beaten
    gap: Difference | None = None
    if case.champion is not None:
        check, gap = rules_of.champion_check(case)
        found.append(check)
    slices = _slices(case, found)
    calibrated, error = calibration(case.task, case.candidate, case.outputs)
    more = (rules_of.calibration_check(case, error), rules_of.golden_check(case))
    found += [*(check for check in more if check), *rules_of.behaviour_checks(case)]
    verdict = Verdict(subject=case.subject, checks=tuple(found))
    numbers = {
        "difference": _difference(case, gap),
        "baselines": baselines,
        "slices": [one.dump() for one in slices],
        "calibration": calibrated,
        "confusions": confusions(case.candidate) if case.task.one_label else [],
        "noise_ceiling": noise_ceiling(case),
    }
    return Judgement(verdict, sentence(case, verdict, gap, baselines), numbers)


def _slices(case: Case, found: list[Check]) -> list[Slice]:
    """Every slice; the checks that come of them are added to `found`."""
    own = declared(case.task, case.rules, case.candidate, case.champion, case.outputs)
    if case.rules.slices and case.champion is not None:
        found.append(rules_of.slices_check(case, own))
    if case.champion is not None and case.earlier and case.candidate.digests:
        chosen = np.array([digest in case.earlier for digest in case.candidate.digests], dtype=bool)
        old = compared(
            case.task,
            case.rules,
            "rows that the champion was judged on",
            "forgetting",
            chosen,
            case.candidate,
            case.champion,
            case.outputs,
            case.rules.metric,
        )
        (old,) = decided([old], case.rules.forgetting, case.rules.alpha)
        own = [*own, old]
        if case.rules.forgetting is not None:
            found.append(rules_of.forgetting_check(case, old))
    return [*own, *discovered(case.rules, case.candidate)]


def _difference(case: Case, gap: Difference | None) -> dict[str, Any] | None:
    if gap is None:
        return None
    own = {name: getattr(gap, name) for name in ("value", "low", "high", "n", "detectable")}
    rows = None if gap.low > -case.rules.margin else gap.rows_to_settle(case.rules.margin, case.level)
    return own | {"units": case.units_named(gap.n), "rows_to_settle": rows, "level": 1 - 2 * case.level}
