"""Airflow DAGs, one per pipeline file: `retrain_NAME` for each pipelines/*.yaml (or of the folder EVERGREEN_PIPELINES)."""

from __future__ import annotations

import os
from pathlib import Path

from evergreen.dags import dags

FOLDER = Path(os.environ.get("EVERGREEN_PIPELINES") or Path(__file__).resolve().parent.parent / "pipelines")

for dag in dags(FOLDER, __file__):
    globals()[dag.dag_id] = dag
