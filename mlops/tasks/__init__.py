"""One small file per kind of ML work, all with the methods of `mlops.tasks.base.Task`."""

from __future__ import annotations

from mlops.errors import NotFound
from mlops.tasks.base import Task
from mlops.tasks.text_classification import TextClassification

_TASKS: dict[str, Task] = {task.name: task for task in (TextClassification(),)}


def get(name: str) -> Task:
    """The task of that name; NotFound lists what there is."""
    if name not in _TASKS:
        raise NotFound(f"no task {name!r}; there are: {', '.join(sorted(_TASKS))}")
    return _TASKS[name]
