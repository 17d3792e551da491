"""Numbers and texts as a report says them: the same everywhere, safe from whatever the data holds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from mlops.data.tags import entities

NOTHING = "–"
# Characters that are no text in HTML or YAML, and single surrogates, which no encoding writes.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
METRICS = {
    "macro_f1": "the F1 score of each label, averaged so that a rare label counts as much as a frequent one",
    "weighted_f1": "the F1 score of each label, averaged by how many rows have it",
    "micro_f1": "one F1 score over the labels of all rows together",
    "accuracy": "the share of rows that are answered right",
    "qwk": "agreement beyond chance, where a near miss costs less than a far one (quadratic weighted kappa)",
    "within_one": "the share of rows answered at most one step beside the true grade",
    "f1": "the balance of how many found ones are right and how many right ones are found",
    "precision": "the share of what the model found that is right",
    "recall": "the share of what there was to find that the model found",
    "mrr": "one over the place of the first right answer, on average",
    "map": "how far up all right answers stand, on average",
    "ndcg": "how far up the right answers stand, with the first places counting most",
}


_TAG = re.compile(r"O|[BI]-\S+")


def known(value: Any) -> TypeGuard[float]:
    """Whether it is a number that can be shown: not none, not NaN, not infinite, no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 4) -> str:
    """0.9712, with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−") if known(value) else NOTHING


def signed(value: Any, digits: int = 4) -> str:
    """+0.0120 or −0.0120."""
    return f"{value:+.{digits}f}".replace("-", "−") if known(value) else NOTHING


def plain(value: Any) -> str:
    """As few digits as it needs: 0.01, 0.0042, 5."""
    return f"{value:.4g}".replace("-", "−") if known(value) else NOTHING


def count(value: Any) -> str:
    """1,234"""
    return f"{round(value):,}" if known(value) else NOTHING


def share(value: Any, digits: int = 0) -> str:
    """0.99 as 99%; a level such as 0.9833 as 98.3%, so that it is not rounded up to certainty."""
    if not known(value):
        return NOTHING
    percent = value * 100
    digits = digits or int(abs(percent - round(percent)) > 0.05)
    return f"{percent:.{digits}f}%".replace("-", "−")


def points(value: Any) -> str:
    """A difference of two shares: 0.021 as "2.1 percentage points"."""
    return f"{number(value * 100, 1)} percentage points" if known(value) else NOTHING


def is_spread(entry: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is a value with both ends of its interval."""
    return isinstance(entry, Mapping) and all(known(entry.get(key)) for key in ("value", "low", "high"))


def spread(entry: Any, sign: bool = False) -> str:
    """0.9712 (0.9470 to 0.9903); the value alone where it has no interval."""
    form = signed if sign else number
    if is_spread(entry):
        return f"{form(entry['value'])} ({form(entry['low'])} to {form(entry['high'])})"
    return form(entry.get("value")) if isinstance(entry, Mapping) else NOTHING


def clean(text: Any) -> str:
    """Without characters that are no text."""
    return _NO_TEXT.sub("\ufffd", str(text))


def clip(text: Any, most: int = 300) -> str:
    """At most so many characters of it, and how many there are."""
    text = clean(text)
    return text if len(text) <= most else f"{text[:most].rstrip()}… ({len(text):,} characters)"


def answer(cell: Any, text: Any) -> str:
    """A label cell for a reader: tags of a text's tokens as the entities that they are, another one as it is written."""
    tags, tokens = str(cell).split(" "), str(text or "").split(" ")
    if len(tags) == 1 or len(tags) != len(tokens) or not all(_TAG.fullmatch(tag) for tag in tags):
        return clip(cell, 120)
    found = [f"{kind} “{' '.join(tokens[start:end])}”" for kind, start, end in entities(tags)]
    return clip(", ".join(found) or "no entity", 300)


def named(name: Any) -> str:
    """The name of a check or a group as words: against_champion is "against champion"; others stay as they are."""
    text = clip(name, 120)
    return text.replace("_", " ") if re.fullmatch(r"[a-z0-9_]+(:[a-z0-9_]+)?", text) else text


def cell(value: Any, unit: str = "") -> str:
    """An observed or allowed value of a check, with its unit."""
    if value is None:
        return NOTHING
    text = plain(value) if isinstance(value, float) else clip(value, 160)
    return f"{text.replace('<=', '≤').replace('>=', '≥')}{unit}".replace("> -", "> −").replace("≥ -", "≥ −")


def meaning(metric: str) -> str:
    """What a metric measures, in half a sentence; empty for an unknown one."""
    base, slash, label = metric.partition("/")
    told = METRICS.get(base.partition("@")[0], "")
    return f"{told}, for {clip(label, 80)} alone" if slash and told else told
