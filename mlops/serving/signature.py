"""What MLflow is told of a model: the columns that it is asked and answers with, and an example of a question."""

from __future__ import annotations

from typing import Any

from mlops.tasks.base import Task


def signature(task: Task) -> tuple[Any, Any]:
    """(ModelSignature, input example) of the task's models.

    Answers that are lists, or whose keys depend on the task, have no columns that MLflow could name.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Map

    if task.kind == "pair":
        import pandas as pd

        asked = Schema([ColSpec("string", "text_a"), ColSpec("string", "text_b")])
        example: Any = pd.DataFrame({"text_a": ["Where is the key?"], "text_b": ["It hangs beside the door."]})
    else:
        asked, example = Schema([ColSpec("string")]), ["What a fine day it is."]
    answers = None
    if task.key in ("text-classification", "text-pair-classification"):
        answers = Schema([ColSpec("string", "label"), ColSpec("double", "score"), ColSpec(Map("double"), "scores")])
    return ModelSignature(inputs=asked, outputs=answers), example
