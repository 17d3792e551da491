"""Measures a step from its start to its end, with a thread that looks now and then."""

from __future__ import annotations

import logging
import os
import threading
import time
from types import TracebackType

from mlops.cost import processes
from mlops.cost.energy import Energy
from mlops.cost.value import Cost, rates

log = logging.getLogger("evergreen")

_FIRST, _USUAL = 0.05, 0.5  # seconds between two looks: short steps are seen too
_DILIGENCE = 300  # a look that takes a millisecond is not taken more often than every 0.3 s


def energy_after() -> float:
    """EVERGREEN_COST_ENERGY_AFTER: seconds from which a step's energy is worth the 0.4 s that asking for it takes."""
    try:
        return float(os.environ.get("EVERGREEN_COST_ENERGY_AFTER") or 45)
    except ValueError:
        return 45.0


class Meter:
    """`with Meter(name) as meter:` … then `meter.cost`, none where it could not be measured.

    Its own faults are a line in the log, never the step's end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cost: Cost | None = None
        self._rates = rates()
        self._energy = Energy(name)
        self._ended = threading.Event()
        self._exact, self._peak, self._below, self._gpu_seconds = False, 0, 0, 0.0
        self._before: processes.Used | None = None
        self._thread = threading.Thread(target=self._watch, name=f"cost of {name}", daemon=True)

    def __enter__(self) -> Meter:
        try:
            self._exact = processes.forget_peak()
            self._before = processes.used()
        except Exception as fault:
            self._unknown(fault)
        self._started = self._looked = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self.cost = self._sum_up(self._before) if self._before else None
        except Exception as fault:
            self._unknown(fault)

    def _unknown(self, fault: Exception) -> None:
        log.warning("the cost of %s is not known: %s: %s", self.name, type(fault).__name__, fault)

    def _watch(self) -> None:
        pause, asked = _FIRST, False
        while not self._ended.wait(pause):
            began = time.perf_counter()
            try:
                self._look()
            except Exception as fault:
                log.debug("a look at the processes failed: %s", fault)
            if not asked and began - self._started >= energy_after():
                asked = True
                # Beside this thread: codecarbon's first look takes seconds, most of them waiting.
                threading.Thread(target=self._energy.start, name="energy", daemon=True).start()
            pause = max(min(pause * 2, _USUAL), _DILIGENCE * (time.perf_counter() - began))

    def _look(self) -> None:
        now = time.perf_counter()
        own, self._below = processes.resident()
        self._peak = max(self._peak, own + self._below)
        self._gpu_seconds += (now - self._looked) * processes.gpus()
        self._looked = now

    def _sum_up(self, before: processes.Used) -> Cost:
        self._look()
        seconds = time.perf_counter() - self._started
        cpu = processes.between(before, processes.used())
        # What this process had between two looks, beside the others as they were at the last one.
        peak = max(self._peak, processes.peak() + self._below if self._exact else 0)
        energy, co2 = self._energy.stop(seconds)
        return Cost(
            seconds=round(seconds, 3),
            cpu_seconds=round(cpu, 3),
            gpu_seconds=round(self._gpu_seconds, 3),
            peak_mb=round(peak / 1e6, 1),
            energy_kwh=energy,
            co2_kg=co2,
            money=self._rates.price(cpu, self._gpu_seconds),
            currency=self._rates.currency,
        )
