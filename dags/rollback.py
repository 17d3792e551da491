"""The Airflow DAG `rollback`: back to a version that served before, by a form."""

from __future__ import annotations

import os
from pathlib import Path

from evergreen.pipelines import files
from evergreen.rollback import rollback_dag

FOLDER = Path(os.environ.get("EVERGREEN_PIPELINES") or Path(__file__).resolve().parent.parent / "pipelines")

dag = rollback_dag(files(FOLDER))
