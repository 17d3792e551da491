"""`make up`: Airflow, MLflow's UI and the prediction server on this machine's loopback; Ctrl-C stops all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import embedded
from down import clean
from embedded import HOST, Ports, Problem
from processes import Group, alive, load_state, log_file

MODEL = os.environ.get("SERVE_MODEL") or "news-topics"
PATIENCE = 300.0
SERVER = "server"
AGAIN = 10.0


class Stopped(Exception):
    """A signal asked to stop."""


def _stop(number: int, frame: Any) -> None:
    raise Stopped(signal.Signals(number).name)


def answer(url: str) -> Any:
    """A 200's JSON (or text), None for everything else."""
    try:
        with urllib.request.urlopen(url, timeout=3) as response:
            text = response.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


class Stack:
    """The components, their addresses and whether they are well."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.environment = embedded.environment(ports)
        self.plain = embedded.without_secrets(self.environment)
        tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
        self.own_mlflow = not tracking.startswith(("http://", "https://", "databricks"))
        self.airflow = f"http://{HOST}:{ports.airflow}"
        self.mlflow = f"http://{HOST}:{ports.mlflow}" if self.own_mlflow else tracking
        self.environment["EVERGREEN_MLFLOW_URL"] = self.mlflow
        self.serve = f"http://{HOST}:{ports.serve}"
        self.group = Group()
        self._restart_at: float | None = None
        self._said = ""

    def start(self) -> None:
        """The api-server goes first: the scheduler would hand out Airflow tasks that cannot reach it."""
        self._airflow("api-server", "--host", HOST, "--port", str(self.ports.airflow), "--workers", "1")
        self._airflow("dag-processor")
        if self.own_mlflow:
            self._start_mlflow()
        self._start_server()
        self.wait("Airflow's api-server", lambda: answer(f"{self.airflow}/api/v2/version"))
        # Logs are read from the folder they are written to; nobody needs the two ports that would serve them.
        self._airflow("scheduler", "--skip-serve-logs")
        self._airflow("triggerer", "--skip-serve-logs")

    def _airflow(self, component: str, *options: str) -> None:
        command = [sys.executable, "-m", "airflow", component, *options]
        self.group.start(f"airflow-{component}", command, self.environment)

    def _start_mlflow(self) -> None:
        from mlops import settings

        places = settings.current()
        places.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
        backend = places.tracking_uri
        # Whoever opens a new SQLite store first makes its tables; two at once break each other. So: made before all.
        first = [sys.executable, "-c", "from mlops import registry; registry.names()"]
        subprocess.run(first, env=self.plain, check=False)
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", "1"]
        command += ["--artifacts-destination", places.mlflow_artifacts.as_uri(), "--host", HOST]
        self.group.start("mlflow", [*command, "--port", str(self.ports.mlflow)], self.plain)

    def _start_server(self) -> None:
        command = [sys.executable, "-m", "mlops", "serve", MODEL, "--port", str(self.ports.serve), "--host", HOST]
        command += ["--log", "text"]
        self.group.start(SERVER, command, self.plain)
        self._restart_at = None

    def wait(self, what: str, well: Callable[[], Any]) -> None:
        """Until it is well; Problem when a component ends or it takes too long."""
        deadline = time.monotonic() + PATIENCE
        while not well():
            self.look_after()
            if time.monotonic() > deadline:
                raise Problem(f"{what} did not answer within {PATIENCE:.0f} s; logs: {log_file('airflow-*').parent}")
            time.sleep(0.5)

    def look_after(self) -> None:
        """Problem when a component has ended; the prediction server is tried again, it may only lack a champion."""
        for name, code in self.group.ended().items():
            path = log_file(name)
            if name != SERVER:
                raise Problem(f"{name} ended with exit code {code}; {path} ends with\n{embedded.tail(path)}")
            said = embedded.tail(path, 3)
            if said != self._said:  # once per reason
                print(
                    f"the prediction server ended (exit code {code}), tried again every {AGAIN:.0f} s:\n{said}",
                    flush=True,
                )
            self._said = said
            self._restart_at = time.monotonic() + AGAIN
        if self._restart_at is not None and time.monotonic() > self._restart_at:
            self._start_server()

    def airflow_is_well(self) -> bool:
        health = answer(f"{self.airflow}/api/v2/monitor/health") or {}
        return all(
            (health.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def wait_until_well(self) -> None:
        self.wait("Airflow", self.airflow_is_well)
        if self.own_mlflow:
            self.wait("MLflow", lambda: answer(f"{self.mlflow}/health"))
        # Without a champion the server may be between two tries; that is no reason to wait.
        self.wait("the prediction server", lambda: self._restart_at is not None or answer(f"{self.serve}/healthz"))

    def describe(self) -> str:
        ready = answer(f"{self.serve}/readyz") is not None
        champion = "" if ready else f"   no champion of {MODEL} yet: `make demo`, or trigger retrain_{MODEL} in Airflow"
        return "\n".join(
            [
                "",
                f"Airflow            {self.airflow}   user admin, password {embedded.password()}",
                f"MLflow             {self.mlflow}/#/experiments?workflowType=machine_learning",
                f"prediction server  {self.serve}/docs{champion}",
                f"logs               {log_file('airflow-*').parent}, {log_file(SERVER)}",
                "",
                "DAGs are paused: trigger one in Airflow when you like; its schedule starts when you unpause it.",
                "Ctrl-C stops everything.",
            ]
        )


def prepare() -> Ports:
    """Free ports, no second stack on the same home, a database."""
    state = load_state()
    if state is not None:
        if alive(state):
            raise Problem(f"it runs already, pid {state['pid']}; `make down` stops it")
        print(f"cleaned up {clean()} processes of an earlier `make up`")
    ports = Ports.from_environment()
    ports.check_free()
    return ports


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    os.environ["EVERGREEN_HOME"] = str(embedded.home())
    stack: Stack | None = None
    code = 0
    try:
        ports = prepare()
        embedded.password()
        print("starting (half a minute or more)…", flush=True)
        values = embedded.environment(ports)
        embedded.migrate(values)
        stack = Stack(ports)
        stack.start()
        stack.wait_until_well()
        print(stack.describe(), flush=True)
        while True:
            stack.look_after()
            time.sleep(1)
    except Stopped as reason:
        print(f"\nstopping ({reason})…", flush=True)
    except Problem as problem:
        print(f"make up: {problem}", file=sys.stderr)
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if stack is not None:
            stack.group.stop()
            print("stopped", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
