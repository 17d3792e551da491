"""Distillation: a smaller network learns to answer as the fine-tuned one does, on labelled rows and on unlabelled text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops.compression.teacher import Teacher
from mlops.serving.inputs import Encoder
from mlops.tasks.base import IGNORED, Examples, Item, Task
from mlops.training.loop import train
from mlops.training.predictor import logits_of
from mlops.training.setting import Setting

log = logging.getLogger("evergreen")


@dataclass(frozen=True)
class Mix:
    """What a row's loss is made of. hard: weight of the task's own loss; soft: of the divergence from the teacher's answers
    at `temperature`; hidden: of the distance between hidden states."""

    hard: float = 0.5
    soft: float = 0.5
    hidden: float = 1.0
    temperature: float = 2.0


class Distillation:
    """The objective of a training (mlops.training.setting): each row's loss beside its teacher's answer.

    hard × the task's own loss + soft × temperature² × KL(teacher || student), both softened by the temperature (Hinton et
    al., "Distilling the Knowledge in a Neural Network", 2015) + hidden × the mean squared distance of hidden states over the
    teacher's own mean square (Jiao et al., "TinyBERT", 2020; relative, so that one weight serves all networks). The last two
    count as the row's own loss does, times its weight. labelled: how many rows, the first ones, have labels of their own;
    from the others only the teacher's answers are learned.
    """

    def __init__(self, teacher: Teacher, setting: Setting, labelled: int, mix: Mix) -> None:
        self._teacher, self._setting, self._labelled, self._mix = teacher, setting, labelled, mix

    def __call__(self, model: Any, inputs: dict[str, Any], targets: Any, chosen: Sequence[int]) -> tuple[Any, Any]:
        """(sums, weights), each [batch]."""
        import torch

        setting, mix = self._setting, self._mix
        with setting.device.autocast():
            found = model(**inputs, output_hidden_states=bool(mix.hidden))
        wanted, states = self._teacher.answers(chosen, inputs)
        hard, weights = setting.task.losses(found.logits, targets, setting.rules)
        own = torch.tensor([row < self._labelled for row in chosen], device=hard.device)
        soft = divergence(found.logits.float(), wanted, targets, mix.temperature)
        more = mix.soft * mix.temperature**2 * soft
        if mix.hidden:
            ours = [found.hidden_states[place] for place in range(1, len(states) + 1)]
            more = more + mix.hidden * distance(ours, states, inputs["attention_mask"])
        return mix.hard * hard * own + weights * more, weights


def divergence(logits: Any, wanted: Any, targets: Any, temperature: float) -> Any:
    """KL(teacher || student) per row [batch], both softened; logits: the student's, wanted: the teacher's.

    Targets in floats are labels that are judged each by itself (multi-label): the mean over them. Logits per token: the
    mean over the tokens that are asked, those whose target is not IGNORED.
    """
    import torch
    from torch.nn.functional import kl_div, log_softmax, logsigmoid

    ours, theirs = logits / temperature, wanted / temperature
    if targets.is_floating_point():
        ours, theirs = (torch.stack([logsigmoid(each), logsigmoid(-each)], dim=-1) for each in (ours, theirs))
        return kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1).mean(dim=-1)
    ours, theirs = log_softmax(ours, dim=-1), log_softmax(theirs, dim=-1)
    each = kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1)
    if each.ndim == 1:
        return each
    asked = (targets != IGNORED).float()
    return (each * asked).sum(dim=1) / asked.sum(dim=1).clamp(min=1)


def distance(ours: Sequence[Any], theirs: Sequence[Any], mask: Any) -> Any:
    """How far hidden states [batch, length, width] are from the teacher's, per row [batch]: mean squared difference over
    the teacher's mean square, the mean over layers; 0 is equal. mask [batch, length]: 1 for tokens that count."""
    import torch

    real = mask[:, :, None].float()
    found = []
    for one, other in zip(ours, theirs, strict=True):
        wrong = ((one.float() - other) ** 2 * real).sum(dim=(1, 2))
        found.append(wrong / (other**2 * real).sum(dim=(1, 2)).clamp(min=1e-9))
    return torch.stack(found).mean(dim=0)


def distil(
    teacher: Any,
    student: Any,
    rows: Examples,
    validation: Examples,
    setting: Setting,
    places: Sequence[int],
    unlabelled: Examples | None = None,
    mix: Mix | None = None,
) -> dict[str, Any]:
    """Trains the student in place, as setting.train says; it ends with the weights of its best epoch. Returns the history.

    places: per layer of the student the teacher's layer, from 0, whose states it should have. unlabelled: rows from
    `asked`, none for labelled ones alone. Raises EvergreenError as `loop.train` does.
    """
    mix = mix or Mix()
    every = joined(rows, unlabelled) if unlabelled is not None else rows
    known = Teacher(teacher, every, setting, places if mix.hidden else ())
    objective = Distillation(known, setting, len(rows), mix)
    return train(student, every, validation, replace(setting, objective=objective))


def asked(items: Sequence[Item], teacher: Any, folder: Path, setting: Setting) -> Examples:
    """Unlabelled items as rows whose targets are the teacher's answers. folder: where its tokenizer.json is."""
    encoded = Encoder(folder, setting.package, setting.task).encode(items)
    teacher.to(setting.device.name)
    logits = logits_of(teacher, encoded.input_ids, setting.package, setting.device, encoded.seconds)
    teacher.to("cpu")
    places = encoded.places or [np.zeros(0, dtype=np.int32)] * len(logits)
    targets = [_target(setting.task, values, where) for values, where in zip(logits, places, strict=True)]
    names = [f"unlabelled-{item}" for item in encoded.items]
    return Examples(names, encoded.input_ids, targets, encoded.seconds)


def _target(task: Task, logits: Any, places: Any) -> Any:
    """A sequence's target in the form that the task's `collate` takes."""
    if task.kind == "tokens":
        target = np.full(len(logits), IGNORED, dtype=np.int64)
        target[places] = logits[places].argmax(axis=1)
        return target
    return (logits > 0).astype(np.float32) if not task.one_label else int(logits.argmax())


def joined(rows: Examples, more: Examples) -> Examples:
    """Both, the labelled ones first; what a metric needs of rows is left out: nobody judges by these."""
    seconds = None
    if rows.seconds is not None or more.seconds is not None:
        first, second = (part.seconds or part.lengths for part in (rows, more))
        seconds = [*first, *second]
    return Examples(
        [*rows.row_ids, *more.row_ids],
        [*rows.input_ids, *more.input_ids],
        [*rows.targets, *more.targets],
        seconds,
    )
