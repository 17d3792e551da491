"""Row checks of the data gate: what makes a single row unusable before any expectation is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlops.config import PipelineConfig
from mlops.data.rows import PROBLEMS
from mlops.data.text import normalise
from mlops.types import Check, Outcome

if TYPE_CHECKING:
    import pandas as pd

REASONS = {
    **PROBLEMS,
    "missing_text": "no text, or none that can be seen",
    "missing_label": "no label",
    "unknown_label": "a label outside the allowed ones",
    "rare_label": "a label with fewer rows than validate.min_rows_per_label",
}


class Fault(NamedTuple):
    """Why a row is set aside: a reason (a key of REASONS or an expectation's type) and what was found."""

    reason: str
    detail: str


def check_rows(frame: pd.DataFrame, config: PipelineConfig, declared: Sequence[str]) -> dict[int, Fault]:
    """Faults by the frame's index; one per row, the first that applies.

    frame: columns text, label, problem; missing values are None. declared: labels that the pipeline or its suite
    names; where there are none, a label must have validate.min_rows_per_label rows.
    """
    faults: dict[int, Fault] = {}
    allowed = set(config.data.labels or ())
    counts: dict[str, int] = {}
    for index, text, label, problem in zip(frame.index, frame["text"], frame["label"], frame["problem"], strict=True):
        fault = _fault(text, label, problem, allowed)
        if fault:
            faults[index] = fault
        else:
            counts[label] = counts.get(label, 0) + 1
    least = config.validate_.min_rows_per_label
    if not declared:
        rare = {label for label, count in counts.items() if count < least}
        for index, label in zip(frame.index, frame["label"], strict=True):
            if label in rare and index not in faults:
                faults[index] = Fault("rare_label", f"{label!r} has {counts[label]} rows, allowed is {least} or more")
    return faults


def _fault(text: str | None, label: str | None, problem: str | None, allowed: set[str]) -> Fault | None:
    if problem:
        return Fault(problem, PROBLEMS.get(problem, problem))
    if text is None or not normalise(text):
        return Fault("missing_text", "empty" if text is not None else "missing")
    if label is None:
        return Fault("missing_label", "missing")
    if allowed and label not in allowed:
        return Fault("unknown_label", f"found {label[:100]!r}; allowed: {', '.join(sorted(allowed)[:20])}")
    return None


def row_problem_checks(frame: pd.DataFrame, faults: dict[int, Fault]) -> list[Check]:
    """One warning per kind of row problem, with its count and the first ids."""
    places: dict[str, list[str]] = {}
    ids = frame["row_id"]
    for index, fault in faults.items():
        places.setdefault(fault.reason, []).append(ids[index])
    checks = []
    for reason, found in sorted(places.items()):
        shown = ", ".join(name[:100] for name in found[:3]) + (", …" if len(found) > 3 else "")
        detail = f"{REASONS.get(reason, reason)}; set aside: {shown}"
        checks.append(Check(name=f"rows:{reason}", observed=len(found), allowed=0, outcome="warn", detail=detail))
    return checks


def repeated_id_check(frame: pd.DataFrame) -> Check:
    """Ids that more than one row of a split has: reported only."""
    repeated = frame.duplicated(["split", "row_id"])
    names = ", ".join(frame["row_id"][repeated].unique()[:3])
    count = int(repeated.sum())
    return Check(
        name="rows:duplicate_id",
        observed=count,
        allowed=0,
        outcome="warn" if count else "pass",
        detail=f"ids that another row has: {names}" if count else "",
    )


def limit_checks(frame: pd.DataFrame, faults: dict[int, Fault], config: PipelineConfig) -> list[Check]:
    """The limits on the whole: share set aside, usable rows, labels with rows."""
    rules = config.validate_
    total, usable = len(frame), len(frame) - len(faults)
    share = round(len(faults) / total, 6) if total else 1.0
    reasons: dict[str, int] = {}
    for fault in faults.values():
        reasons[fault.reason] = reasons.get(fault.reason, 0) + 1
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]))
    labels = sorted(set(frame["label"][~frame.index.isin(list(faults))]) - {None})
    without = sorted(set(config.data.labels or ()) - set(labels))
    detail = ", ".join(labels[:20]) + (f"; no row of: {', '.join(without[:20])}" if without else "")
    few: Outcome = "warn" if without else "pass"
    return [
        Check(
            name="quarantined_share",
            observed=share,
            allowed=rules.max_quarantined,
            outcome="fail" if share > rules.max_quarantined else "pass",
            detail=why,
        ),
        Check(
            name="rows",
            observed=usable,
            allowed=f"{rules.min_rows} or more",
            outcome="fail" if usable < rules.min_rows else "pass",
        ),
        Check(
            name="labels",
            observed=len(labels),
            allowed="2 or more",
            outcome="fail" if len(labels) < 2 else few,
            detail=detail,
        ),
    ]
