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
        """Texts (a list, an array or a frame of one column) to a frame of label, score and scores."""
        import pandas as pd

        texts = model_input.iloc[:, 0].tolist() if isinstance(model_input, pd.DataFrame) else list(model_input)
        return pd.DataFrame(self.runtime.predict([str(text) for text in texts]), columns=["label", "score", "scores"])


mlflow.models.set_model(PackagedModel())
