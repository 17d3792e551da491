"""Row checks of the data gate: what makes a single row unusable before any expectation is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlops.config import PipelineConfig
from mlops.data.forms import names_in
from mlops.data.rows import PROBLEMS
from mlops.data.tags import illegal
from mlops.data.text import normalise
from mlops.data.times import looks_like
from mlops.tasks import get
from mlops.types import Check, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

REASONS = {
    **PROBLEMS,
    "missing_text": "no text, or none that can be seen",
    "missing_label": "no label",
    "unknown_label": "a label outside the allowed ones",
    "illegal_tags": "a tag that IOB2 does not allow: an I- that goes on with nothing of its kind, or no tag at all",
    "rare_label": "a label with fewer rows than validate.min_rows_per_label",
}


class Fault(NamedTuple):
    """Why a row is set aside: a reason (a key of REASONS or an expectation's type) and what was found."""

    reason: str
    detail: str


def check_rows(table: pa.Table, config: PipelineConfig, declared: Sequence[str]) -> dict[int, Fault]:
    """Faults by row number; one per row, the first that applies.

    table: columns text, label, problem and, where the source has one, time. declared: labels that the pipeline or its
    suite names; where there are none, a label must have validate.min_rows_per_label rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    faults: dict[int, Fault] = {}
    bad = np.zeros(table.num_rows, dtype=bool)

    def mark(flags: pa.ChunkedArray, fault: Callable[[int], Fault]) -> None:
        places = np.flatnonzero(pc.fill_null(flags, False).to_numpy() & ~bad)
        bad[places] = True
        faults.update((place, fault(place)) for place in places.tolist())

    text, label, problem = table["text"], table["label"], table["problem"]
    mark(pc.is_valid(problem), lambda place: _problem(table, place))
    # A printable ASCII character is visible in any case; the others are looked at one by one.
    dim = pc.invert(pc.fill_null(pc.match_substring_regex(text, "[!-~]"), False))
    empty = dim.to_numpy().copy()
    for place in np.flatnonzero(empty & ~bad):
        value = text[int(place)].as_py()
        empty[place] = value is None or not normalise(value)
    missing = Fault("missing_text", "missing"), Fault("missing_text", "empty")
    mark(pa.chunked_array([empty]), lambda place: missing[text[place].is_valid])
    no_label = Fault("missing_label", "missing")
    mark(pc.is_null(label), lambda place: no_label)
    task = get(config.task_key)
    counts = dict(zip(*(part.to_pylist() for part in _counted(label.filter(pa.array(~bad)))), strict=True))
    allowed = ", ".join(sorted(config.data.labels or ())[:20])
    least = config.validate_.min_rows_per_label
    reasons: dict[str, Fault] = {}
    if config.data.labels:
        for cell in counts:
            for name in set(task.label_names(cell)) - set(config.data.labels):
                reasons[cell] = Fault("unknown_label", f"found {name[:100]!r}; allowed: {allowed}")
    elif not declared and task.one_label:
        for name, count in counts.items():
            if count < least:
                reasons[name] = Fault("rare_label", f"{name!r} has {count} rows, allowed is {least} or more")
    if reasons:
        mark(pc.is_in(label, pa.array(list(reasons))), lambda place: reasons[label[place].as_py()])
    return faults


def illegal_tags(table: pa.Table, faults: dict[int, Fault], config: PipelineConfig) -> dict[int, Fault]:
    """Rows without a fault whose tags are no legal IOB2, which no model can learn. After the suite, which may reject them."""
    if get(config.task_key).kind != "tokens":
        return {}
    found = {}
    for place, cell in enumerate(table["label"].to_pylist()):
        tags = (cell or "").split(" ")
        wrong = illegal(tags) if place not in faults else ()
        if wrong:
            found[place] = Fault("illegal_tags", f"found {tags[wrong[0]][:100]!r} as tag {wrong[0] + 1}")
    return found


def _counted(labels: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    import pyarrow.compute as pc

    found = pc.value_counts(labels)
    return found.field("values"), found.field("counts")


def _problem(table: pa.Table, place: int) -> Fault:
    problem = table["problem"][place].as_py()
    what = PROBLEMS.get(problem, problem)
    if problem in ("unreadable_time", "future_time"):
        time = table["time"][place].as_py()
        what = (
            f"found {time!r}: {looks_like(time)}"
            if time and problem == "unreadable_time"
            else f"found {time!r}; {what}"
        )
    return Fault(problem, what)


def row_problem_checks(table: pa.Table, faults: dict[int, Fault]) -> list[Check]:
    """One warning per kind of row problem, with its count and the first ids."""
    places: dict[str, list[int]] = {}
    details: dict[str, str] = {}
    for place, fault in faults.items():
        places.setdefault(fault.reason, []).append(place)
        details.setdefault(fault.reason, fault.detail)
    checks = []
    for reason, found in sorted(places.items()):
        names = table["row_id"].take(sorted(found)[:3]).to_pylist()
        shown = ", ".join(name[:100] for name in names) + (", …" if len(found) > 3 else "")
        what = details[reason] if reason in ("unreadable_time", "future_time") else REASONS.get(reason, reason)
        detail = f"{what}; set aside: {shown}"
        checks.append(Check(name=f"rows:{reason}", observed=len(found), allowed=0, outcome="warn", detail=detail))
    return checks


def repeated_id_check(table: pa.Table) -> Check:
    """Ids that more than one row of a split has: reported only."""
    import pyarrow.compute as pc

    counts = table.group_by(["split", "row_id"]).aggregate([([], "count_all")])
    again = counts.filter(pc.greater(counts["count_all"], 1))
    names = ", ".join(again["row_id"].unique().to_pylist()[:3])
    count = int(pc.sum(again["count_all"]).as_py() or 0) - again.num_rows
    return Check(
        name="rows:duplicate_id",
        observed=count,
        allowed=0,
        outcome="warn" if count else "pass",
        detail=f"ids that another row has: {names}" if count else "",
    )


def limit_checks(table: pa.Table, faults: dict[int, Fault], config: PipelineConfig) -> list[Check]:
    """The limits on the whole: share set aside, usable rows, labels with rows."""
    rules = config.validate_
    total, usable = table.num_rows, table.num_rows - len(faults)
    share = round(len(faults) / total, 6) if total else 1.0
    reasons: dict[str, int] = {}
    for fault in faults.values():
        reasons[fault.reason] = reasons.get(fault.reason, 0) + 1
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]))
    labels = sorted(names_in(table["label"].filter(good_rows(table, faults)).unique().to_pylist(), config))
    # One kind of entity, or one label that a text has or has not, is something to tell.
    fewest = 2 if get(config.task_key).one_label else 1
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
            allowed=f"{fewest} or more",
            outcome="fail" if len(labels) < fewest else few,
            detail=detail,
        ),
    ]


def good_rows(table: pa.Table, faults: dict[int, Fault]) -> pa.Array:
    """Which rows have no fault, as a mask [n]."""
    import pyarrow as pa

    good = np.ones(table.num_rows, dtype=bool)
    good[list(faults)] = False
    return pa.array(good)
