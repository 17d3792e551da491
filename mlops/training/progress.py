"""How a training goes: on the log every few seconds, to MLflow every few steps."""

from __future__ import annotations

import logging
import time

import numpy as np

from mlops.training.setting import Epoch, Setting, State

log = logging.getLogger("evergreen")

_TALK_SECONDS = 5.0
_POINTS = 50  # step metrics per training, about: enough for a curve


class Progress:
    """One epoch's. steps: optimizer steps that it has; some may have been done before a restart."""

    def __init__(self, setting: Setting, state: State, steps: int) -> None:
        self._setting, self._state, self._steps = setting, state, steps
        self._every = max(1, steps * setting.train.epochs // _POINTS)
        self._losses: list[float] = []
        self._tokens = 0
        self._started = self._spoken = time.perf_counter()

    def tick(self, loss: float, rate: float, tokens: int) -> None:
        """After each step: its mean loss, learning rate and tokens without padding."""
        state, train = self._state, self._setting.train
        self._losses.append(loss)
        self._tokens += tokens
        now = time.perf_counter()
        speed = self._tokens / max(now - self._started, 1e-9)
        if state.step % self._every == 0 or state.step == self._steps:
            mean = float(np.mean(self._losses))
            values = {"train/loss": mean, "train/learning_rate": rate, "train/tokens_per_second": speed}
            self._setting.report(values, state.steps)
            self._losses = []
        if now - self._spoken >= _TALK_SECONDS:
            self._spoken = now
            text = "fine_tune: epoch %d/%d, step %d/%d, loss %.4f, %s tokens/s"
            log.info(text, state.epoch, train.epochs, state.step, self._steps, loss, f"{speed:,.0f}")
            self._setting.report({}, state.steps)  # a sign of life: who keeps to a time cannot wait for the next point

    def close(self, epoch: Epoch) -> None:
        """After the epoch's judgement."""
        metric = self._setting.metric
        seconds = time.perf_counter() - self._started
        shown = "no validation rows"
        if epoch.metric is not None and epoch.validation_loss is not None:
            values = {f"validation/{metric}": epoch.metric, "validation/loss": epoch.validation_loss}
            self._setting.report(values, self._state.steps)
            shown = f"validation {metric} {epoch.metric:.4f}"
        text = "fine_tune: epoch %d/%d done in %.1f s, loss %.4f, %s"
        log.info(text, epoch.epoch, self._setting.train.epochs, seconds, epoch.loss, shown)
