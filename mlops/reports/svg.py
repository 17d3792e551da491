"""Parts of inline pictures: places in percent, so that a picture is as wide as its column and its text never shrinks.

Colours and strokes are classes of the page's style sheet, which knows light, dark and paper. Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from mlops.reports.words import clean, plain

Shape = Literal["pass", "warn", "fail", "inconclusive", "ours", "theirs", "simple"]
_EDGE = 4.0  # percent of the width left free at either side
ROW = 30  # pixels: the height of one strip
_FAR = 600.0  # pixels: beyond every cell, which cuts off what sticks out


@dataclass(frozen=True)
class Scale:
    """From values to percent of the width. low < high."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float], least: float = 0.01) -> Scale:
        """Over all values, at least so wide."""
        found = list(values) or [0.0]
        low, high = min(found), max(found)
        short = max(0.0, least - (high - low)) / 2
        return cls(low - short, high + short)

    def at(self, value: float) -> float:
        """Percent, never outside the picture."""
        part = (value - self.low) / (self.high - self.low)
        return round(_EDGE + min(max(part, 0.0), 1.0) * (100 - 2 * _EDGE), 2)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside, at most so many."""
        width = self.high - self.low
        power = 10.0 ** math.floor(math.log10(width / most))
        step = next(power * each for each in (1, 2, 5, 10, 20) if width / (power * each) <= most - 1)
        first = math.ceil(self.low / step - 1e-9)
        return [round(place * step, 10) + 0.0 for place in range(first, math.floor(self.high / step + 1e-9) + 1)]


def picture(height: int, told: str, parts: Iterable[Markup], kind: str = "strip") -> Markup:
    """An image with its words for those who do not see it."""
    frame = Markup(
        '<svg class="{}" role="img" aria-label="{}" width="100%" height="{}" xmlns="http://www.w3.org/2000/svg">'
    ).format(kind, clean(told), height)
    return frame + Markup("").join(parts) + Markup("</svg>")


def upright(at: float, name: str, top: float = 0, bottom: float | None = None) -> Markup:
    """A vertical line; without a bottom through the whole cell that the strip stands in, so that it goes on in the next."""
    top, bottom = (top, bottom) if bottom is not None else (-_FAR, _FAR)
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="{:g}" y2="{:g}"/>').format(name, at, at, top, bottom)


def area(start: float, end: float, name: str, top: float = 0, height: str = "100%") -> Markup:
    """A shaded part between two places in percent."""
    return Markup('<rect class="{}" x="{}%" width="{}%" y="{:g}" height="{}"/>').format(
        name, start, round(max(end - start, 0), 2), top, height
    )


def text(at: float, y: float, words: str, anchor: str = "middle", name: str = "") -> Markup:
    """Words at a place."""
    return Markup('<text class="{}" x="{}%" y="{:g}" text-anchor="{}">{}</text>').format(
        name, at, y, anchor, clean(words)
    )


def whisker(low: float, high: float, y: float, name: str) -> Markup:
    """An interval from one place in percent to another, with ends."""
    bar = Markup('<line class="bar {}" x1="{}%" x2="{}%" y1="{:g}" y2="{:g}"/>').format(name, low, high, y, y)
    return bar + upright(low, f"bar {name}", y - 5, y + 5) + upright(high, f"bar {name}", y - 5, y + 5)


def mark(at: float, y: float, shape: Shape) -> Markup:
    """A point: by shape too, for those who see no colour. Diamond: fails. Hollow square: warns, open. Circle: passes."""
    if shape in ("pass", "ours"):
        return Markup('<circle class="mark {}" cx="{}%" cy="{:g}" r="5.5"/>').format(shape, at, y)
    turned = " turned" if shape == "fail" else ""
    return Markup('<rect class="mark {}{}" x="{}%" y="{:g}" width="10" height="10"/>').format(shape, turned, at, y - 5)


def axis(scale: Scale, told: str) -> Markup:
    """The scale above or below strips."""
    places = scale.ticks()
    labels = (text(scale.at(value), 14, plain(value), name="tick") for value in places)
    stems = (upright(scale.at(value), "tickline", 19, 24) for value in places)
    return picture(24, told, [*labels, *stems], "strip axis")
