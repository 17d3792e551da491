"""MLflow's users beside its admin: `evergreen`, who trains and registers, and `server`, who reads. Runs as often as it likes.

`evergreen` has an admin's rights: who has not is told 403 for a model that is not there yet, as for one of somebody else.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any

USERS = {"evergreen": "MLFLOW_EVERGREEN_PASSWORD", "server": "MLFLOW_SERVER_PASSWORD"}


def ask(method: str, path: str, body: dict[str, Any]) -> int:
    """The status of a request as MLflow's admin."""
    key = base64.b64encode(f"admin:{os.environ['MLFLOW_AUTH_ADMIN_PASSWORD']}".encode()).decode()
    headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
    address = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users/{path}"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")
        if "already exists" in told:
            return 409
        raise SystemExit(f"users: {path} was answered with {error.code}: {told[:300]}") from error


def main() -> None:
    for name, variable in USERS.items():
        user = {"username": name, "password": os.environ[variable]}
        if ask("POST", "create", user) == 409:
            ask("PATCH", "update-password", user)
    ask("PATCH", "update-admin", {"username": "evergreen", "is_admin": True})
    print(f"users: {', '.join(USERS)} are there")


if __name__ == "__main__":
    main()
