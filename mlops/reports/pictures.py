"""The pictures of a judgement: the difference, the models side by side, slices, and the reliability diagram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mlops.reports.svg import ROW, Scale, Shape, area, axis, mark, picture, text, upright, whisker
from mlops.reports.telling import Entry
from mlops.reports.words import NOTHING, is_spread, known, number, plain, signed, spread

_MIDDLE = ROW / 2


@dataclass(frozen=True)
class Strips:
    """Rows of one scale. axis: above them. rows: (what the row is about, its picture). zero: what the zero line means."""

    axis: Markup
    rows: tuple[tuple[Entry, Markup], ...]


def difference(gap: Entry, margin: float | None, outcome: Shape) -> Markup | None:
    """Candidate minus champion: the shaded part is good enough, the bar is the interval; none without numbers."""
    if not is_spread(gap):
        return None
    value, low, high = (float(gap[key]) for key in ("value", "low", "high"))
    edge = -margin if known(margin) else 0.0
    scale = _roomy(Scale.over([low, high, edge, 0.0, abs(edge)]))
    told = (
        f"Candidate minus champion: {spread(gap, sign=True)}. Zero is no difference; from {signed(edge, 3)} on, "
        "which is shaded, the candidate is good enough."
    )
    y, bottom = 58, 92
    parts = [
        area(scale.at(edge), 100, "good-enough", 24, str(bottom - 24)),
        upright(scale.at(edge), "edge", 24, bottom),
        upright(scale.at(0), "zero", 24, bottom),
        text(0.5, 15, "← worse", "start", "side"),
        text(99.5, 15, "better →", "end", "side"),
        text(99.5, 39, f"as good within {plain(margin)}, or better" if margin else "better", "end", "inside wide"),
        whisker(scale.at(low), scale.at(high), y, outcome),
        mark(scale.at(value), y, outcome),
        *(text(scale.at(tick), bottom + 17, plain(tick), name="tick") for tick in scale.ticks(7)),
        *(upright(scale.at(tick), "tickline", bottom, bottom + 4) for tick in scale.ticks(7)),
    ]
    return picture(bottom + 24, told, parts, "strip wide-strip")


def standing(record: Mapping[str, Any]) -> Strips | None:
    """Candidate, champion and simple models on one scale of the metric; none where there is no number."""
    ceiling = (record.get("noise_ceiling") or {}).get("value")
    entries = list(_models(record))
    if not entries:
        return None
    ends = [float(v) for each in entries for v in (each.get("low"), each["value"], each.get("high")) if known(v)]
    scale = _roomy(Scale.over([*ends, *([ceiling] if known(ceiling) else [])], 0.02))
    rows = []
    for each in entries:
        parts = [upright(scale.at(ceiling), "ceiling")] if known(ceiling) else []
        if is_spread(each):
            parts.append(whisker(scale.at(each["low"]), scale.at(each["high"]), _MIDDLE, each["shape"]))
        parts.append(mark(scale.at(each["value"]), _MIDDLE, each["shape"]))
        rows.append((each, picture(ROW, f"{each['name']}: {spread(each)}", parts)))
    return Strips(axis(scale, f"Scale from {number(scale.low, 2)} to {number(scale.high, 2)}"), tuple(rows))


def _models(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """name, value, low and high where they are known, shape, and more in words."""
    version = record.get("champion_version")
    champion = f"champion, version {version}" if version else "champion"
    kinds: tuple[tuple[str, str, Shape], ...] = (("candidate", "candidate", "ours"), ("champion", champion, "theirs"))
    for key, name, shape in kinds:
        found = record.get(key) or {}
        if known(found.get("value")):
            yield {**found, "name": name, "shape": shape, "more": ""}
    for each in record.get("baselines") or ():
        if known(each.get("value")):
            gain = {"value": each.get("gain"), "low": each.get("low"), "high": each.get("high")}
            more = f"candidate gains {spread(gain, sign=True)}" if known(each.get("gain")) else ""
            told = {"name": each["name"], "sub": "simple model", "value": each["value"], "shape": "simple"}
            yield {**told, "more": more}


def forest(slices: Sequence[Entry], limit: float | None = None) -> Strips:
    """One row per slice: the difference where any slice has one, else the candidate's metric.

    limit: the largest drop that is allowed, as a line.
    """
    by_gap = any(is_spread(each.get("difference")) for each in slices)
    key = "difference" if by_gap else "candidate"
    ends = [float(each[key][end]) for each in slices if is_spread(each.get(key)) for end in ("value", "low", "high")]
    edge = -limit if by_gap and known(limit) else None
    zero = [0.0] if by_gap else []
    scale = _roomy(Scale.over([*ends, *zero, *([edge] if edge is not None else [])], 0.02))
    lines = [upright(scale.at(0), "zero")] if by_gap else []
    lines += [upright(scale.at(edge), "edge")] if edge is not None else []
    rows = tuple((each, _slice(each, key, scale, lines)) for each in slices)
    return Strips(axis(scale, f"Scale from {number(scale.low, 2)} to {number(scale.high, 2)}"), rows)


def _slice(each: Entry, key: str, scale: Scale, lines: Sequence[Markup]) -> Markup:
    found = each.get(key)
    if not is_spread(found):
        return picture(ROW, "not judged", lines)
    outcome: Shape = each["outcome"] if each.get("outcome") in ("pass", "warn", "fail") else "warn"
    bar = whisker(scale.at(found["low"]), scale.at(found["high"]), _MIDDLE, outcome)
    told = f"{outcome}: {spread(found, sign=key == 'difference')}"
    return picture(ROW, told, [*lines, bar, mark(scale.at(found["value"]), _MIDDLE, outcome)])


def _roomy(scale: Scale) -> Scale:
    """A little wider, so that no mark sticks to the edge."""
    room = (scale.high - scale.low) * 0.04
    return Scale(scale.low - room, scale.high + room)


_SIDE, _LEFT, _TOP = 270.0, 46.0, 10.0  # pixels: the square of the diagram and where it starts


def reliability(bins: Sequence[Entry]) -> Markup | None:
    """Accuracy by confidence, a larger point for more rows; none without bins."""
    found = [each for each in bins if known(each.get("confidence")) and known(each.get("accuracy"))]
    if not found:
        return None
    most = max(float(each.get("rows") or 0) for each in found) or 1.0
    told = "; ".join(
        f"sure of {number(each['confidence'], 2)}, right in {number(each['accuracy'], 2)} of {each.get('rows', 0):.0f}"
        for each in found
    )
    frame = Markup('<rect class="frame" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>').format(
        _LEFT, _TOP, _SIDE, _SIDE
    )
    parts = [frame, *_grid(), _line(0, 0, 1, 1, "diagonal")]
    for each in found:
        sure, right = float(each["confidence"]), float(each["accuracy"])
        radius = 3 + 6 * (float(each.get("rows") or 0) / most) ** 0.5
        parts.append(_line(sure, sure, sure, right, "bar ours"))
        spot = Markup('<circle class="mark ours spot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
        parts.append(spot.format(*_place(sure, right), radius))
    start = Markup('<svg class="square" role="img" aria-label="{}" viewBox="0 0 330 330">')
    label = f"Reliability diagram. {told}" if told else NOTHING
    return start.format(label) + Markup("").join(parts) + Markup("</svg>")


def _place(x: float, y: float) -> tuple[float, float]:
    return _LEFT + min(max(x, 0.0), 1.0) * _SIDE, _TOP + (1 - min(max(y, 0.0), 1.0)) * _SIDE


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    (left, top), (right, bottom) = _place(x1, y1), _place(x2, y2)
    form = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return form.format(name, left, top, right, bottom)


def _grid() -> Iterator[Markup]:
    """Ticks and the words beside them."""
    form = Markup('<text class="{}" x="{:g}" y="{:g}" text-anchor="{}">{}</text>')
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, y) = _place(value, value)
        yield form.format("tick", x, _TOP + _SIDE + 18, "middle", plain(value))
        yield form.format("tick", _LEFT - 7, y + 4, "end", plain(value))
    yield form.format("side", _LEFT + _SIDE / 2, _TOP + _SIDE + 40, "middle", "how sure the model is")
    yield form.format("inside", _LEFT + 8, _TOP + 18, "start", "right more often than it says")
    yield form.format("inside", _LEFT + _SIDE - 8, _TOP + _SIDE - 10, "end", "surer than it is right")
