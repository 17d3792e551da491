"""One trial: the fine_tune step under watch, judged by the gate's metric on the validation rows of each epoch."""

from __future__ import annotations

import gc
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mlops import flow
from mlops.config import PipelineConfig
from mlops.errors import EvergreenError
from mlops.tracking import log_progress
from mlops.tuning.choice import with_train
from mlops.tuning.study import Ticket
from mlops.types import Base, Run, Snapshot

State = Literal["complete", "pruned", "failed"]
SEEN = 20.0  # seconds between two notes of a trial that it is under way


class Stopped(Exception):
    """Raised by a reporter: the training that reports is to end here, without a model."""


class Pruned(Stopped):
    """It is not worth its end."""


class OutOfTime(Stopped):
    """The minutes of the pipeline file are over."""


class Enough(Stopped):
    """All epochs are judged: a trial's weights are nobody's, and need not be written."""


@dataclass(frozen=True)
class Ended:
    """How a trial ended; value: none unless it is complete."""

    state: State
    value: float | None = None
    reason: str = ""


@dataclass
class Watch:
    """A training's reporter: to the study, to MLflow, and back to the training by an exception.

    MLflow gets the epochs only: with the points in between of every trial it would have more to write than to learn from.
    """

    ticket: Ticket
    metric: str
    epochs: int
    run_id: str | None
    values: list[float] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _seen: float = field(default_factory=time.monotonic)

    def __call__(self, values: dict[str, float], step: int) -> None:
        value = values.get(f"validation/{self.metric}")
        if value is not None:
            if self.run_id is not None:
                log_progress(self.run_id, values, step)
            self._epoch(value)
        if time.monotonic() - self._seen > SEEN:  # what is spent when its process is killed in a long epoch
            self._alive()
        if time.monotonic() - self._started > self.ticket.minutes * 60:
            raise OutOfTime("the minutes of tune.timeout were over")

    def _epoch(self, value: float) -> None:
        self.values.append(value)
        trial = self.ticket.trial
        trial.report(value, len(self.values))
        self._alive()
        if len(self.values) >= self.epochs:
            raise Enough
        if trial.should_prune():
            raise Pruned(f"{self.metric} {value:.4f} after epoch {len(self.values)} of {self.epochs}")

    def _alive(self) -> None:
        self._seen = time.monotonic()
        self.ticket.trial.set_user_attr("seen", datetime.now().isoformat())


def attempt(
    config: PipelineConfig, snapshot: Snapshot, base: Base, train: dict[str, Any], run: Run, ticket: Ticket
) -> Ended:
    """Trains and judges. Whatever is wrong with these hyper-parameters ends this trial alone."""
    try:
        merged = with_train(config, train)
        watch = Watch(ticket, config.gate.metric, merged.train.epochs, run.mlflow_run_id)
        with suppress(Enough):
            flow.step_named("fine_tune").function(merged, snapshot, base, run, report=watch)
        if not watch.values:
            raise EvergreenError("the training ended without a value on the validation rows")
        return Ended("complete", max(watch.values))
    except Stopped as stop:
        return Ended("pruned", reason=str(stop))
    except Exception as error:
        return Ended("failed", reason=f"{type(error).__name__}: {error}")
    finally:
        _tidy()


def _tidy() -> None:
    """The memory of a trial that failed is held by its traceback: a large one would make the next one fail too."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
