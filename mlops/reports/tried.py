"""What the compression search tried, for the report: a row of each attempt, and the front of quality against latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mlops.reports.words import NOTHING, clip, known, number, plain

Entry = Mapping[str, Any]
_SIDE, _HIGH, _LEFT, _TOP = 420.0, 240.0, 62.0, 16.0  # pixels of the picture's frame


def view(compression: Entry | None, metric: str) -> dict[str, Any]:
    """rows: name, kept (parts that stayed in fp32), metric, drop, flips, cost, outcome; front: the picture, none for fewer
    than two points; reason: what was chosen and why. Without a search the rows are empty."""
    if not compression or not compression.get("attempts"):
        return {"rows": [], "front": None, "reason": ""}
    first = (compression["attempts"][0].get("measured") or {}).get("p50")
    rows = [_row(each, metric, first) for each in compression["attempts"]]
    return {"rows": rows, "front": front(rows, metric), "reason": clip(compression.get("reason") or "", 1000)}


def _row(each: Entry, metric: str, first: float | None) -> dict[str, Any]:
    """first: fp32's median milliseconds. Each was measured beside fp32 in a race of its own: "time" is what it takes of fp32's
    time there, in fp32's milliseconds here, so that all can be compared."""
    cost = each.get("measured") or {}
    recipe = each.get("recipe") or {}
    kept, calibration = recipe.get("keep") or (), recipe.get("calibration") or "minmax"
    own = {name: each.get(name) for name in ("name", "outcome", "reason", "drop", "flips", "ece", "worst_slice")}
    value = ((each.get("metrics") or {}).get(metric) or {}).get("value")
    told = {name: cost.get(name) for name in ("p50", "p95", "throughput", "ratio", "memory_mb", "size_mb")}
    ratio = cost.get("p50_ratio")
    told["time"] = ratio * first if known(ratio) and known(first) else told["p50"]
    told["fused"] = ", ".join(f"{name} {count}" for name, count in (each.get("fused") or {}).items())
    smoothed = ", smoothed" if recipe.get("smooth") else ""
    own["name"] = f"{own['name']}{smoothed}{f', {calibration}' if calibration != 'minmax' else ''}"
    return own | told | {"kept": len(kept), "value": value}


def dominated(row: Entry, rows: Sequence[Entry]) -> bool:
    """Whether another one is as good in quality, time and size, and truly better in one of the three."""

    def place(each: Entry) -> tuple[float, float, float]:
        return float(each["value"]), -float(each["time"]), -float(each["size_mb"] or 0)

    own = place(row)
    return any(
        all(mine <= its for mine, its in zip(own, place(other), strict=True)) and own != place(other) for other in rows
    )


def front(rows: Sequence[Entry], metric: str) -> Markup | None:
    """The metric on validation over the median milliseconds of one row, larger points for larger files; the Pareto front of
    quality, time and size is a line. None where fewer than two were measured."""
    found = [row for row in rows if known(row["value"]) and known(row["time"])]
    if len(found) < 2:
        return None
    best = sorted((row for row in found if not dominated(row, found)), key=lambda row: float(row["time"]))
    xs, ys = _ends([row["time"] for row in found], 0.0), _ends([row["value"] for row in found])
    most = max(float(row["size_mb"] or 0) for row in found) or 1.0

    def place(row: Entry) -> tuple[float, float]:
        across = (float(row["time"]) - xs[0]) / (xs[1] - xs[0])
        up = (float(row["value"]) - ys[0]) / (ys[1] - ys[0])
        return _LEFT + across * _SIDE, _TOP + (1 - up) * _HIGH

    parts = [*_frame(xs, ys, metric)]
    points = " ".join("{:.1f},{:.1f}".format(*place(row)) for row in best)
    parts.append(Markup('<polyline class="bar theirs" fill="none" points="{}"/>').format(points))
    for row in found:
        parts += _point(place(row), row, most, row in best)
    told = "; ".join(f"{row['name']}: {metric} {number(row['value'])} at {number(row['time'], 2)} ms" for row in found)
    start = Markup('<svg class="wide" role="img" aria-label="{}" viewBox="0 0 500 320">')
    return start.format(f"Quality against latency. {told}") + Markup("").join(parts) + Markup("</svg>")


def _ends(values: Sequence[Any], low: float | None = None) -> tuple[float, float]:
    """A little beyond the values; from `low` where that is given."""
    least, most = min(map(float, values)), max(map(float, values))
    room = max((most - least) * 0.15, abs(most) * 0.02, 1e-6)
    return (least - room if low is None else low), most + room


def _point(at: tuple[float, float], row: Entry, most: float, best: bool) -> list[Markup]:
    radius = 4 + 7 * (float(row["size_mb"] or 0) / most) ** 0.5
    shape = "pass" if row["outcome"] == "accepted" else "fail"
    spot = Markup('<circle class="mark {} spot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(shape, *at, radius)
    left = at[0] > _LEFT + _SIDE * 0.75
    name = f"{row['name']} ({row['kept']} in fp32)" if row["kept"] else str(row["name"])
    label = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        "tick" if not best else "inside",
        at[0] - radius - 3 if left else at[0] + radius + 3,
        at[1] + 4,
        "end" if left else "start",
        clip(name, 40),
    )
    return [spot, label]


def _frame(xs: tuple[float, float], ys: tuple[float, float], metric: str) -> list[Markup]:
    form = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    box = Markup('<rect class="frame" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>')
    parts = [box.format(_LEFT, _TOP, _SIDE, _HIGH)]
    for share in (0.0, 0.5, 1.0):
        across, up = xs[0] + share * (xs[1] - xs[0]), ys[0] + share * (ys[1] - ys[0])
        parts.append(form.format("tick", _LEFT + share * _SIDE, _TOP + _HIGH + 18, "middle", plain(round(across, 3))))
        parts.append(form.format("tick", _LEFT - 6, _TOP + (1 - share) * _HIGH + 4, "end", plain(round(up, 4))))
    parts.append(form.format("side", _LEFT + _SIDE / 2, _TOP + _HIGH + 40, "middle", "milliseconds of one row, median"))
    parts.append(form.format("side", _LEFT + 6, _TOP + 14, "start", clip(metric, 60) or NOTHING))
    return parts
