"""One small file per kind of ML work, all with the methods of `mlops.tasks.base.Task`."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.errors import NotFound, UserError
from mlops.tasks.base import Task
from mlops.tasks.text_classification import TextClassification

_TASKS: dict[str, Task] = {task.name: task for task in (TextClassification(),)}


def get(name: str) -> Task:
    """The task of that name; NotFound lists what there is."""
    if name not in _TASKS:
        raise NotFound(f"no task {name!r}; there are: {', '.join(sorted(_TASKS))}")
    return _TASKS[name]


def require_metric(task: Task, metric: str, labels: Sequence[str]) -> None:
    """UserError, with what is allowed, unless the task has the metric with these labels."""
    names = task.metric_names(labels)
    if metric not in names:
        raise UserError(f"gate.metric: found {metric!r}; allowed with these labels: {', '.join(names)}")
