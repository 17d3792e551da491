"""Energy by codecarbon: offline, quiet, without files; where it cannot tell, there is no energy and a line in the log.

Looking at the hardware takes it 0.4 s of processor time once per process, so only steps that last are measured. What it
knows afterwards is kept for the next step of the same process, which costs it some milliseconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("evergreen")

_INTERVAL = 30.0  # seconds between codecarbon's own looks
_kept: list[Any] = []  # this process's tracker
_one = threading.Lock()


@dataclass
class Energy:
    """The energy of one step. since: when it began to be measured; none where it was not. ended: nobody asks any more."""

    task: str
    since: float | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begins to measure; takes seconds in a process's first step, so it is called beside the step."""
        try:
            with _one:
                if not _kept:
                    _kept.append(_tracker())
                if self.ended.is_set():
                    return
                _kept[0].start_task(self.task)
                self.since = time.perf_counter()
                if self.ended.is_set():  # meanwhile
                    _kept[0].stop_task(self.task)
        except Exception as error:
            log.warning("the energy of %s is not known: %s: %s", self.task, type(error).__name__, error)

    def stop(self, seconds: float) -> tuple[float | None, float | None]:
        """(kWh, kg CO2) of a step that took so many seconds: what was not measured at its start is taken as the rest."""
        self.ended.set()
        if not _one.acquire(blocking=False):  # it has not begun yet, and a step does not wait for it
            return None, None
        try:
            if self.since is None:
                return None, None
            measured = max(time.perf_counter() - self.since, 1e-9)
            found = _kept[0].stop_task(self.task)
            share = max(seconds, measured) / measured
            co2 = float(found.emissions) * share if country() else None
            return float(found.energy_consumed) * share, co2
        except Exception as error:
            log.warning("the energy of %s is not known: %s: %s", self.task, type(error).__name__, error)
            return None, None
        finally:
            _one.release()


def country() -> str | None:
    """EVERGREEN_COUNTRY, three letters such as DEU: whose electricity the CO2 is worked out for."""
    return os.environ.get("EVERGREEN_COUNTRY") or None


def _tracker() -> Any:
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.input import DataSource

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it says what it does before it reads its own settings

    asked = country()
    source: Any = DataSource
    if asked is not None and asked not in source().get_global_energy_mix_data():
        raise ValueError(f"EVERGREEN_COUNTRY: found {asked!r}; allowed: three capital letters such as DEU, FRA, USA")
    return OfflineEmissionsTracker(
        country_iso_code=asked or "USA",  # the energy does not depend on it
        measure_power_secs=_INTERVAL,
        tracking_mode="process",
        output_methods=[],
        emissions_endpoint=None,
        electricitymaps_api_token=None,
        allow_multiple_runs=True,
        log_level="critical",
    )
