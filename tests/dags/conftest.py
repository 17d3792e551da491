"""Real Airflow in this process: its settings must stand before the first import of it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="evergreen-airflow-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
os.environ.update(
    {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
        "AIRFLOW__API__BASE_URL": "http://airflow.test",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
)


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """Airflow's home with an empty database."""
    from airflow.utils.db import initdb

    initdb()
    return AIRFLOW_HOME


@pytest.fixture
def pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the DAGs are made from."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    monkeypatch.setenv("EVERGREEN_PIPELINES", str(folder))
    return folder


@pytest.fixture
def load_dags(pipelines: Path) -> Callable[[], dict[str, Any]]:
    """DAGs by id, as Airflow finds them in the folder of DAG files."""
    from airflow.dag_processing.dagbag import DagBag

    def load() -> dict[str, Any]:
        bag = DagBag(str(ROOT / "dags"), bundle_name="dags-folder")
        assert not bag.import_errors
        return bag.dags

    return load
