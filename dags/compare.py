"""The Airflow DAG `compare`: two registered versions on the same test rows, by a form."""

from __future__ import annotations

import os
from pathlib import Path

from evergreen.compare import compare_dag
from evergreen.pipelines import files

FOLDER = Path(os.environ.get("EVERGREEN_PIPELINES") or Path(__file__).resolve().parent.parent / "pipelines")

dag = compare_dag(files(FOLDER))
