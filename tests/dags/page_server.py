"""The page below a prefix, as Airflow mounts it, beside a small stand-in for the routes of Airflow's API that it calls."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from servers import free_port

PREFIX = "/team"
# As Airflow 3.3.2 shows a plugin's page.
FRAME = '<iframe sandbox="allow-scripts allow-same-origin allow-forms allow-downloads" src="evergreen/" width=900 height=800>'


class Airflow:
    """What it answers, and what it was asked to start. refuses: a status code for every call; rows: what the page's own data
    route gives.
    """

    def __init__(self, rows: Callable[[], Any], dags: list[dict[str, Any]], runs: list[dict[str, Any]]) -> None:
        self.rows, self.dags, self.runs = rows, dags, runs
        self.refuses: int | None = None
        self.started: list[tuple[str, dict[str, Any]]] = []

    def app(self) -> FastAPI:
        from evergreen.page.app import gathered, may_read, page

        stub, shown = FastAPI(), page()
        shown.dependency_overrides = {
            gathered: self._gathered,
            may_read: lambda: None,
        }  # who calls is Airflow's to know
        stub.mount(f"{PREFIX}/evergreen", shown)
        stub.get(f"{PREFIX}/api/v2/dags")(lambda: self._answer("dags", self.dags))
        stub.get(f"{PREFIX}/api/v2/dags/~/dagRuns")(lambda: self._answer("dag_runs", self.runs))
        stub.get(f"{PREFIX}/around")(lambda: HTMLResponse(f"<!doctype html><body>{FRAME}</iframe></body>"))
        stub.post(f"{PREFIX}/api/v2/dags/{{dag_id}}/dagRuns")(self._start)
        return stub

    def _check(self) -> None:
        if self.refuses:
            raise HTTPException(self.refuses, "refused")

    def _gathered(self) -> Any:
        self._check()
        return self.rows()

    def _answer(self, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
        self._check()
        return {name: found, "total_entries": len(found)}

    async def _start(self, dag_id: str, request: Request) -> dict[str, Any]:
        self._check()
        self.started.append((dag_id, await request.json()))
        run = {"dag_id": dag_id, "dag_run_id": f"manual__{len(self.started)}", "state": "queued", "start_date": None}
        self.runs.append(run)
        return run


def dag(dag_id: str, paused: bool = False, hours: float | None = None) -> dict[str, Any]:
    """A DAG as Airflow's API tells it. hours: until its next run."""
    now = datetime.datetime.now(datetime.UTC)
    after = None if hours is None else (now + datetime.timedelta(hours=hours)).isoformat()
    return {"dag_id": dag_id, "is_paused": paused, "has_import_errors": False, "next_dagrun_run_after": after}


@contextmanager
def served(airflow: Airflow) -> Iterator[str]:
    """The address of the page while the server runs in a thread."""
    import uvicorn

    port = free_port(set())
    server = uvicorn.Server(uvicorn.Config(airflow.app(), port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}{PREFIX}/evergreen/"
    finally:
        server.should_exit = True
        thread.join(20)
