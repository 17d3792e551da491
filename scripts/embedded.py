"""Airflow, MLflow and the prediction server on one machine, below one folder: places, ports, secrets, environment."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

REPOSITORY = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
# Telemetry off, pickle off, and one interpreter's worth of compiled modules kept.
QUIET = {
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


class Problem(Exception):
    """Something that the person at the terminal can mend."""


@dataclass(frozen=True)
class Ports:
    """One port per face; each can be set by its variable."""

    airflow: int
    mlflow: int
    serve: int

    VARIABLES: ClassVar = {
        "airflow": ("AIRFLOW_PORT", 8081),
        "mlflow": ("MLFLOW_PORT", 5000),
        "serve": ("SERVE_PORT", 8080),
    }

    @classmethod
    def from_environment(cls) -> Ports:
        values = {}
        for name, (variable, default) in cls.VARIABLES.items():
            text = os.environ.get(variable) or str(default)
            if not text.isdigit() or not 1 <= int(text) <= 65535:
                raise Problem(f"{variable}: found {text!r}, allowed is a port from 1 to 65535")
            values[name] = int(text)
        if len(set(values.values())) < len(values):
            raise Problem(f"found the same port twice: {values}; set {', '.join(v for v, _ in cls.VARIABLES.values())}")
        return cls(**values)

    def check_free(self) -> None:
        """Problem naming each taken port and the variable that moves it."""
        taken = [
            f"port {getattr(self, name)} is taken; set {variable} to a free one"
            for name, (variable, _) in self.VARIABLES.items()
            if not _free(getattr(self, name))
        ]
        if taken:
            raise Problem("\n".join(taken))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers themselves do: a port that is only in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def home() -> Path:
    """EVERGREEN_HOME, by default `var` in the repository."""
    return Path(os.environ.get("EVERGREEN_HOME") or REPOSITORY / "var").expanduser().resolve()


def airflow_home() -> Path:
    return home() / "airflow"


def environment(ports: Ports) -> dict[str, str]:
    """The whole environment of embedded Airflow; makes the secrets on first use and keeps them."""
    folder = airflow_home()
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://{HOST}:{ports.airflow}"
    airflow = {
        "CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "CORE__FERNET_KEY": _secret("fernet", 32),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "API__HOST": HOST,
        "API__PORT": str(ports.airflow),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": _secret("api"),
        "API_AUTH__JWT_SECRET": _secret("jwt"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    }
    own = {f"AIRFLOW__{key}": value for key, value in airflow.items()}
    places = {"AIRFLOW_HOME": str(folder), "EVERGREEN_HOME": str(home())}
    # Set by some containers; it would make every process compile every module anew.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | QUIET | own | places


def without_secrets(values: dict[str, str]) -> dict[str, str]:
    """The environment for processes that are not Airflow's."""
    return {key: value for key, value in values.items() if not key.startswith("AIRFLOW__")}


def _secret(name: str, size: int = 72) -> str:
    """A secret of `size` random bytes, made once, readable by its owner alone."""
    path = airflow_home() / "secrets" / name
    if not path.exists():
        value = base64.urlsafe_b64encode(secrets.token_bytes(size))
        _write_private(path, value.decode())
    return path.read_text(encoding="utf-8")


def password() -> str:
    """The password of `admin`, made once."""
    path = airflow_home() / "passwords.json"
    if not path.exists():
        _write_private(path, json.dumps({"admin": secrets.token_urlsafe(12)}))
    return str(json.loads(path.read_text(encoding="utf-8"))["admin"])


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def migrate(values: dict[str, str]) -> bool:
    """Makes Airflow's database, or brings it to this version; False when that was done before."""
    folder = airflow_home()
    done = folder / f".migrated-{version('apache-airflow-core')}"
    if done.exists() and (folder / "airflow.db").exists():
        return False
    path = folder / "migrate.log"
    with path.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        code = subprocess.run(command, env=values, stdout=log, stderr=log, check=False).returncode
    if code:
        raise Problem(f"Airflow's database could not be made (exit code {code}); see {path}\n{tail(path)}")
    done.touch()
    return True


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log."""
    try:
        return "\n".join("  " + line for line in path.read_text("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return "  (no log)"
