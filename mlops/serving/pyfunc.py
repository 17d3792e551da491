"""The MLflow model of a release: models-from-code, run by MLflow's loader. No torch, no transformers."""

from __future__ import annotations

from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel


class PackagedModel(PythonModel):  # type: ignore[misc]
    """An ONNX package behind MLflow's predict."""

    def load_context(self, context: Any) -> None:
        """Loads the package that was logged as an artifact."""
        from pathlib import Path

        from mlops.serving.runtime import Runtime

        self.runtime = Runtime.load(Path(context.artifacts["package"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints as a schema
        """What the task is asked (a list, an array, a frame of one column, or of text_a and text_b) to a frame of answers."""
        import pandas as pd

        if isinstance(model_input, pd.DataFrame):
            pairs = self.runtime.task.kind == "pair"
            asked = list(model_input.itertuples(index=False, name=None)) if pairs else model_input.iloc[:, 0].tolist()
        else:
            asked = list(model_input)
        answers = self.runtime.predict([str(each) if isinstance(each, (int, float)) else each for each in asked])
        return pd.DataFrame([each if isinstance(each, dict) else {"entities": each} for each in answers])


mlflow.models.set_model(PackagedModel())
