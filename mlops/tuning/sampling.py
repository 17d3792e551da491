"""Which point a study tries next, and which trial is not worth its end."""

from __future__ import annotations

import random
from typing import Any

from mlops.config_tune import Range, TuneSection

_MOST_AT_RANDOM = 10  # trials before the sampler goes by what it has seen


def sampler(tune: TuneSection, done: int) -> Any:
    """TPE (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011), seeded anew for every trial.

    done: trials so far. So a study that was killed goes on as it would have gone on, and workers do not try the same.
    """
    from optuna.samplers import TPESampler

    seed = random.Random(f"{tune.seed} {done}").getrandbits(32)
    return TPESampler(seed=seed, n_startup_trials=min(_MOST_AT_RANDOM, max(2, tune.trials // 3)))


def pruner(tune: TuneSection, epochs: int) -> Any:
    """median: stops what is below the median of earlier trials at the same epoch. hyperband: Li et al., 2018.

    epochs: of the train section, where the space has none.
    """
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if tune.pruner == "none":
        return NopPruner()
    if tune.pruner == "hyperband":
        entry = tune.space.get("epochs", (epochs,))
        most = int(entry.high) if isinstance(entry, Range) else max(entry)
        return HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=3)
    return MedianPruner(n_startup_trials=min(5, max(1, tune.trials // 4)))
