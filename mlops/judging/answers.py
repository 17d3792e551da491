"""One model's answers to frozen rows, and what metrics and paired comparisons need of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlops.config_gate import GateSection
from mlops.statistics.bootstrap import Floats, Values, by_unit
from mlops.statistics.classification import Flags
from mlops.statistics.paired import Difference, Extremes, difference
from mlops.tasks.base import Judged, Task


def flips(task: Task, one: Sequence[str], other: Sequence[str]) -> float:
    """Share of labels that differ between two models' answers to the same rows: of a row's one, or of its tokens' tags.

    Raises ValueError for other numbers of rows.
    """
    if task.kind != "tokens":
        return float(np.mean([mine != its for mine, its in zip(one, other, strict=True)])) if len(one) else 0.0
    changed = total = 0
    for mine, its in zip(one, other, strict=True):
        ours, theirs = mine.split(), its.split()
        total += max(len(ours), len(theirs))
        changed += sum(tag != its_tag for tag, its_tag in zip(ours, theirs, strict=False))
        changed += abs(len(ours) - len(theirs))
    return changed / max(1, total)


@dataclass(frozen=True)
class Rows:
    """One model's answers to frozen rows, in the order of their ids, [n] each.

    labels and predicted: as a snapshot writes them. scores: probabilities of the answers, or what a ranking goes by.
    groups: what rows are ranked within; the rows' ids where nothing is ranked. units: what was sampled as one, a user say
    (`columns.group`); else each row by itself. n_tokens, n_chars, columns: what slices are cut by. digests: 64 bits of what a
    row says, its text and label, whatever its id. chances: see `tasks.base.Answers`.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    scores: tuple[float, ...] = ()
    groups: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    n_tokens: tuple[int, ...] = ()
    n_chars: tuple[int, ...] = ()
    digests: tuple[int, ...] = ()
    columns: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    chances: tuple[Any, ...] = ()

    @property
    def judged(self) -> Judged:
        """What tasks make statistics of."""
        return Judged(self.labels, self.predicted, self.scores or (0.0,) * len(self.ids), self.groups or self.ids)

    @property
    def right(self) -> Flags:
        """Which rows [n] are answered as they are labelled."""
        return np.array([one == other for one, other in zip(self.labels, self.predicted, strict=True)], dtype=bool)

    def where(self, chosen: Flags) -> Rows:
        """Those rows alone."""
        places = np.flatnonzero(chosen).tolist()

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[place] for place in places) if values else ()

        parts = {
            name: some(getattr(self, name))
            for name in (
                "ids",
                "labels",
                "predicted",
                "scores",
                "groups",
                "units",
                "n_tokens",
                "n_chars",
                "digests",
                "chances",
            )
        }
        return replace(self, **parts, columns={name: some(values) for name, values in self.columns.items()})


def same_rows(one: Rows, other: Rows) -> bool:
    """Whether two models were scored on the same rows."""
    return one.ids == other.ids and one.labels == other.labels


def unit_statistics(task: Task, rows: Rows, judged: Judged, outputs: Sequence[str]) -> Floats:
    """The statistics of each sampling unit [units, k], of answers that need not be the rows' own."""
    found = task.statistics(judged, outputs)
    if not rows.units:
        return found
    units: Sequence[str] = rows.units
    if len(found) != len(rows.ids):  # ranked: one vector for each group, in the order of its first row
        firsts = dict(zip(reversed(judged.groups), reversed(rows.units), strict=True))
        units = [firsts[group] for group in dict.fromkeys(judged.groups)]
    return by_unit(found, units)


def metric_values(task: Task, outputs: Sequence[str]) -> Values:
    """From summed statistics [resamples, k] to metrics [resamples]."""
    return lambda totals: task.values(totals, outputs)


def paired(
    task: Task, candidate: Rows, other: Rows, outputs: Sequence[str], rules: GateSection, alpha: float | None = None
) -> Difference:
    """Candidate minus other on the same rows; ValueError unless they were scored on the same rows.

    alpha: of the one-sided bounds; by default that of the rules.
    """
    if not same_rows(candidate, other):
        raise ValueError(f"{len(candidate.ids)} and {len(other.ids)} rows that are not the same rows")
    return against(task, candidate, other.judged, outputs, rules, alpha)


def against(
    task: Task, candidate: Rows, other: Judged, outputs: Sequence[str], rules: GateSection, alpha: float | None = None
) -> Difference:
    """Candidate minus other answers to its own rows. Units of which nothing can be right or wrong, groups of one candidate
    in a ranking say, are no evidence and are left out."""
    own = candidate.judged
    ours, theirs, right, wrong = (
        unit_statistics(task, candidate, judged, outputs)
        for judged in (own, other, task.right(own), task.wrong(own, outputs))
    )
    said = telling(ours, theirs, right, wrong)
    level = rules.alpha if alpha is None else alpha
    extremes = _extremes(
        task, candidate, outputs, float(np.abs(right + wrong)[said].sum(axis=1).mean()) if said.any() else 0.0
    )
    values = metric_values(task, outputs)
    return difference(ours[said], theirs[said], values, rules.metric, level, rules.resamples, extremes=extremes)


def telling(*statistics: Floats) -> Flags:
    """Which units [n] say something: those that have any statistics, whatever is answered."""
    return np.asarray(sum(np.abs(each).sum(axis=1) for each in statistics) > 0)


def evidence(task: Task, rows: Rows, outputs: Sequence[str]) -> int:
    """How many sampling units say something."""
    judged = (rows.judged, task.right(rows.judged), task.wrong(rows.judged, outputs))
    return int(telling(*(unit_statistics(task, rows, each, outputs) for each in judged)).sum())


def _extremes(task: Task, rows: Rows, outputs: Sequence[str], size: float) -> Extremes:
    """Every row as the one more that might have been drawn, as large as the mean unit: one huge document, or user, is no
    measure of what the next one costs; a row of a rare label is."""
    right, wrong = (
        task.statistics(each, outputs) for each in (task.right(rows.judged), task.wrong(rows.judged, outputs))
    )
    own = np.abs(right + wrong).sum(axis=1, keepdims=True)
    some = (right != wrong).any(axis=1)
    scale = size / own[some]
    return Extremes(right[some] * scale, wrong[some] * scale)
