"""The few numbers under a verdict that a manager asks for first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mlops.reports.words import count, known, number, plain, signed


class Fact(NamedTuple):
    """A number with its title above and a note below."""

    title: str
    value: str
    note: str = ""


def facts(summary: Mapping[str, Any], record: Mapping[str, Any], metric: str) -> list[Fact]:
    """Those that the run got far enough to know."""
    found = [*_quality(summary, record, metric), *_look(record), *_file(summary), *_time(summary)]
    return [fact for fact in found if fact.value]


def _quality(summary: Mapping[str, Any], record: Mapping[str, Any], metric: str) -> Iterator[Fact]:
    ours = record.get("candidate") or ((summary.get("candidate") or {}).get("metrics") or {}).get(metric) or {}
    if known(ours.get("value")):
        rows = f" on {count(ours['n'])} test rows" if known(ours.get("n")) else ""
        yield Fact(f"{metric} of the candidate", number(ours["value"]), _ends(ours) + rows)
    gap = record.get("difference") or {}
    if known(gap.get("value")):
        version = record.get("champion_version")
        against = f"champion, version {version}" if version else "the champion"
        yield Fact(f"against {against}", signed(gap["value"]), _ends(gap, signed))


def _ends(entry: Mapping[str, Any], form: Any = number) -> str:
    low, high = entry.get("low"), entry.get("high")
    return f"{form(low)} to {form(high)}" if known(low) and known(high) else ""


def _look(record: Mapping[str, Any]) -> Iterator[Fact]:
    look = record.get("look") or {}
    if known(look.get("number")):
        risk = f"risk of error {plain(look.get('alpha'))} of {plain(look.get('alpha_total'))}"
        yield Fact("look at these test rows", f"No. {look['number']}", "refresh them" if look.get("refresh") else risk)


def _file(summary: Mapping[str, Any]) -> Iterator[Fact]:
    release, candidate = summary.get("release"), summary.get("candidate") or {}
    if release:
        size = candidate.get("size_bytes")
        p95 = (candidate.get("latency_ms") or {}).get("p95")
        notes = [f"{number(size / 1e6, 1)} MB" if size else "", f"p95 {number(p95, 1)} ms" if known(p95) else ""]
        yield Fact(
            "registered as", f"version {release['version']}", ", ".join([release["variant"], *filter(None, notes)])
        )


def _time(summary: Mapping[str, Any]) -> Iterator[Fact]:
    spent = sum((summary.get("seconds") or {}).values())
    every = (summary.get("cost") or {}).get("total") or {}
    money = f"{plain(every['money'])} {every.get('currency') or ''}" if known(every.get("money")) else ""
    if spent:
        yield Fact("all steps took", f"{spent:.0f} s" if spent < 120 else f"{spent / 60:.1f} min", money)
