"""Parts of the test rows: those that the pipeline names, and the worst that can be found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlops.config_gate import GateSection, SliceRule
from mlops.expressions import Expression
from mlops.judging.answers import Rows, metric_values, paired, unit_statistics
from mlops.statistics.bootstrap import intervals
from mlops.statistics.classification import Flags
from mlops.statistics.multiple import holm
from mlops.tasks.base import Task

_SHOWN = 5  # discovered slices
_KINDS = 200
_DRAWS = 1000
RIGHT = "share of rows answered right"


@dataclass(frozen=True)
class Slice:
    """Some of the rows [n] and how the models did on them. metric: of the numbers. p: of a drop, one-sided; none without a
    champion. difference: (value, low, high) to the champion, for discovered ones to the rest of the rows."""

    name: str
    kind: Literal["declared", "discovered", "forgetting"]
    rows: int
    metric: str
    candidate: tuple[float, float, float] | None = None
    champion: tuple[float, float, float] | None = None
    difference: tuple[float, float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    outcome: Literal["pass", "warn", "fail"] = "pass"

    def dump(self) -> dict[str, Any]:
        """As the record keeps it."""

        def three(values: tuple[float, float, float] | None) -> dict[str, float] | None:
            return None if values is None else dict(zip(("value", "low", "high"), values, strict=True))

        own = {name: getattr(self, name) for name in ("name", "kind", "rows", "metric", "p_adjusted", "outcome")}
        return own | {name: three(getattr(self, name)) for name in ("candidate", "champion", "difference")}


def declared(
    task: Task, rules: GateSection, candidate: Rows, champion: Rows | None, outputs: Sequence[str]
) -> list[Slice]:
    """Every slice of the pipeline file: a drop of more than `max_slice_drop` fails where it is significant after Holm's
    correction over all of them, and warns where it is not."""
    found = [
        compared(task, rules, name, "declared", chosen, candidate, champion, outputs, metric, whole)
        for rule in rules.slices
        for name, chosen, metric, whole in _cut(task, rule, candidate, rules.metric, outputs)
    ]
    return decided(found, rules.max_slice_drop, rules.alpha)


def decided(found: Sequence[Slice], most: float | None, alpha: float) -> list[Slice]:
    """The same slices with adjusted p-values and outcomes; most: the largest drop that is allowed, none is any."""
    tested = [place for place, one in enumerate(found) if one.p is not None]
    out = list(found)
    for place, p in zip(tested, holm([found[place].p or 0.0 for place in tested]), strict=True):
        drop = -(found[place].difference or (0.0,))[0]
        outcome: Literal["pass", "warn", "fail"] = "pass"
        if most is not None and drop > most:
            outcome = "fail" if p < alpha else "warn"
        out[place] = replace(found[place], p_adjusted=p, outcome=outcome)
    return out


def compared(
    task: Task,
    rules: GateSection,
    name: str,
    kind: Literal["declared", "forgetting"],
    chosen: Flags,
    candidate: Rows,
    champion: Rows | None,
    outputs: Sequence[str],
    metric: str,
    whole: bool = False,
) -> Slice:
    """Both models on the chosen rows; too few of them are counted and not judged. whole: the metric is over all rows, as a
    label's F1 is, which needs the rows that are wrongly taken for it."""
    count = int(chosen.sum())
    slice_ = Slice(name, kind, count, metric)
    if count < rules.min_slice_rows:
        return slice_
    ours = candidate if whole else candidate.where(chosen)
    found = replace(slice_, candidate=_interval(task, ours, outputs, metric))
    if champion is None:
        return found
    theirs = champion if whole else champion.where(chosen)
    gap = paired(task, ours, theirs, outputs, rules.model_copy(update={"metric": metric, "resamples": _DRAWS}))
    return replace(
        found,
        champion=_interval(task, theirs, outputs, metric),
        difference=(gap.value, gap.low, gap.high),
        p=gap.p_drop,
    )


def _interval(task: Task, rows: Rows, outputs: Sequence[str], metric: str) -> tuple[float, float, float]:
    found = intervals(unit_statistics(task, rows, rows.judged, outputs), metric_values(task, outputs), _DRAWS)[metric]
    return found.value, found.low, found.high


def _cut(
    task: Task, rule: SliceRule, rows: Rows, metric: str, outputs: Sequence[str]
) -> Iterator[tuple[str, Flags, str, bool]]:
    """(name, which rows [n], metric, whether it is over all rows) of each slice that a rule means."""
    if rule.label is not None:
        chosen = np.array([rule.label in task.label_names(cell) for cell in rows.labels], dtype=bool)
        own = f"f1/{rule.label}"
        known = own in task.metric_names(outputs)
        yield rule.name, chosen, own if known else metric, known
    elif rule.expression is not None:
        yield rule.name, Expression(rule.expression)(_columns(rows)), metric, False
    else:
        values = _columns(rows)[str(rule.column)]
        for value in sorted({value for value in values if value is not None}, key=str):
            yield f"{rule.column}: {value}", np.array([each == value for each in values], dtype=bool), metric, False


def _columns(rows: Rows) -> dict[str, Sequence[Any]]:
    own: dict[str, Sequence[Any]] = {"label": rows.labels, "n_tokens": rows.n_tokens, "n_chars": rows.n_chars}
    return {name: values for name, values in own.items() if len(values) == len(rows.ids)} | dict(rows.columns)


def discovered(rules: GateSection, rows: Rows) -> list[Slice]:
    """The worst slices by the share of rows answered right, over the values of every column, labels and lengths.

    Each is compared with all other rows (two shares, normal approximation), p-values are corrected over all slices that
    were looked at (Holm). A significant one warns.
    """
    right = rows.right
    _, codes = np.unique(np.array(rows.units or rows.ids, dtype=object).astype(str), return_inverse=True)
    looked = [
        _beside_the_rest(name, chosen, right, codes)
        for name, chosen in parts(rows)
        if rules.min_slice_rows <= chosen.sum() <= 0.9 * len(right)
    ]
    adjusted = holm([one.p or 0.0 for one in looked])
    found = [
        replace(one, p_adjusted=p, outcome="warn" if p < rules.alpha else "pass")
        for one, p in zip(looked, adjusted, strict=True)
        if one.difference and one.difference[0] < 0
    ]
    return sorted(found, key=lambda one: (one.p_adjusted or 0.0, one.difference or (0.0,), one.name))[:_SHOWN]


def parts(rows: Rows) -> Iterator[tuple[str, Flags]]:
    """(name, which rows [n]) of everything that rows can be cut by: values of columns, labels, quarters of the length."""
    columns = _columns(rows)
    for name, values in columns.items():
        if name in ("n_tokens", "n_chars"):
            continue
        codes = np.array([str(value) for value in values], dtype=object)
        kinds, counts = np.unique(codes.astype(str), return_counts=True)
        if len(kinds) > _KINDS:  # a text or an id, whose values are no parts of the data
            continue
        for kind in kinds[np.argsort(-counts, kind="stable")]:
            yield f"{name}: {kind}", codes == kind
    if "n_tokens" in columns:
        lengths = np.asarray(columns["n_tokens"], dtype=np.float64)
        bounds = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75]))
        for low, high in zip([-np.inf, *bounds], [*bounds, np.inf], strict=True):
            name = f"{low:g} < n_tokens <= {high:g}" if np.isfinite(low) and np.isfinite(high) else ""
            name = name or (f"n_tokens <= {high:g}" if np.isfinite(high) else f"n_tokens > {low:g}")
            yield name, (lengths > low) & (lengths <= high)


def _beside_the_rest(name: str, chosen: Flags, right: Flags, units: npt.NDArray[np.int64]) -> Slice:
    """units [n]: which sampling unit a row is of: rows of one go together (a variance over clusters; Liang and Zeger, 1986)."""
    inside, outside = right[chosen], right[~chosen]
    one, other = float(inside.mean()), float(outside.mean())
    both = float(right.mean())
    error = (max(both * (1 - both), 1e-12) * (1 / len(inside) + 1 / len(outside))) ** 0.5
    own = (one * (1 - one) / len(inside)) ** 0.5
    pulled = np.where(chosen, (right - one) / len(inside), -(right - other) / len(outside))
    sums = np.bincount(units, pulled)
    apart = (len(sums) / max(len(sums) - 1, 1)) ** 0.5 * float((sums**2).sum()) ** 0.5
    p = NormalDist().cdf((one - other) / max(apart, error))
    return Slice(
        name,
        "discovered",
        len(inside),
        RIGHT,
        candidate=(one, max(0.0, one - 1.96 * own), min(1.0, one + 1.96 * own)),
        difference=(one - other, one - other - 1.96 * apart, one - other + 1.96 * apart),
        p=p,
    )
