"""What a retrain cost, as rows of cells for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.reports.words import known

_COLUMNS = {
    "seconds": ("seconds", ".1f"),
    "CPU s": ("cpu_seconds", ".1f"),
    "GPU s": ("gpu_seconds", ".1f"),
    "peak MB": ("peak_mb", ".0f"),
    "kWh": ("energy_kwh", ".2g"),
    "kg CO2": ("co2_kg", ".2g"),
}


def rows(costs: Mapping[str, Mapping[str, Any]] | None, seconds: Mapping[str, float]) -> list[list[str]]:
    """One row per step and one for all, a head above; columns that nothing is known for are left out.

    costs: by step, and their total; none where nothing was measured. seconds: by step, for steps without a cost.
    """
    costs = costs or {}
    every = costs.get("total") or {}
    columns = {**_COLUMNS, every.get("currency") or "money": ("money", ".4f")}
    shown = {title: each for title, each in columns.items() if each[0] == "seconds" or every.get(each[0])}
    steps = dict.fromkeys([*(name for name in costs if name != "total"), *seconds])
    if not steps:
        return []
    told: dict[str, Mapping[str, Any]] = {name: costs.get(name) or {"seconds": seconds.get(name)} for name in steps}
    told["all steps"] = {**every, "seconds": sum(float(each.get("seconds") or 0) for each in told.values())}
    body = [
        [name, *(format(cost[key], form) if known(cost.get(key)) else "–" for key, form in shown.values())]
        for name, cost in told.items()
    ]
    return [["step", *shown], *body]
