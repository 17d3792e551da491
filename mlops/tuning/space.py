"""What a study varies: the tune section as Optuna's distributions, and their values as base model and train section."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlops.config_tune import Range, TuneSection, whole
from mlops.types import Base

BASE = "base"  # the parameter that names the base model


def distributions(tune: TuneSection, bases: Sequence[Base]) -> dict[str, Any]:
    """{parameter: Optuna distribution}; the base is a parameter where there are several."""
    from optuna.distributions import CategoricalDistribution

    found = {key: _distribution(key, entry) for key, entry in tune.space.items()}
    if len(bases) > 1:
        found[BASE] = CategoricalDistribution([base.uri for base in bases])
    return found


def _distribution(key: str, entry: Range | tuple[Any, ...]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(entry, Range):
        return CategoricalDistribution([_label(value) for value in entry])
    if whole(key):
        return IntDistribution(int(entry.low), int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)


def _label(value: Any) -> Any:
    """A value as Optuna stores it: what is more than a number or a text goes as JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)


def chosen(tune: TuneSection, bases: Sequence[Base], params: Mapping[str, Any]) -> tuple[Base, dict[str, Any]]:
    """(base model, overrides of the train section) of a trial's parameters."""
    train: dict[str, Any] = {}
    for key, entry in tune.space.items():
        value = params[key]
        if not isinstance(entry, Range):
            value = next(each for each in entry if _label(each) == value)
        train[key] = value
    uri = params.get(BASE, bases[0].uri)
    return next(base for base in bases if base.uri == uri), train


def starting_point(
    tune: TuneSection, bases: Sequence[Base], train: Mapping[str, Any], uri: str
) -> dict[str, Any] | None:
    """The parameters that the pipeline file itself stands for, so that no study ends below it; none where the space has
    no such point."""
    found: dict[str, Any] = {key: _label(train[key]) for key in tune.space}
    if len(bases) > 1:
        found[BASE] = uri
    space = distributions(tune, bases)
    return found if all(_holds(space[key], value) for key, value in found.items()) else None


def _holds(distribution: Any, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False
