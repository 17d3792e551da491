"""The most telling of many: a page shows some and says how many more there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops.reports.words import known

MOST = 30
_RANK = {"fail": 0, "inconclusive": 1, "warn": 2, "pass": 3}
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """rows: what the page shows. left: what it leaves out, in words; empty where it leaves out nothing."""

    rows: tuple[Entry, ...]
    left: str = ""


def some(entries: Sequence[Entry] | None, key: Callable[[Entry], Any] | None = None, what: str = "rows") -> Shown:
    """The first MOST of them by the key (in their own order among equals and without a key)."""
    entries = list(entries or ())
    ordered = sorted(entries, key=key) if key and len(entries) > MOST else entries
    left = ordered[MOST:]
    if not left:
        return Shown(tuple(ordered))
    counts = Counter(str(entry["outcome"]) for entry in left if entry.get("outcome"))
    told = ", ".join(f"{number} {name}" for name, number in sorted(counts.items(), key=lambda one: rank(one[0])))
    return Shown(tuple(ordered[:MOST]), f"{len(left):,} more {what}{f' ({told})' if told else ''}")


def rank(outcome: Any) -> int:
    """Failures first."""
    return _RANK.get(str(outcome), 4)


def checks(entries: Sequence[Entry] | None) -> Shown:
    """Those that decided first, where there are too many for a page."""
    return some(entries, lambda check: rank(check.get("outcome")), "checks")


def slices(entries: Sequence[Entry] | None) -> Shown:
    """Failures first, then by how far behind they are; those that are too small to be judged last."""

    def key(entry: Entry) -> tuple[int, bool, float]:
        told = entry.get("difference") or entry.get("candidate") or {}
        value = told.get("value")
        return rank(entry.get("outcome")), not known(value), value if known(value) else 0.0

    found = sorted(entries or (), key=key)
    return some(found, None, "slices")


def behaviour(entries: Sequence[Entry] | None) -> Shown:
    """Each with its outcome; those that do not pass first."""

    def judged(group: Entry) -> Entry:
        cases, passed, least = group.get("cases") or 0, group.get("passed") or 0, group.get("least")
        good = not cases or not known(least) or passed / cases >= least
        return {**group, "outcome": "pass" if good else group.get("severity") or "fail"}

    return some(sorted(map(judged, entries or ()), key=lambda one: rank(one["outcome"])), None, "groups of cases")


def metrics(candidate: Mapping[str, Any], champion: Mapping[str, Any], deciding: str) -> Shown:
    """The metric that decides, those over all labels, then single labels: the worst first.

    candidate, champion: {name: value with interval}. Gives entries of name, candidate, champion.
    """

    def key(entry: Entry) -> tuple[bool, bool, float]:
        ours, theirs = (entry[who] or {} for who in ("candidate", "champion"))
        value, before = ours.get("value"), theirs.get("value")
        lost = value - before if known(value) and known(before) else 0.0
        of_label = "/" in entry["name"]
        return entry["name"] != deciding, of_label, lost if of_label else 0.0

    names = [*candidate, *(name for name in champion if name not in candidate)]
    entries = [{"name": name, "candidate": candidate.get(name), "champion": champion.get(name)} for name in names]
    return some(sorted(entries, key=key), None, "metrics")
