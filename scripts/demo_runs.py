"""The retrains of the demo in real Airflow, in one process; progress as JSON lines on the file descriptor given.

Run by demo.py with Airflow's environment: everything that Airflow and the steps print goes to this process's stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import IO, Any

MODEL = "news-topics"
DAG_ID = f"retrain_{MODEL}"
FIRST = {"overrides": {"data.take": 0.6}}


class Progress:
    """Tells the terminal what Airflow's listeners hear."""

    def __init__(self, pipe: IO[str]) -> None:
        self.pipe = pipe
        self._started: dict[str, float] = {}

    def tell(self, **event: Any) -> None:
        print(json.dumps(event), file=self.pipe, flush=True)

    def running(self, task_id: str) -> None:
        self._started[task_id] = time.monotonic()
        self.tell(event="running", task=task_id)

    def ended(self, task_id: str, state: str) -> None:
        seconds = time.monotonic() - self._started.get(task_id, time.monotonic())
        self.tell(event="ended", task=task_id, state=state, seconds=round(seconds, 1))


def listen(progress: Progress) -> None:
    """Airflow calls these by name, in the process of each Airflow task; here that is this one."""
    from airflow.listeners import hookimpl
    from airflow.sdk.listener import get_listener_manager

    class Listener:
        @hookimpl
        def on_task_instance_running(self, task_instance: Any) -> None:
            progress.running(task_instance.task_id)

        @hookimpl
        def on_task_instance_success(self, task_instance: Any) -> None:
            progress.ended(task_instance.task_id, "done")

        @hookimpl
        def on_task_instance_failed(self, task_instance: Any, error: Any) -> None:
            progress.ended(task_instance.task_id, f"failed: {error}")

        @hookimpl
        def on_task_instance_skipped(self, task_instance: Any) -> None:
            progress.ended(task_instance.task_id, "skipped")

    get_listener_manager().add_listener(Listener())


def forget_killed_runs() -> None:
    """A demo that was killed leaves its run "running": it is failed, so that nobody waits for it."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    with create_session() as session:
        mine = (DagRun.dag_id == DAG_ID, DagRun.triggered_by == DagRunTriggeredByType.TEST)
        for run in session.scalars(select(DagRun).where(*mine, DagRun.state == DagRunState.RUNNING)):
            for instance in run.get_task_instances(session=session):
                if instance.state not in (TaskInstanceState.SUCCESS, TaskInstanceState.SKIPPED):
                    instance.state = TaskInstanceState.FAILED
            run.state = DagRunState.FAILED


def retrain(conf: dict[str, Any]) -> dict[str, Any]:
    """One run of the DAG: {"state", "run_id", "summary"}; summary is what `finish` gave, none when it did not run."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], bundle_name="dags-folder")
    if DAG_ID not in bag.dags:
        raise SystemExit(f"Airflow found no DAG {DAG_ID}: {bag.import_errors or list(bag.dags)}")
    run = bag.dags[DAG_ID].test(run_conf=conf)
    finish = run.get_task_instance("finish")
    summary = finish.xcom_pull(task_ids="finish") if finish else None
    return {"state": str(run.state), "run_id": run.run_id, "summary": summary}


def main() -> int:
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as pipe:
        progress = Progress(pipe)
        listen(progress)
        forget_killed_runs()
        from mlops import registry

        champion = registry.champion(MODEL)
        if champion:
            progress.tell(event="skip", which="first", version=champion.version)
        for which, conf in (("first", FIRST), ("second", {})):
            if which == "first" and champion:
                continue
            progress.tell(event="retrain", which=which)
            result = retrain(conf)
            progress.tell(event="result", which=which, **result)
            if result["state"] != "success":
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
