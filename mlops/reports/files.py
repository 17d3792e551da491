"""The files of a retrain that people look at: gate report and plots."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.config import PipelineConfig
from mlops.reports.gate_report import render
from mlops.reports.plots import confusion_matrix, reliability_curve
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Task
from mlops.types import Evaluation, Selection

log = logging.getLogger("evergreen")


def write_reports(
    folder: Path,
    config: PipelineConfig,
    summary: Mapping[str, Any],
    values: Mapping[str, Any],
    record: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Writes gate_report.html, and the plots of the judged file where there is one; {artifact name: path}.

    record: of the judgement that decided; none where there was none.
    """
    files: dict[str, Path] = {}
    evaluation = _shown(values.get("selection"), values.get("evaluation"))
    if evaluation is not None:
        try:
            files |= _plots(folder, evaluation, get(config.task_key))
        except Exception as error:  # a picture that cannot be drawn, of odd labels say, does not cost the page
            log.warning("the plots are missing: %s: %s", type(error).__name__, error)
    report = folder / "gate_report.html"
    report.write_text(render(config, summary, files, record), encoding="utf-8")
    return {"gate_report.html": report} | files


def _shown(selection: Selection | None, evaluation: Evaluation | None) -> Evaluation | None:
    if selection and selection.chosen:
        return selection.evaluations[selection.chosen.variant]
    return evaluation


def _plots(folder: Path, evaluation: Evaluation, task: Task) -> dict[str, Path]:
    """The confusion matrix and the reliability curve, where a row has one label."""
    import numpy as np
    import pyarrow.parquet as pq

    if not task.one_label or task.key == "text-ranking":
        return {}
    table = pq.read_table(open_store().fetch(evaluation.per_row) / "rows.parquet")
    labels, predicted = table.column("label").to_pylist(), table.column("predicted").to_pylist()
    names = list(evaluation.outputs) + sorted({*labels, *predicted} - set(evaluation.outputs))
    matrix, curve = folder / "confusion_matrix.png", folder / "reliability_curve.png"
    confusion_matrix(labels, predicted, names, matrix)
    confidence = np.asarray(table.column("score").to_numpy(), dtype=np.float64)
    reliability_curve(confidence, np.array(labels) == np.array(predicted), curve)
    return {matrix.name: matrix, curve.name: curve}
