"""Tensors of a batch, how its losses count, and the error when one is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from mlops.config_train import TrainSection
from mlops.errors import EvergreenError
from mlops.serving.inputs import pad
from mlops.tasks.base import Examples, Logits, Rules, Task
from mlops.training.setting import Setting

_SHOWN = 20


def rules(task: Task, train: TrainSection, rows: Examples, labels: Sequence[str]) -> Rules:
    """The section's class weights and label smoothing, from the rows that are trained on.

    balanced: n / (k * count) for k of the labels among n targets, so that every label counts the same in all and a row
    counts 1 on average; a label that is nowhere has 1.
    """
    weights = None
    if train.class_weights == "balanced":
        counts = task.counts(rows, labels).astype(np.float64)
        present = counts > 0
        balanced = counts.sum() / (max(1, present.sum()) * np.maximum(counts, 1))
        weights = [float(value) for value in np.where(present, balanced, 1.0)]
    return Rules(weights, train.label_smoothing)


def tensors(rows: Examples, chosen: Sequence[int], setting: Setting) -> tuple[dict[str, Any], Any]:
    """(model inputs, targets) of one batch, on the device."""
    import torch

    ids = [rows.input_ids[row] for row in chosen]
    seconds = None if rows.seconds is None else [rows.seconds[row] for row in chosen]
    length = setting.padded(max(map(len, ids), default=1))
    arrays = pad(ids, setting.package.pad_id, setting.package.inputs, seconds, length)
    longest = arrays["input_ids"].shape[1]
    targets = torch.from_numpy(setting.task.collate([rows.targets[row] for row in chosen], longest))
    where = setting.device.name
    return {name: torch.from_numpy(array).to(where) for name, array in arrays.items()}, targets.to(where)


def losses_of(model: Any, rows: Examples, chosen: Sequence[int], setting: Setting) -> tuple[Any, Any]:
    """(sums, weights), each [batch], of one batch: by the setting's objective, else the task's own losses."""
    inputs, targets = tensors(rows, chosen, setting)
    if setting.objective is not None:
        return setting.objective(model, inputs, targets, chosen)
    with setting.device.autocast():
        logits = model(**inputs).logits
    return setting.task.losses(logits, targets, setting.rules)


@dataclass
class Found:
    """The losses of a step's batches, on the device until somebody asks. Each: rows, sums [rows], weights [rows]."""

    batches: list[tuple[Sequence[int], Any, Any]] = field(default_factory=list)

    def add(self, chosen: Sequence[int], losses: Any, weights: Any) -> None:
        """One batch."""
        self.batches.append((chosen, losses.detach(), weights.detach()))

    def sums(self, lost: Callable[[Sequence[int], Sequence[float]], NoReturn]) -> tuple[float, float, int]:
        """Losses, weights and rows of all batches; `lost` is told the rows and losses of the first that is not finite."""
        loss = weight = 0.0
        for chosen, losses, weights in self.batches:
            value = float(losses.sum())
            if not math.isfinite(value):
                lost(chosen, losses.cpu().tolist())
            loss, weight = loss + value, weight + float(weights.sum())
        return loss, weight, sum(len(chosen) for chosen, _, _ in self.batches)


def judged(
    setting: Setting, validation: Examples, logits: Sequence[Logits], labels: Sequence[str], where: str
) -> tuple[float, float]:
    """(the deciding metric, the mean loss) of the validation rows from one array of logits per sequence.

    Raises the EvergreenError that names the rows whose losses are not finite: the most probable label of a NaN is the first.
    """
    import torch

    losses: list[float] = []
    weight = 0.0
    for values, target in zip(logits, validation.targets, strict=True):
        targets = torch.from_numpy(setting.task.collate([target], len(values)))
        sums, weights = setting.task.losses(torch.from_numpy(values)[None], targets, setting.rules)
        losses.append(float(sums.sum()))
        weight += float(weights.sum())
    total = sum(losses)
    if not math.isfinite(total):
        not_finite(validation.row_ids, losses, setting, where)
    return setting.task.metrics(logits, validation, labels)[setting.metric], total / max(weight, 1e-9)


def not_finite(row_ids: Sequence[str], losses: Sequence[float], setting: Setting, where: str) -> NoReturn:
    """Raises the EvergreenError that names the rows whose losses are not finite."""
    bad = [(row, loss) for row, loss in zip(row_ids, losses, strict=True) if not math.isfinite(loss)]
    shown = ", ".join(f"{row} ({loss})" for row, loss in bad[:_SHOWN])
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise EvergreenError(
        f"the loss is not finite at {where}, on {len(bad)} of {len(row_ids)} rows: {shown}{more}; nothing was kept. "
        f"Lower train.learning_rate ({setting.train.learning_rate:g}) or look at these rows"
    )


def gradient_not_finite(row_ids: Sequence[str], setting: Setting, where: str) -> NoReturn:
    """Raises the EvergreenError for finite losses whose gradient is not."""
    shown = ", ".join(row_ids[:_SHOWN]) + (f" and {len(row_ids) - _SHOWN} more" if len(row_ids) > _SHOWN else "")
    raise EvergreenError(
        f"the gradient is not finite at {where}, whose losses are; its rows: {shown}; nothing was kept. "
        f"Lower train.learning_rate ({setting.train.learning_rate:g}), or set train.precision to fp32"
    )
