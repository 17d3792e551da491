"""One study in several processes: a kill loses nothing, two workers share the trials, every trial is an MLflow run."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from servers import postgres
from tiny import tiny_base, tiny_config, tiny_run, tiny_snapshot

from mlops import tracking
from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.steps.tune import tune
from mlops.training.base import pin
from mlops.tuning.storage import open_storage
from mlops.tuning.study import Search
from mlops.types import Run, Snapshot, Study, Tuned


class Shared:
    """A study that this process looks at and others work on."""

    def __init__(self, folder: Path, epochs: int, trials: int) -> None:
        self.base = tiny_base(folder / "base")
        space = {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}, "batch_tokens": [64, 128]}
        section = {"trials": trials, "timeout": 10, "space": space, "pruner": "none"}
        self.config: PipelineConfig = tiny_config(
            self.base, tune=section, train={"epochs": epochs, "learning_rate": 0.005, "batch_tokens": 128}
        )
        self.snapshot: Snapshot = tiny_snapshot(self.base)
        self.run: Run = tiny_run(self.base).model_copy(
            update={"mlflow_run_id": tracking.start_run(self.config, "tiny-run", {})}
        )
        handed = {"config": self.config.model_dump(mode="json", by_alias=True), "run": self.run.model_dump(mode="json")}
        handed["values"] = {"snapshot": self.snapshot.model_dump(mode="json")}
        self.input = folder / "input.json"
        self.input.write_text(json.dumps(handed))

    def start(self, step: str = "tune_trials") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mlops", "step", step, "--input", str(self.input)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def trials(self) -> list[Any]:
        assert self.config.tune is not None
        search = Search(self.config, self.config.tune, self.snapshot, [pin(str(self.base))], self.run)
        return search.trials()

    def nested(self) -> dict[str, Any]:
        """MLflow's runs of the trials by their numbers."""
        api = tracking.client()
        home = api.get_experiment_by_name("tiny").experiment_id
        found = api.search_runs([home], f"tags.`mlflow.parentRunId` = '{self.run.mlflow_run_id}'")
        return {run.data.tags["evergreen.trial.number"]: run for run in found}


def output(process: subprocess.Popen[str]) -> Any:
    out, told = process.communicate(timeout=120)
    assert process.returncode == 0, told[-3000:]
    return json.loads(out)["output"]


def test_a_killed_study_goes_on_and_keeps_to_its_trials(tmp_path: Path) -> None:
    shared = Shared(tmp_path, epochs=12, trials=3)
    first = shared.start()
    deadline = time.monotonic() + 60
    while not any(trial.number == 1 and trial.intermediate_values for trial in shared.trials()):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    lost = shared.trials()[1]
    assert lost.state.name == "RUNNING"

    best = Tuned.model_validate(output(shared.start("tune")))
    assert (best.study.complete, best.study.failed) == (3, 0)
    trials = shared.trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[1].user_attrs["void"]
    assert trials[2].params == lost.params  # what was lost is tried again, and does not count twice
    assert best.value == max(trial.value for trial in trials if trial.value is not None)

    runs = shared.nested()
    states = {number: (run.info.status, run.data.tags["evergreen.trial.state"]) for number, run in runs.items()}
    assert states["1"] == ("KILLED", "killed")
    assert {states[number] for number in "023"} == {("FINISHED", "complete")}
    last = runs["3"].data
    assert float(last.params["train.learning_rate"]) == trials[3].params["learning_rate"]
    assert last.metrics["value"] == trials[3].value
    history = tracking.client().get_metric_history(runs["3"].info.run_id, "validation/macro_f1")
    assert len(history) == 12

    assert tune(shared.config, shared.snapshot, pin(str(shared.base)), shared.run) == best  # nothing is left to do
    assert len(shared.trials()) == 4


@pytest.mark.parametrize("storage", ["file", "postgres"])
def test_two_processes_share_a_study(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        if storage == "postgres":
            address = stack.enter_context(postgres(tmp_path))
            monkeypatch.setenv("EVERGREEN_TUNE_STORAGE", address)
        shared = Shared(tmp_path, epochs=4, trials=4)
        workers = [shared.start(), shared.start()]
        ends = [Study.model_validate(output(worker)) for worker in workers]
        assert {end.name for end in ends} == {ends[0].name}
        trials = shared.trials()
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
        assert len({str(trial.params) for trial in trials}) == 4
        assert len(shared.nested()) == 4
        best = tune(shared.config, shared.snapshot, pin(str(shared.base)), shared.run)
        assert best is not None
        assert best.value == max(trial.value for trial in trials)
    assert (tmp_path / "home" / "tune").exists() == (storage == "file")


def test_what_kills_its_process_twice_is_not_tried_again(tmp_path: Path) -> None:
    """Each process dies in the middle of its first trial."""
    shared = Shared(tmp_path, epochs=1, trials=2)
    code = (
        "import os, sys; from mlops.training import loop; loop.Training._epoch = lambda *_: os.kill(os.getpid(), 9)\n"
        "from mlops.cli import main; main(['step', 'tune_trials', '--input', sys.argv[1]])"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, str(shared.input)], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL
    best = tune(shared.config, shared.snapshot, pin(str(shared.base)), shared.run)
    assert best is not None
    assert (best.study.complete, best.study.failed) == (1, 1)
    assert len(shared.trials()) == 3


def test_a_database_that_cannot_be_used_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_TUNE_STORAGE", "postgresql+psycopg://me:secret@127.0.0.1:1/studies")
    with pytest.raises(UserError, match=r"EVERGREEN_TUNE_STORAGE: postgresql\+psycopg://me:\*\*\*@") as caught:
        open_storage("any")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("EVERGREEN_TUNE_STORAGE", "somewhere")
    with pytest.raises(UserError, match="is no address of a database"):
        open_storage("any")
