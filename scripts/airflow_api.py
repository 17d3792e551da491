"""Airflow's REST API as far as this project's scripts and tests of a running stack need it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any


class Airflow:
    """A logged-in client. Raises RuntimeError with the server's words for an answer that is none of 2xx."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self.address = address.rstrip("/")
        self._user, self._password, self._token = user, password, ""

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """path: below /api/v2/, or from the root. A connection that breaks is tried again for half a minute."""
        place = path if path.startswith("/") else f"/api/v2/{path}"
        deadline = time.monotonic() + 30
        while True:
            headers = {"Content-Type": "application/json"}
            if not place.startswith("/auth"):
                headers["Authorization"] = f"Bearer {self.token()}"
            data = json.dumps(body).encode() if body is not None else None
            request = urllib.request.Request(self.address + place, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    told = answer.read()
                    return json.loads(told) if told else None
            except urllib.error.HTTPError as error:
                if error.code == 401 and self._token:
                    self._token = ""
                elif error.code < 500 or time.monotonic() > deadline:
                    raise RuntimeError(f"{method} {place}: {error.code} {error.read().decode()[:500]}") from error
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def _login(self) -> str:
        self._token = self.ask("POST", "/auth/token", {"username": self._user, "password": self._password})[
            "access_token"
        ]
        return self._token

    def token(self) -> str:
        """What a browser's cookie of this person holds."""
        return self._token or self._login()

    def until_parsed(self, dag: str, seconds: float = 120) -> dict[str, Any]:
        """The DAG, once its file has been read."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found: dict[str, Any] = self.ask("GET", f"dags/{dag}")
                return found
            except RuntimeError as error:
                if "404" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def unpause(self, dag: str) -> None:
        self.ask("PATCH", f"dags/{dag}", {"is_paused": False})

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """The id of the new run."""
        return str(self.ask("POST", f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf or {}})["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"dags/{dag}/dagRuns?order_by=-run_after&limit=20")["dag_runs"]
        return found

    def wait(self, dag: str, run: str, seconds: float = 900) -> str:
        """The state that a run ends in."""
        deadline = time.monotonic() + seconds
        while True:
            state = str(self.ask("GET", f"dags/{dag}/dagRuns/{run}")["state"])
            if state in ("success", "failed"):
                return state
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag} {run} is {state} after {seconds:.0f} s: {self.states(dag, run)}")
            time.sleep(1)

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"dags/{dag}/dagRuns/{run}/taskInstances?limit=100")[
            "task_instances"
        ]
        return found

    def states(self, dag: str, run: str) -> dict[str, str]:
        return {each["task_id"]: str(each["state"]) for each in self.tasks(dag, run)}

    def value(self, dag: str, run: str, task: str, key: str = "return_value") -> Any:
        """An XCom."""
        place = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}?deserialize=true"
        return self.ask("GET", place)["value"]

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """What a task wrote, as Airflow shows it."""
        told = self.ask("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}")
        return json.dumps(told)

    def answer(self, dag: str, run: str, task: str, option: str, **values: Any) -> Any:
        """A person's choice for a task that waits for one."""
        body = {"chosen_options": [option], "params_input": values}
        return self.ask("PATCH", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails", body)
