"""What stays the same for a training, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlops.config_train import TrainSection
from mlops.serving.package import Package
from mlops.tasks.base import Rules, Task
from mlops.training.device import Device

Reporter = Callable[[dict[str, float], int], None]
# (model, inputs, targets, positions of the rows) to (sums, weights), each [batch], as a task's own `losses`.
Objective = Callable[[Any, dict[str, Any], Any, Sequence[int]], tuple[Any, Any]]


@dataclass(frozen=True)
class Setting:
    """What stays the same for a whole training. metric: which one decides the best epoch; report: takes step metrics, and
    none of them every few seconds; objective: what is minimised in place of the task's own losses."""

    task: Task
    package: Package
    train: TrainSection
    metric: str
    device: Device
    report: Reporter
    rules: Rules = field(default_factory=Rules)
    objective: Objective | None = None

    def padded(self, length: int) -> int:
        """Tokens that a batch is padded to whose longest sequence has so many."""
        multiple = self.device.multiple
        return max(1, length, min(-(-length // multiple) * multiple, self.package.max_length))


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean training loss per row, validation metric and loss (none without validation rows), work done.

    No seconds: two trainings to the same weights are the same artifact, to the last byte. MLflow has the speed.
    """

    epoch: int
    loss: float
    metric: float | None
    validation_loss: float | None
    steps: int
    rows: int
    tokens: int

    @property
    def standing(self) -> tuple[float, float] | None:
        """What epochs are compared by: the metric, then the smaller validation loss; none without validation rows."""
        return None if self.metric is None or self.validation_loss is None else (self.metric, -self.validation_loss)


@dataclass
class State:
    """Where a training stands. budget: most tokens of a batch now; it is halved when memory runs out.

    epoch: under way, from 1. step: optimizer steps done in it, steps: in all. loss, weight, rows: summed over this epoch
    so far. epochs: those that are done. best_epoch: 0 before the first is done.
    """

    budget: int
    epoch: int = 1
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    weight: float = 0.0
    rows: int = 0
    halved: bool = False
    best_epoch: int = 0
    epochs: list[Epoch] = field(default_factory=list)

    def add(self, loss: float, weight: float, rows: int) -> None:
        """One optimizer step is done; sums over its rows."""
        self.step, self.steps = self.step + 1, self.steps + 1
        self.loss, self.weight, self.rows = self.loss + loss, self.weight + weight, self.rows + rows

    def close(self, metric: float | None, validation_loss: float | None, tokens: int) -> bool:
        """Ends the epoch under way; whether it is the best so far, which without validation rows the last one is."""
        mean = self.loss / max(self.weight, 1e-9)
        done = Epoch(self.epoch, mean, metric, validation_loss, self.step, self.rows, tokens)
        best = self.epochs[self.best_epoch - 1].standing if self.best_epoch else None
        better = best is None or done.standing is None or done.standing > best
        if better:
            self.best_epoch = self.epoch
        self.epochs.append(done)
        self.epoch, self.step, self.loss, self.weight, self.rows = self.epoch + 1, 0, 0.0, 0.0, 0
        return better

    def finished(self, train: TrainSection) -> bool:
        """Whether all epochs are done, or `patience` of them brought nothing."""
        waited = len(self.epochs) - self.best_epoch
        return self.epoch > train.epochs or (train.patience is not None and waited >= train.patience)

    def dump(self) -> dict[str, Any]:
        """JSON-safe; floats come back as they were."""
        return asdict(self)

    @classmethod
    def load(cls, values: dict[str, Any]) -> State:
        return cls(**values | {"epochs": [Epoch(**each) for each in values["epochs"]]})
