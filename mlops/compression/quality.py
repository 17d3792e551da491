"""What a file lost against fp32 on the same rows: the metric, answers, the worst part, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops.config import PipelineConfig
from mlops.judging.answers import Rows, flips, paired
from mlops.judging.calibration import calibration
from mlops.judging.slices import declared, parts
from mlops.rows import load_rows
from mlops.tasks import get
from mlops.types import Attempt, Evaluation

_DRAWS = 1000
_LEVEL = 0.025  # one-sided: intervals of 95%


@dataclass(frozen=True)
class Quality:
    """drop: fp32's metric minus the file's, (value, low, high). flips: share of answers that are other ones, of tokens their
    tags. worst: the part of the rows whose share of right answers fell most. ece: expected calibration error. faults: what
    is not allowed, each in words; none is good enough."""

    drop: tuple[float, float, float]
    flips: float
    worst: dict[str, Any] | None
    ece: float | None
    faults: tuple[str, ...]

    def fill(self, attempt: Attempt) -> Attempt:
        """The attempt with these numbers."""
        own = {"drop": self.drop, "flips": self.flips, "worst_slice": self.worst, "ece": self.ece}
        return attempt.model_copy(update=own)


def quality(config: PipelineConfig, evaluation: Evaluation, reference: Rows) -> Quality:
    """The file's answers beside those of fp32 (`reference`) on the same rows. Raises ValueError for other rows."""
    task, rows, rules = get(config.task_key), load_rows(evaluation), config.gate
    few = rules.model_copy(update={"resamples": _DRAWS})
    lost = paired(task, reference, rows, evaluation.outputs, few, _LEVEL)
    changed = flips(task, rows.predicted, reference.predicted)
    section = config.compress
    faults = []
    if lost.value > section.max_drop:
        faults.append(
            f"{rules.metric} drops by {lost.value:.4f} ({lost.low:+.4f} to {lost.high:+.4f}), allowed {section.max_drop:g}"
        )
    if changed > section.max_flip_rate:
        faults.append(f"{changed:.1%} of the answers change, allowed {section.max_flip_rate:.1%}")
    if rules.max_slice_drop is not None and rules.slices:
        bad = [one for one in declared(task, few, rows, reference, evaluation.outputs) if one.outcome == "fail"]
        faults += [
            f"{one.metric} on {one.name} drops by {-(one.difference or (0.0,))[0]:.4f}, allowed {rules.max_slice_drop:g}"
            for one in bad
        ]
    _, error = calibration(task, rows, evaluation.outputs)
    ece = error.value if error else None
    return Quality(
        (lost.value, lost.low, lost.high), changed, _worst(rows, reference, rules.min_slice_rows), ece, tuple(faults)
    )


def _worst(rows: Rows, reference: Rows, least: int) -> dict[str, Any] | None:
    """Of all parts of at least so many rows the one whose share of right answers fell most; none where none fell."""
    ours, before = rows.right, reference.right
    found = [
        (float(before[chosen].mean() - ours[chosen].mean()), name, int(chosen.sum()))
        for name, chosen in parts(rows)
        if chosen.sum() >= least
    ]
    drop, name, count = max(found, default=(0.0, "", 0))
    return {"name": name, "rows": count, "drop": drop} if drop > 0 else None
