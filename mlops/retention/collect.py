"""The whole of a collection, top down: versions, uploads, runs, documents, artifacts, what is left on this machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from mlops import registry
from mlops.retention import files, runs, versions
from mlops.retention.marks import Needed, mark
from mlops.retention.rule import DAY, Removal, Rule
from mlops.store import open_store

log = logging.getLogger("evergreen")

_JUDGEMENT = "evergreen.judgement."


def collect(rule: Rule, dry_run: bool = False) -> dict[str, Any]:
    """Removes what the rule lets go; what went, or would, and what stays and why, JSON-safe.

    Stopped anywhere it has lost nothing that stays, and done again it finishes. Raises RegistryError, before anything
    is removed, where ledger and registry do not agree on what serves.
    """
    models = sorted({*registry.names(), *_in_the_store()})
    for name in models:
        versions.require_sound(name)
    done: list[Removal] = []
    stays: dict[str, dict[str, str]] = {}
    registered = [name for name in models if name in registry.names()]
    for removal in _removals(rule, registered, stays, dry_run):
        if not dry_run:
            removal.remove()
            log.info("removed %s %s (%s): %s", removal.kind, removal.name, told_bytes(removal.size), removal.why)
        done.append(removal)
    return {
        "rule": {"keep": rule.keep, "days": rule.days},
        "dry_run": dry_run,
        "removed": [each.told() for each in done],
        "freed": _by_kind(done),
        "bytes": sum(each.size for each in done),
        "stays": stays,
    }


def _in_the_store() -> set[str]:
    """The models that have a ledger."""
    return {name.split("/")[1] for name in open_store().list_documents("ledger")}


def _removals(rule: Rule, models: list[str], stays: dict[str, dict[str, str]], dry_run: bool) -> Iterator[Removal]:
    """Each after what it rests on; whoever takes one has removed it, or in a dry run counts as if, before the next is
    looked for. stays: takes the versions of each model that do."""
    gone: set[tuple[str, str]] = set()
    for name in models:
        stays[name] = versions.kept(name, rule)
        for removal in versions.outdated(name, rule):
            gone.add((name, removal.name.rpartition(" ")[2]))
            yield removal
    for name in models:
        yield from versions.strays(name, DAY - rule.ahead)
    # What is there by now, not what was chosen: somebody may have promoted one of those that were to go.
    there = versions.present(models)
    left = [each for each in there if not dry_run or (each.name, each.version) not in gone]
    found = runs.retrains(rule, {each.run_id for each in left})
    yield from runs.outdated(found, {each.model_id for each in there}, rule)
    store, unused = open_store(), rule.unused_seconds(found.since)
    stats = store.blobs.stats("")
    needed = Needed(
        {(each.name, each.version) for each in left},
        {(name, version) for name in models for version in versions.in_ledger(name)},
        tuple(_judgements(found)),
    )
    marked = mark(store, stats, needed, unused)
    yield from files.documents(store, stats, marked)
    yield from files.artifacts_of(store, stats, marked, unused)
    yield from files.half_done(stats, rule)
    yield from files.copies(store, marked, rule, found.since is not None)
    yield from files.reports(store, rule, found.ids, found.since is not None)


def _judgements(found: runs.Retrains) -> Iterator[dict[str, Any]]:
    """References to what `mlops explain` shows of the runs that stay."""
    for run in found.stay:
        for tag, value in run.data.tags.items():
            if tag.startswith(_JUDGEMENT):
                yield json.loads(value)


def _by_kind(done: list[Removal]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for each in done:
        kind = found.setdefault(each.kind, {"count": 0, "bytes": 0})
        kind["count"] += 1
        kind["bytes"] += each.size
    return found


def told_bytes(size: int) -> str:
    """12 B, 3.4 kB, 5.6 MB, 7.8 GB"""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def render(found: dict[str, Any], grid: Callable[..., str]) -> str:
    """For a terminal: bytes by kind, the versions that went, those that stay."""
    rule, would = found["rule"], "would be freed" if found["dry_run"] else "freed"
    head = f"keep {rule['keep']}, {rule['days']:g} days: {told_bytes(found['bytes'])} {would}"
    lines = [head]
    if found["freed"]:
        kinds = [[kind, f"{each['count']:,}", told_bytes(each["bytes"])] for kind, each in found["freed"].items()]
        lines.append(grid([["what", "count", "bytes"], *kinds]))
    went = [each["name"] for each in found["removed"] if each["kind"] == "version"]
    lines += [f"versions that {'would go' if found['dry_run'] else 'went'}: {', '.join(went)}"] if went else []
    for name, stays in found["stays"].items():
        lines.append(f"{name}: {', '.join(f'{version} ({why})' for version, why in stays.items()) or 'no versions'}")
    return "\n".join(lines)
