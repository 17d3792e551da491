"""What a retrain on the stack comes to when a part of it is killed or falls silent: `make faults`, long.

Writes docs/reliability.md's table of the stack from what was seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harm import Harm, kill, orphan, silence
from tiny import tiny_rows

pytestmark = pytest.mark.stack

DAG = "retrain_alone"
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- stack: written by make faults -->", "<!-- end -->"


@dataclass(frozen=True)
class Fault:
    """what: as the table says it. step: while this one runs."""

    what: str
    step: str
    harm: Harm


FAULTS = [
    Fault("the worker that trains is killed", "fine_tune", kill("worker-cpu")),
    Fault("the supervisor of the training is killed, its worker lives", "fine_tune", orphan("worker-cpu")),
    Fault("the other worker is killed", "register", kill("worker")),
    Fault("the scheduler is killed", "evaluate", kill("scheduler")),
    Fault("the API server is killed", "compress", kill("api-server")),
    Fault("the triggerer is killed", "gate", kill("triggerer")),
    Fault("Valkey is killed", "evaluate_champion", kill("valkey")),
    Fault("MLflow is killed", "register", kill("mlflow")),
    Fault("MLflow answers nobody for 30 s", "start", silence("mlflow")),
    Fault("S3 is killed", "fine_tune", kill("s3")),
    Fault("S3 answers nobody for 30 s", "source", silence("s3")),
    Fault("Postgres is killed", "validate", kill("postgres")),
    Fault("Postgres answers nobody for 30 s", "promote", silence("postgres")),
]
HEAD = [
    "| what happens | while | the retrain ends | tried again | takes | left over, and mended |",
    "|---|---|---|---|---|---|",
]
ROWS: list[str] = []


@pytest.fixture(scope="module")
def champion(stack: Any) -> str:
    """The pipeline has a champion, so that each retrain is judged beside one."""
    stack.put("alone", "first", tiny_rows(240))
    stack.airflow.until_parsed(DAG)
    stack.airflow.unpause(DAG)
    run = stack.airflow.trigger(DAG)
    assert stack.airflow.wait(DAG, run) == "success"
    return run


@pytest.fixture(scope="module", autouse=True)
def page() -> Iterator[None]:
    """The table: rows of the faults that were tried, and those of an earlier run for the rest."""
    yield
    before, _, rest = PAGE.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    known = {row.split(" | ")[0]: row for row in old.splitlines()[2:] if row.startswith("| ")}
    known |= {row.split(" | ")[0]: row for row in ROWS}
    order = {f"| {fault.what}": number for number, fault in enumerate(FAULTS)}
    rows = [known[key] for key in sorted(known, key=lambda key: order.get(key, len(order)))]
    PAGE.write_text("\n".join([before + BEGIN, *HEAD, *rows, END + after]))


def until_runs(stack: Any, run: str, step: str) -> None:
    deadline = time.monotonic() + 300
    while (state := stack.airflow.states(DAG, run).get(step)) != "running":
        assert state not in ("success", "failed", "upstream_failed", "skipped"), f"{step} is {state} already"
        assert time.monotonic() < deadline, stack.airflow.states(DAG, run)
        time.sleep(0.1)


def check(stack: Any, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, home: Path) -> int:
    """One champion that was judged, whose files are there. How much was left over, which is mended and then gone."""
    from mlops import ledger, reconcile, registry
    from mlops.store import open_store

    stack.use(monkeypatch, home)
    found = registry.champion("alone")
    assert found is not None
    registry.require_verdicts(found)
    assert open_store().fetch(found.model.files).is_dir()
    assert ledger.serving(ledger.entries("alone"))[-1] == found.version
    own = [each for each in registry.releases("alone") if each["run_id"] == told["mlflow_run_id"]]
    assert [each["state"] for each in own] == (["complete"] if told["release"] else []), own
    if told["outcome"] == "promoted":
        assert [each["version"] for each in own] == [found.version]
    left = reconcile.reconcile("alone", older_than_seconds=0)
    assert all(each.mended for each in left), left
    assert reconcile.reconcile("alone", older_than_seconds=0) == []
    return len(left)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.what} ({fault.step})")
def test_a_fault(stack: Any, champion: str, fault: Fault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    airflow = stack.airflow
    began = time.monotonic()
    run = airflow.trigger(DAG, {"force": True})
    until_runs(stack, run, fault.step)
    fault.harm(stack)
    state = airflow.wait(DAG, run, 600)
    seconds = time.monotonic() - began
    told = airflow.value(DAG, run, "finish")
    tries = max(int(each["try_number"] or 0) for each in airflow.tasks(DAG, run))
    left = check(stack, told, monkeypatch, tmp_path)
    again = "yes" if tries > 1 else "no"
    ROWS.append(f"| {fault.what} | `{fault.step}` | {told['outcome']} | {again} | {seconds:.0f} s | {left} |")
    assert state == "success", (airflow.states(DAG, run), told)


def test_two_triggers_at_once(stack: Any, champion: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    airflow = stack.airflow
    began = time.monotonic()
    stack.put("alone", "more", tiny_rows(60, seed=11))
    runs = [airflow.trigger(DAG), airflow.trigger(DAG)]
    running = 0
    while any(airflow.ask("GET", f"dags/{DAG}/dagRuns/{run}")["state"] not in ("success", "failed") for run in runs):
        states = [airflow.ask("GET", f"dags/{DAG}/dagRuns/{run}")["state"] for run in runs]
        running = max(running, states.count("running"))
        assert time.monotonic() - began < 600
        time.sleep(1)
    assert running == 1  # one retrain of a pipeline at a time
    told = [airflow.value(DAG, run, "finish") for run in runs]
    assert sorted(each["outcome"] for each in told)[-1] == "skipped" or told[0]["outcome"] == told[1]["outcome"]
    seconds = time.monotonic() - began
    left = check(stack, told[0], monkeypatch, tmp_path)
    ends = " and ".join(each["outcome"] for each in told)
    ROWS.append(f"| two triggers at once | `start` | {ends} | no | {seconds:.0f} s | {left} |")
