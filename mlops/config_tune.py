"""The tune section of a pipeline file: which base models and hyper-parameters are tried, and for how long."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mlops.config_base import Section, Share, SourceUri
from mlops.config_train import TrainSection


class Range(Section):
    """Numbers from low to high, both included. log: as many trials between 1e-5 and 1e-4 as between 1e-4 and 1e-3."""

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _orderly(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; allowed: low <= high")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} with log: true; allowed: above 0, or log: false")
        if self.log and self.step:
            raise ValueError(f"step {self.step:g} with log: true; allowed: one of them")
        return self


class TuneSection(Section):
    """Absent: nothing is tried and the train section is taken as it is.

    trials: most of them, over all workers and restarts. timeout: minutes in which trials run, over all restarts. bases:
    the base models that are tried; none is that of the model section. space: {key of the train section: a list of values,
    or {low, high, log, step}}. rows: share of the train rows that a trial sees. workers: Airflow tasks that share the trials.
    """

    space: dict[str, Range | tuple[Any, ...]] = Field(default={})
    bases: tuple[SourceUri, ...] = ()
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    timeout: Annotated[float, Field(gt=0)] = 30.0
    rows: Annotated[Share, Field(gt=0)] = 1.0
    pruner: Literal["median", "hyperband", "none"] = "median"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 13
    workers: Annotated[int, Field(ge=1, le=64)] = 1

    @field_validator("space", mode="before")
    @classmethod
    def _dimensions(cls, value: Any) -> Any:
        """Every entry against the train section's own rules; all faults in one message."""
        if not isinstance(value, Mapping):
            return value
        found: dict[str, Any] = {}
        faults: list[str] = []
        for key, entry in value.items():
            try:
                found[key] = _dimension(str(key), entry)
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise ValueError("; ".join(faults))
        return found

    @field_validator("bases")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"found {', '.join(value)}; allowed: each once")
        return value

    @model_validator(mode="after")
    def _something_to_try(self) -> TuneSection:
        if not self.space and len(self.bases) < 2:
            raise ValueError("nothing to try: allowed is a space, two or more bases, or both")
        return self


def _dimension(key: str, entry: Any) -> Range | tuple[Any, ...]:
    """One entry of the space; ValueError in a user's words."""
    names = list(TrainSection.model_fields)
    if key not in names:
        close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{key}: unknown key; allowed, as in train: {', '.join(names)}{guess}")
    if isinstance(entry, Range):
        return entry
    if isinstance(entry, Mapping):
        try:
            ends = Range.model_validate(dict(entry))
        except ValidationError as error:
            raise ValueError("; ".join(_fault(key, fault) for fault in error.errors())) from None
        for name in ("low", "high"):
            value = getattr(ends, name)
            checked(key, int(value) if value.is_integer() else value, f"{key}.{name}")
        if ends.step and whole(key) and not ends.step.is_integer():
            raise ValueError(f"{key}.step: found {ends.step:g}; should be a whole number, such as 1")
        return ends
    if isinstance(entry, list | tuple) and entry:
        values = tuple(checked(key, value, key) for value in entry)
        if any(value in values[:place] for place, value in enumerate(values)):
            raise ValueError(f"{key}: found {list(entry)}; allowed: each value once")
        return values
    raise ValueError(f"{key}: found {entry!r}; allowed: a list of values such as [1024, 2048], or {{low: 1, high: 4}}")


def checked(key: str, value: Any, where: str) -> Any:
    """A value as the train section has it, JSON-safe; ValueError where that refuses it."""
    try:
        train = TrainSection.model_validate({key: value})
    except ValidationError as error:
        raise ValueError("; ".join(_fault(where, fault) for fault in error.errors())) from None
    return train.model_dump(mode="json")[key]


def whole(key: str) -> bool:
    """Whether a key of the train section takes whole numbers only."""
    try:
        TrainSection.model_validate({key: 1.5})
    except ValidationError as error:
        return any("whole" in fault["msg"] or fault["type"].startswith("int") for fault in error.errors())
    return False


def _fault(where: str, fault: Any) -> str:
    """One line of a pydantic fault, as `mlops.faults` words it."""
    kind, name = fault["type"], fault["loc"][-1] if fault["loc"] else ""
    if kind == "extra_forbidden":
        return f"{where}.{name}: unknown key; allowed: {', '.join(Range.model_fields)}"
    if kind == "missing":
        return f"{where}.{name}: is missing and has no default"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{where}: found {fault['input']!r}; {message}"
