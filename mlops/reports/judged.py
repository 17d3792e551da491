"""What the page shows of a record: chosen, ordered and drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlops.reports import pictures, telling
from mlops.reports.svg import Shape
from mlops.reports.words import NOTHING, clip, count, known, plain, share, signed

Record = Mapping[str, Any]
_KINDS = (
    (
        ("declared", "forgetting"),
        "Named in the pipeline file, and rows of earlier tests",
        "Difference to the champion on the same rows{level}; p-values are adjusted for all of them.",
        "Candidate, with 95% intervals.",
        "difference",
    ),
    (
        ("discovered",),
        "Found by a search for weak parts",
        "Share answered right, against all other rows of the test set (not against the champion), with 95% intervals.",
        "Candidate, with 95% intervals.",
        "to the other rows",
    ),
)


def view(record: Record, margin: float | None) -> dict[str, Any]:
    """What the template needs of a record; of an empty one the same names without content.

    margin: the gate's, where the record does not keep its rules.
    """
    rules = record.get("rules") or {}
    golden = record.get("golden") or {}
    floor = (rules.get("golden") or {}).get("floor") if isinstance(rules.get("golden"), Mapping) else None
    right, rows = golden.get("right") or 0, golden.get("rows") or 0
    return {
        "rules": rules,
        "rule": rule,
        "gap": gap(record, rules.get("margin", margin)),
        "standing": pictures.standing(record),
        "forests": forests(record.get("slices") or (), rules),
        "reliability": pictures.reliability((record.get("calibration") or {}).get("bins") or ()),
        "confusions": telling.some(record.get("confusions"), lambda pair: -(pair.get("rows") or 0), "pairs"),
        "behaviour": telling.behaviour(record.get("behaviour")),
        "golden_floor": floor,
        "golden_good": rows > 0 and right / rows >= (floor if known(floor) else 1.0),
        "digests": digests(record.get("inputs") or {}),
    }


def rule(value: Any) -> str:
    """A value of the rules, short."""
    if isinstance(value, bool | str):
        return clip(value, 200)
    return plain(value) if known(value) else clip(json.dumps(value, ensure_ascii=False, default=str), 400)


def gap(record: Record, margin: float | None) -> dict[str, Any]:
    """The difference to the champion as words and as a picture; no picture where there is no champion."""
    found = record.get("difference") or {}
    outcome = _outcome(record, found, margin)
    picture = pictures.difference(found, margin, outcome)
    if picture is None:
        return {"picture": None}
    value, low, high = found["value"], found["low"], found["high"]
    how = "ahead" if value > 0 else "behind" if value < 0 else "level"
    sure = share((1 + found["level"]) / 2) if known(found.get("level")) else "high"
    ends = {
        "pass": f"With {sure} confidence it is {'better' if low > 0 else f'not worse by more than {plain(margin)}'}: "
        f"the difference is at least {signed(low)}.",
        "fail": f"With {sure} confidence it is worse: the difference is at most {signed(high)}.",
    }
    rest = (
        f"It may be as low as {signed(low)}, which is more than {plain(margin)} behind: the rows are too few to tell."
    )
    words = f"The candidate is {how} by {plain(abs(value))}. " if value else "The two are level. "
    return {"picture": picture, "margin": plain(margin) if margin else "", "words": words + ends.get(outcome, rest)}


def _outcome(record: Record, found: Record, margin: float | None) -> Shape:
    """As the check says, else as the interval does."""
    said = [each.get("outcome") for each in record.get("checks") or () if each.get("name") == "against_champion"]
    if said and said[0] in ("pass", "fail", "inconclusive"):
        return said[0]  # type: ignore[no-any-return]
    low, high = found.get("low"), found.get("high")
    if known(low) and low > -(margin or 0.0):
        return "pass"
    return "fail" if known(high) and high < 0 else "inconclusive"


def forests(slices: Sequence[Record], rules: Record) -> list[dict[str, Any]]:
    """One picture for slices that are compared with the champion, one for those that are compared with the other rows."""
    found = []
    for kinds, title, by_gap, alone, head in _KINDS:
        own = [each for each in slices if each.get("kind") in kinds]
        if not own:
            continue
        shown = telling.slices(own)
        gaps = any(each.get("difference") for each in shown.rows)
        limit = rules.get("max_slice_drop") if "declared" in kinds else None
        level = f", with {share(1 - 2 * rules['alpha'])} intervals" if known(rules.get("alpha")) else ""
        entry = {"shown": shown, "strips": pictures.forest(shown.rows, limit), "title": f"{title} ({count(len(own))})"}
        found.append(
            {**entry, "note": by_gap.format(level=level) if gaps else alone, "head": head if gaps else "candidate"}
        )
    return found


def digests(inputs: Record) -> list[tuple[str, str]]:
    """(name, sha256) of everything that was judged."""
    found: list[tuple[str, str]] = [("snapshot", str(inputs["snapshot"]))] if inputs.get("snapshot") else []
    for who in ("candidate", "champion"):
        entry = inputs.get(who) or {}
        found += [(f"{who}, model", str(entry["model_sha256"]))] if entry.get("model_sha256") else []
        found += [(f"{who}, answers", _sha(entry["per_row"]))] if entry.get("per_row") else []
    named = (inputs.get("baselines") or {}).items()
    return [*found, *((f"{name}, answers", _sha(entry)) for name, entry in named)]


def _sha(entry: Any) -> str:
    """Of an artifact, of an evaluation that points to one, or the digest itself."""
    if isinstance(entry, Mapping):
        return _sha(entry["per_row"]) if "per_row" in entry else str(entry.get("sha256") or NOTHING)
    return str(entry)
