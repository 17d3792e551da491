"""A registered version as people use it who know MLflow alone: `mlflow.pyfunc` in a process, `mlflow models serve` over HTTP."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from running import wait_for
from servers import free_port


def _answer(row: dict[str, Any]) -> Any:
    """What the runtime answers: a list of entities stands in a column of its own."""
    return row["entities"] if set(row) == {"entities"} else row


def by_pyfunc(uri: str, question: Any) -> Any:
    """The answer of a model of MLflow, such as models:/tiny/1."""
    import mlflow
    import pandas as pd

    asked = pd.DataFrame([question], columns=["text_a", "text_b"]) if isinstance(question, tuple) else [question]
    (row,) = mlflow.pyfunc.load_model(uri).predict(asked).to_dict("records")
    return _answer(row)


def by_models_serve(uri: str, question: Any, folder: Path) -> Any:
    """The answer of `mlflow models serve`. folder: for its log."""
    from mlops.settings import current

    port, log = free_port(set()), folder / "models-serve.log"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": current().tracking_uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow starts uvicorn by its name
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=lines, env=environment, start_new_session=True)
    body: dict[str, Any] = {"inputs": [question]}
    if isinstance(question, tuple):
        body = {"dataframe_split": {"columns": ["text_a", "text_b"], "data": [list(question)]}}
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, log)
        found = httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)
        assert found.status_code == 200, found.text
        (row,) = found.json()["predictions"]
        return _answer(row)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # its server is a child of it
        process.wait(10)
