"""Airflow as `make up` and `make stack` start it, in a folder of its own: for pictures, and to measure what it adds."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_api import Airflow

SCRIPTS = Path(__file__).resolve().parent
READY = "Ctrl-C stops everything"
FACES = ("AIRFLOW", "MLFLOW", "SERVE")
# A page of each that says 200 only when it can be used.
PAGES = {"AIRFLOW": "/", "MLFLOW": "/", "SERVE": "/readyz"}


@dataclass
class Home:
    """A running home. pages: seconds from its start until each page answered. addresses: of Airflow, MLflow, server."""

    airflow: Airflow
    addresses: dict[str, str]
    pages: dict[str, float]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _started(script: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as lines:
        command = [sys.executable, str(SCRIPTS / script)]
        return subprocess.Popen(command, env=dict(environment), stdout=lines, stderr=lines, start_new_session=True)


def _until_ready(
    process: subprocess.Popen[bytes], log: Path, ports: Mapping[str, str], began: float
) -> dict[str, float]:
    """Seconds until each page answered; those that had not when the whole said that it is ready are left out."""
    pages: dict[str, float] = {}
    while READY not in log.read_text():
        if process.poll() is not None or time.perf_counter() - began > 400:
            sys.exit(f"it did not come up:\n{log.read_text()[-3000:]}")
        for face in FACES:
            if face not in pages and _answers(_addresses(ports)[face] + PAGES[face]):
                pages[face] = time.perf_counter() - began
        time.sleep(0.2)
    pages["all well"] = time.perf_counter() - began
    return pages


def _ports() -> dict[str, str]:
    with ExitStack() as held:  # all at once, so that they differ
        sockets = [held.enter_context(socket.socket()) for _ in FACES]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {f"{face}_PORT": str(each.getsockname()[1]) for face, each in zip(FACES, sockets, strict=True)}


def _addresses(ports: Mapping[str, str]) -> dict[str, str]:
    return {face: f"http://127.0.0.1:{ports[f'{face}_PORT']}" for face in FACES}


def bare() -> dict[str, str]:
    """The environment without anybody else's Airflow, MLflow or store in it."""
    others = ("AIRFLOW", "EVERGREEN", "MLFLOW", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


@contextmanager
def embedded(place: Path, pipelines: Path, served: str) -> Iterator[Home]:
    """`make up`."""
    ports, log = _ports(), place / "up.log"
    own = {"EVERGREEN_HOME": str(place), "EVERGREEN_PIPELINES": str(pipelines), "SERVE_MODEL": served}
    began = time.perf_counter()
    process = _started("up.py", bare() | ports | own, log)
    try:
        pages = _until_ready(process, log, ports, began)
        password = re.search(r"password (\S+)", log.read_text())
        assert password, log.read_text()
        addresses = _addresses(ports)
        yield Home(Airflow(addresses["AIRFLOW"], "admin", password[1]), addresses, pages)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def stack(place: Path, pipelines: Path, served: str) -> Iterator[Home]:
    """`make stack`."""
    import make_secrets

    ports, log = _ports(), place / "stack.log"
    own = {"EVERGREEN_HOME": str(place), "EVERGREEN_ENV_FILE": str(place / ".env"), "SERVE_MODEL": served}
    began = time.perf_counter()
    process = _started("stack.py", bare() | ports | own | {"PIPELINES": str(pipelines)}, log)
    try:
        pages = _until_ready(process, log, ports, began)
        known = make_secrets.read(place / ".env")
        addresses = _addresses(ports)
        yield Home(Airflow(addresses["AIRFLOW"], "admin", known["AIRFLOW_ADMIN_PASSWORD"]), addresses, pages)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
