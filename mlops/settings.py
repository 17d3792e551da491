"""Where things live, from the environment: one folder for all of it unless the environment says otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Settings:
    """Places. home: EVERGREEN_HOME (default ./var). store: EVERGREEN_STORE, a file:// or s3:// URI. tracking_uri: MLflow's."""

    home: Path
    store: str
    tracking_uri: str

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def data_docs(self) -> Path:
        return self.home / "data_docs"

    @property
    def locks(self) -> Path:
        return self.home / "locks"

    @property
    def tune_storage(self) -> str | None:
        """EVERGREEN_TUNE_STORAGE: a database that the workers of a study share, such as postgresql://…; none is a file."""
        return os.environ.get("EVERGREEN_TUNE_STORAGE") or None

    @property
    def lock(self) -> str | None:
        """EVERGREEN_LOCK: what keeps writers of a model apart; see mlops/locks.py."""
        return os.environ.get("EVERGREEN_LOCK") or None

    @property
    def mlflow_url(self) -> str | None:
        """Where a browser finds MLflow: EVERGREEN_MLFLOW_URL, else the tracking server's own address where it has one."""
        found = os.environ.get("EVERGREEN_MLFLOW_URL") or self.tracking_uri
        return found.rstrip("/") if found.startswith(("http://", "https://")) else None

    @property
    def serve_url(self) -> str | None:
        """Where people find the prediction server: EVERGREEN_SERVE_URL; none where it is not an http address."""
        found = os.environ.get("EVERGREEN_SERVE_URL") or ""
        return found.rstrip("/") if found.startswith(("http://", "https://")) else None

    @property
    def mlflow_db(self) -> Path:
        return self.home / "mlflow" / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.home / "mlflow" / "artifacts"


def current() -> Settings:
    """The settings of this process; read anew each time, so that tests and tasks can change the environment."""
    home = Path(os.environ.get("EVERGREEN_HOME") or "var").expanduser().resolve()
    return Settings(
        home=home,
        store=os.environ.get("EVERGREEN_STORE") or (home / "store").as_uri(),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
    )


def quiet() -> None:
    """No telemetry and no pickle from the libraries of this process and of those that it starts, unless somebody asked."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
