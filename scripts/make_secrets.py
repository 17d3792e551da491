"""`make secrets`: passwords and keys of the stack into .env, which only its owner can read. What is there stays as it is."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

NAMES = (
    "POSTGRES_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "EVERGREEN_DB_PASSWORD",
    "VALKEY_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_API_SECRET",
    "AIRFLOW_JWT_SECRET",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_EVERGREEN_PASSWORD",
    "MLFLOW_SERVER_PASSWORD",
    "MLFLOW_SECRET_KEY",
    "GRAFANA_PASSWORD",
)
LONG = {"AIRFLOW_JWT_SECRET": 48, "AIRFLOW_API_SECRET": 48}  # bytes; HS512 asks for 64 characters


def missing(known: dict[str, str]) -> dict[str, str]:
    """What has no value yet. Hexadecimal: it stands in URLs, in shells and in compose files as it is."""
    made = {name: secrets.token_hex(LONG.get(name, 16)) for name in NAMES if not known.get(name)}
    if not known.get("AIRFLOW_FERNET_KEY"):
        made["AIRFLOW_FERNET_KEY"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    if "COMPOSE_PROFILES" not in known:
        made["COMPOSE_PROFILES"] = "cpu"  # gpu where there is one; monitoring besides, where you want it
    return made


def read(path: Path) -> dict[str, str]:
    """NAME=VALUE lines of a file that may not be there."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}


def write(path: Path) -> list[str]:
    """Adds what is missing; its names."""
    made = missing(read(path))
    if made:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in made.items())
    path.chmod(0o600)
    return list(made)


def main() -> int:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else ".env")
    made = write(path)
    print(f"{path}: " + (f"made {', '.join(made)}" if made else "everything is there already"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
