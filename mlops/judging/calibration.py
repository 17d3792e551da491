"""Whether the candidate is right as often as it says, on the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops.judging.answers import Rows
from mlops.statistics.bootstrap import by_unit
from mlops.statistics.calibration import bin_counts, curve, ece
from mlops.tasks.base import Task
from mlops.types import Metric


def calibration(task: Task, rows: Rows, outputs: Sequence[str]) -> tuple[dict[str, Any] | None, Metric | None]:
    """(what the record keeps, the expected calibration error with its interval over units); none without probabilities."""
    if not rows.chances or not rows.scores:
        return None, None
    found = task.confidences(rows.judged, rows.chances, outputs)
    if found is None or not len(found.sure):
        return None, None
    units = rows.units or rows.ids
    counts = by_unit(bin_counts(found.sure, found.right), [units[place] for place in found.row.tolist()])
    error = ece(counts)
    kept = {"ece": {"value": error.value, "low": error.low, "high": error.high}, "bins": curve(counts)}
    return kept, error
