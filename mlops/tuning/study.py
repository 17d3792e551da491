"""One study that several processes and restarts share: its name, its trials, what is left of them and of the time.

A trial's attributes: host and lock of its worker, run (MLflow), seen (when it last reported), reason. void: it died with
its process, is tried once more under another number, and does not count.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlops import settings
from mlops.config import PipelineConfig
from mlops.config_tune import TuneSection
from mlops.tuning import runs
from mlops.tuning.sampling import pruner, sampler
from mlops.tuning.space import distributions, starting_point
from mlops.tuning.storage import beats, heartbeat, open_storage
from mlops.types import Base, Run, Snapshot, Study, identity

log = logging.getLogger("evergreen")


def study_name(config: PipelineConfig, tune: TuneSection, snapshot: Snapshot, bases: Sequence[Base], run: Run) -> str:
    """pipeline-DIGEST of all that decides what a trial's value is. Not of how many trials or minutes: more of them go on
    with the same study. A forced retrain has a study of its own, as it reuses nothing."""
    fixed = config.train.model_dump(mode="json", exclude=set(tune.space))
    decisive = {
        "task": config.task_key,
        "max_length": config.model.max_length,
        "metric": config.gate.metric,
        "train": fixed,
        "space": tune.model_dump(mode="json")["space"],
        "rows": tune.rows,
        "snapshot": snapshot,
        "bases": [base.sha256 for base in bases],
    }
    own = {"retrain": run.retrain_id} if run.force else {}
    return f"{config.name}-{identity(decisive | own)[:16]}"


@dataclass(frozen=True)
class Ticket:
    """A trial that this process may run. minutes: how long at most."""

    trial: Any
    minutes: float


class Search:
    """A study in its storage."""

    def __init__(
        self, config: PipelineConfig, tune: TuneSection, snapshot: Snapshot, bases: Sequence[Base], run: Run
    ) -> None:
        import optuna
        from filelock import FileLock

        self.name = study_name(config, tune, snapshot, bases, run)
        self._tune, self._space = tune, distributions(tune, bases)
        locks = settings.current().locks
        locks.mkdir(parents=True, exist_ok=True)
        self._locks = locks / f"tune-{self.name}"
        self._lock = FileLock(f"{self._locks}.lock")
        with self._lock:  # two that find no tables would both make them
            self._storage = open_storage(self.name)
            self.study = optuna.create_study(
                study_name=self.name,
                storage=self._storage,
                direction="maximize",
                load_if_exists=True,
                pruner=pruner(tune, config.train.epochs),
            )
            train = config.train.model_dump(mode="json")
            first = starting_point(tune, bases, train, run.base.uri) if self._space else None
            if first is not None and not self.trials():
                self.study.enqueue_trial(first)

    def trials(self) -> list[Any]:
        """Optuna's frozen trials, in the order of their numbers."""
        return list(self.study.get_trials(deepcopy=False))

    @contextmanager
    def next(self) -> Iterator[Ticket | None]:
        """The next trial to run, held for this process as long as the context lasts; none when all is done."""
        from filelock import FileLock

        with self._lock:  # one process of this machine at a time counts and takes
            self._bury()
            trial = self._take()
            if trial is not None:
                # Taken before anybody else can look: a running trial whose lock is free has lost its worker.
                held = FileLock(f"{self._locks}-{trial.number}.lock")
                held.acquire(timeout=0)
                trial.set_user_attr("host", socket.gethostname())
        if trial is None:
            yield None
            return
        try:
            with heartbeat(self._storage, trial._trial_id):
                yield Ticket(trial, self.minutes_left())
        finally:
            held.release()
            with suppress(OSError):  # nobody asks for the lock of a trial that has ended
                os.unlink(held.lock_file)

    def _take(self) -> Any:
        """A trial with its parameters, unless there are as many as may be or the time is over."""
        from optuna.trial import TrialState

        done = len(_counted(self.trials()))
        if done >= self._tune.trials or self.minutes_left() <= 0:
            return None
        self.study.sampler = sampler(self._tune, done)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna expects heartbeats only from its own loop
            trial = self.study.ask(self._space)
        # Another machine may have taken the last one in the same moment.
        if sum(each.number < trial.number for each in _counted(self.trials())) >= self._tune.trials:
            trial.set_user_attr("void", True)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        return trial

    def _bury(self) -> None:
        """Trials whose worker has gone fail, and are asked for once more."""
        from optuna.trial import TrialState

        for trial in self.trials():
            if trial.state != TrialState.RUNNING or not self._dead(trial):
                continue
            attempt = trial.user_attrs.get("attempt", 1)
            again = attempt < 2  # what kills its process twice would do it for ever
            facts = {"void": again, "reason": "its process was killed"}
            for key, value in facts.items():
                self._storage.set_trial_user_attr(trial._trial_id, key, value)
            self.study.tell(trial.number, state=TrialState.FAIL)
            runs.close_run(trial.user_attrs.get("run"), "killed", facts["reason"])
            if again and trial.params:
                self.study.enqueue_trial(trial.params, user_attrs={"attempt": attempt + 1})
            log.info("tune: trial %d was killed%s", trial.number, "; its parameters are tried again" if again else "")

    def _dead(self, trial: Any) -> bool:
        from filelock import FileLock, Timeout

        if beats(self._storage) and trial.user_attrs.get("host") != socket.gethostname():
            return trial._trial_id in self._storage._get_stale_trial_ids(self.study._study_id)
        try:
            with FileLock(f"{self._locks}-{trial.number}.lock").acquire(timeout=0):
                return True
        except Timeout:
            return False

    def minutes_left(self) -> float:
        """Of the time that the pipeline file grants."""
        return self._tune.timeout - spent(self.trials()).total_seconds() / 60

    def standing(self) -> Study:
        """How many trials are done."""
        from optuna.trial import TrialState

        states = [trial.state for trial in _counted(self.trials())]
        return Study(
            name=self.name,
            complete=states.count(TrialState.COMPLETE),
            pruned=states.count(TrialState.PRUNED),
            failed=states.count(TrialState.FAIL),
            minutes=round(spent(self.trials()).total_seconds() / 60, 3),
        )

    def best(self) -> Any:
        """The complete trial with the highest value, the earliest of equal ones; none where there is none."""
        from optuna.trial import TrialState

        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value, default=None)  # max keeps the first


def _counted(trials: Sequence[Any]) -> list[Any]:
    """Those that were begun, without what died and is tried again."""
    from optuna.trial import TrialState

    return [each for each in trials if each.state != TrialState.WAITING and not each.user_attrs.get("void")]


def spent(trials: Sequence[Any]) -> timedelta:
    """The time in which at least one trial ran: workers side by side do not count twice, nor does a pause between restarts."""
    pieces = sorted(_interval(trial) for trial in trials if trial.datetime_start is not None)
    total, until = timedelta(), datetime.min
    for start, end in pieces:
        total += max(end - max(start, until), timedelta())
        until = max(until, end)
    return total


def _interval(trial: Any) -> tuple[datetime, datetime]:
    if trial.user_attrs.get("reason") == "its process was killed":  # nobody knows when; it lived at its last report
        seen = trial.user_attrs.get("seen")
        return trial.datetime_start, datetime.fromisoformat(seen) if seen else trial.datetime_start
    return trial.datetime_start, trial.datetime_complete or datetime.now()
