"""The cost of a step as a value, its sum over steps, and its price."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlops.errors import UserError
from mlops.types import Value


class Cost(Value):
    """cpu_seconds: of all cores and child processes. gpu_seconds: each GPU for as long as it was held. peak_mb: resident
    memory (1e6 bytes) of all processes together. energy_kwh, co2_kg: estimates, none where there is none.
    money: in currency; none without rates.
    """

    seconds: float
    cpu_seconds: float
    gpu_seconds: float = 0.0
    peak_mb: float = 0.0
    energy_kwh: float | None = None
    co2_kg: float | None = None
    money: float | None = None
    currency: str = ""


@dataclass(frozen=True)
class Rates:
    """The price of an hour of one core and of one GPU; none is no price."""

    cpu_hour: float | None
    gpu_hour: float | None
    currency: str

    def price(self, cpu_seconds: float, gpu_seconds: float) -> float | None:
        """none where there are no rates at all."""
        if self.cpu_hour is None and self.gpu_hour is None:
            return None
        return (cpu_seconds * (self.cpu_hour or 0.0) + gpu_seconds * (self.gpu_hour or 0.0)) / 3600


def rates() -> Rates:
    """EVERGREEN_COST_CPU_HOUR, EVERGREEN_COST_GPU_HOUR and EVERGREEN_COST_CURRENCY; UserError where one is no number."""
    cpu, gpu = (_rate(f"EVERGREEN_COST_{kind}_HOUR") for kind in ("CPU", "GPU"))
    return Rates(cpu, gpu, os.environ.get("EVERGREEN_COST_CURRENCY", ""))


def _rate(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{name}: found {text!r}; allowed: the price of an hour as a number from 0, such as 0.04")
    return value


def total(costs: Mapping[str, Cost]) -> Cost:
    """The sum over steps, of memory the highest; energy over the steps that know theirs."""

    def over(name: str) -> float | None:
        known = [value for cost in costs.values() if (value := getattr(cost, name)) is not None]
        return sum(known) if known else None

    return Cost(
        seconds=over("seconds") or 0.0,
        cpu_seconds=over("cpu_seconds") or 0.0,
        gpu_seconds=over("gpu_seconds") or 0.0,
        peak_mb=max((cost.peak_mb for cost in costs.values()), default=0.0),
        energy_kwh=over("energy_kwh"),
        co2_kg=over("co2_kg"),
        money=over("money"),
        currency=next((cost.currency for cost in costs.values() if cost.currency), ""),
    )
