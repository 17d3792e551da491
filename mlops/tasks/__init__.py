"""One small file per kind of ML work, all with the methods of `mlops.tasks.base.Task`."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.errors import NotFound, UserError
from mlops.tasks.base import Task
from mlops.tasks.multi_label import MultiLabel
from mlops.tasks.ordinal import Ordinal
from mlops.tasks.pairs import TextPairClassification, TextRanking
from mlops.tasks.text_classification import TextClassification
from mlops.tasks.token_classification import TokenClassification

_ALL: tuple[Task, ...] = (
    TextClassification(),
    MultiLabel(),
    Ordinal(),
    TokenClassification(),
    TextPairClassification(),
    TextRanking(),
)
_TASKS = {task.key: task for task in _ALL}


def get(key: str) -> Task:
    """The task of that key; NotFound lists what there is."""
    if key not in _TASKS:
        raise NotFound(f"no task {key!r}; there are: {', '.join(sorted(_TASKS))}")
    return _TASKS[key]


def require_metric(task: Task, metric: str, labels: Sequence[str]) -> None:
    """UserError, with what is allowed, unless the task has the metric with these labels."""
    names = task.metric_names(labels)
    if metric not in names:
        raise UserError(f"gate.metric: found {metric!r}; allowed with these labels: {', '.join(names)}")
