"""The training loop: plain torch, one page. Token-budget batches, fused AdamW, warm-up and decay, the best epoch kept."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mlops.config_train import TrainSection
from mlops.errors import EvergreenError
from mlops.serving.inputs import pad
from mlops.serving.package import Package
from mlops.tasks.base import Examples, Rules, Task
from mlops.training.batches import shuffled
from mlops.training.device import Device
from mlops.training.optimizer import adamw, factor, set_rate
from mlops.training.predictor import logits_of

log = logging.getLogger("evergreen")

_TALK_SECONDS = 5.0
_POINTS = 50  # step metrics per training, about: enough for a curve

Reporter = Callable[[dict[str, float], int], None]


@dataclass(frozen=True)
class Setting:
    """What stays the same for a whole training. metric: which one decides the best epoch; report: takes step metrics."""

    task: Task
    package: Package
    train: TrainSection
    metric: str
    device: Device
    report: Reporter
    rules: Rules = field(default_factory=Rules)


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
    tokens: int


def train(model: Any, rows: Examples, validation: Examples, setting: Setting) -> dict[str, Any]:
    """Trains in place; the model ends on the CPU, in eval mode, with the weights of its best epoch.

    Returns the history as training.json keeps it. The best epoch has the highest validation metric, then the lowest
    validation loss; without validation rows it is the last. Raises EvergreenError, naming the rows, as soon as a loss
    is not finite.
    """
    model.to(setting.device.name)
    optimizer = adamw(model, setting.train.learning_rate, setting.train.weight_decay)
    epochs: list[Epoch] = []
    best: tuple[float, float] | None = None
    kept, kept_epoch = {}, 0
    for number in range(1, setting.train.epochs + 1):
        epoch = _epoch(model, rows, validation, optimizer, setting, number, sum(done.steps for done in epochs))
        epochs.append(epoch)
        standing = _standing(epoch)
        if best is None or standing is None or standing > best:
            best, kept_epoch = standing, number
            kept = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
    model.to("cpu")
    model.load_state_dict(kept)
    model.eval()
    return {
        "metric": setting.metric,
        "best_epoch": kept_epoch,
        "epochs": [asdict(epoch) for epoch in epochs],
        "steps": sum(epoch.steps for epoch in epochs),
        "rows": {"train": len(rows), "validation": len(validation)},
        "parameters": sum(value.numel() for value in model.parameters()),
        "device": setting.device.name,
        "precision": setting.device.precision,
    }


def _standing(epoch: Epoch) -> tuple[float, float] | None:
    if epoch.metric is None or epoch.validation_loss is None:
        return None
    return epoch.metric, -epoch.validation_loss


def _epoch(
    model: Any, rows: Examples, validation: Examples, optimizer: Any, setting: Setting, number: int, step: int
) -> Epoch:
    """One pass over the rows and the judgement after it. step: optimizer steps before this epoch."""
    started = time.perf_counter()
    model.train()
    batches = shuffled(rows.lengths, setting.train.batch_tokens, setting.train.seed, number)
    progress = Progress(setting, number, len(batches), step)
    total = weight = 0.0
    for position, chosen in enumerate(batches):
        # The middle of the step: neither the first nor the last one has a rate of zero.
        done = (number - 1 + (position + 0.5) / len(batches)) / setting.train.epochs
        rate = setting.train.learning_rate * factor(done, setting.train.warmup)
        set_rate(optimizer, rate)
        loss, counted = _step(model, rows, chosen, optimizer, setting, f"epoch {number}, step {position + 1}")
        total += loss * counted
        weight += counted
        progress.tick(loss, rate, sum(len(rows.input_ids[row]) for row in chosen))
    metric, validation_loss = _judge(model, validation, setting)
    seconds = time.perf_counter() - started
    steps = step + len(batches)
    if metric is not None and validation_loss is not None:
        setting.report({f"validation/{setting.metric}": metric, "validation/loss": validation_loss}, steps)
    mean = total / weight
    shown = "no validation rows" if metric is None else f"validation {setting.metric} {metric:.4f}"
    log.info("fine_tune: epoch %d/%d done in %.1f s, loss %.4f, %s", number, setting.train.epochs, seconds, mean, shown)
    return Epoch(number, mean, metric, validation_loss, len(batches), sum(rows.lengths))


def _step(
    model: Any, rows: Examples, chosen: Sequence[int], optimizer: Any, setting: Setting, where: str
) -> tuple[float, float]:
    """One optimizer step; returns the mean loss of its targets and their weight."""
    import torch

    inputs, targets = tensors(rows, chosen, setting)
    with setting.device.autocast():
        logits = model(**inputs).logits
    losses, weights = setting.task.losses(logits, targets, setting.rules)
    weight = weights.sum()
    loss = losses.sum() / weight
    value = float(loss.detach())
    if not math.isfinite(value):
        _not_finite([rows.row_ids[row] for row in chosen], losses.detach().cpu().tolist(), setting, where)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), setting.train.max_grad_norm)
    optimizer.step()
    return value, float(weight)


def tensors(rows: Examples, chosen: Sequence[int], setting: Setting) -> tuple[dict[str, Any], Any]:
    """(model inputs, targets) of one batch, on the device."""
    import torch

    ids = [rows.input_ids[row] for row in chosen]
    seconds = None if rows.seconds is None else [rows.seconds[row] for row in chosen]
    arrays = pad(ids, setting.package.pad_id, setting.package.inputs, seconds)
    targets = setting.task.collate([rows.targets[row] for row in chosen], max(map(len, ids)))
    where = setting.device.name
    return {name: torch.from_numpy(array).to(where) for name, array in arrays.items()}, torch.from_numpy(targets).to(
        where
    )


def _not_finite(row_ids: Sequence[str], losses: Sequence[float], setting: Setting, where: str) -> None:
    bad = [(row, loss) for row, loss in zip(row_ids, losses, strict=True) if not math.isfinite(loss)]
    shown = ", ".join(f"{row} ({loss})" for row, loss in bad[:20])
    more = f" and {len(bad) - 20} more" if len(bad) > 20 else ""
    raise EvergreenError(
        f"the loss is not finite at {where}, on {len(bad)} of {len(row_ids)} rows: {shown}{more}; nothing was kept. "
        f"Lower train.learning_rate ({setting.train.learning_rate:g}) or look at these rows"
    )


def _judge(model: Any, validation: Examples, setting: Setting) -> tuple[float | None, float | None]:
    """The deciding metric and the mean loss on the validation rows; none without rows."""
    import torch

    if not len(validation):
        return None, None
    task, labels = setting.task, setting.package.labels
    logits = logits_of(model, validation.input_ids, setting.package, setting.device, validation.seconds)
    total = weight = 0.0
    for values, target in zip(logits, validation.targets, strict=True):
        targets = torch.from_numpy(task.collate([target], len(values)))
        sums, weights = task.losses(torch.from_numpy(values)[None], targets, setting.rules)
        total, weight = total + float(sums.sum()), weight + float(weights.sum())
    return task.metrics(logits, validation, labels)[setting.metric], total / max(weight, 1e-9)


class Progress:
    """Says on the log every few seconds, and to MLflow every few steps, how an epoch goes."""

    def __init__(self, setting: Setting, epoch: int, batches: int, step: int) -> None:
        self._setting, self._epoch, self._batches, self._first = setting, epoch, batches, step
        self._every = max(1, batches * setting.train.epochs // _POINTS)
        self._losses: list[float] = []
        self._done = self._tokens = 0
        self._started = self._spoken = time.perf_counter()

    def tick(self, loss: float, rate: float, tokens: int) -> None:
        """After each step: its loss, learning rate and tokens without padding."""
        self._losses.append(loss)
        self._done += 1
        self._tokens += tokens
        now = time.perf_counter()
        speed = self._tokens / max(now - self._started, 1e-9)
        if self._done % self._every == 0 or self._done == self._batches:
            mean = float(np.mean(self._losses))
            values = {"train/loss": mean, "train/learning_rate": rate, "train/tokens_per_second": speed}
            self._setting.report(values, self._first + self._done)
            self._losses = []
        if now - self._spoken >= _TALK_SECONDS:
            self._spoken = now
            text = "fine_tune: epoch %d/%d, step %d/%d, loss %.4f, %s tokens/s"
            epochs = self._setting.train.epochs
            log.info(text, self._epoch, epochs, self._done, self._batches, loss, f"{speed:,.0f}")
