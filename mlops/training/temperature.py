"""The temperature that makes probabilities hold, fitted on the validation rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops.tasks.base import Examples, Logits, Rules
from mlops.training.setting import Setting

_ROWS = 2000  # sequences of validation that decide it
_LOW, _HIGH = 0.05, 20.0


def fitted(model: Any, validation: Examples, setting: Setting) -> float:
    """The temperature of the least mean loss on validation (Guo et al., "On calibration of modern neural networks", ICML
    2017), three digits; 1 without validation rows, or where none is better. The model is on the CPU afterwards."""
    from mlops.training.predictor import logits_of

    count = min(len(validation), _ROWS)
    if not count:
        return 1.0
    rows = range(0, len(validation), math.ceil(len(validation) / count))
    seconds = None if validation.seconds is None else [validation.seconds[row] for row in rows]
    model.to(setting.device.name)
    found = logits_of(model, [validation.input_ids[row] for row in rows], setting.package, setting.device, seconds)
    model.to("cpu")
    return best([validation.targets[row] for row in rows], found, setting)


def best(targets: Sequence[Any], logits: Sequence[Logits], setting: Setting) -> float:
    """The same from logits."""
    import torch
    from scipy.optimize import minimize_scalar

    longest = max(len(values) for values in logits)
    ranked = logits[0].ndim == 1
    padded = np.stack(logits) if ranked else np.stack([_padded(values, longest) for values in logits])
    wanted = torch.from_numpy(setting.task.collate(list(targets), longest))
    given = torch.from_numpy(padded.astype(np.float32))

    def loss(power: float) -> float:
        # Without class weights and smoothing: what is wanted are the labels' own shares.
        sums, weights = setting.task.losses(given / math.exp(power), wanted, Rules(hard=True))
        return float(sums.double().sum() / weights.double().sum().clamp(min=1e-9))

    end = minimize_scalar(loss, bounds=(math.log(_LOW), math.log(_HIGH)), method="bounded", options={"xatol": 1e-3})
    better = math.isfinite(end.fun) and end.fun < loss(0.0)
    return float(f"{math.exp(end.x):.3g}") if better else 1.0


def _padded(values: Logits, longest: int) -> Logits:
    return np.pad(values, ((0, longest - len(values)), (0, 0)))
