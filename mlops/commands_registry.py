"""What the commands about registered versions do: releases, promote, rollback, reconcile, gc. (result for stdout,
exit code)"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from mlops.commands import Answer, cell, name_of
from mlops.errors import NotFound, UserError


def releases(options: argparse.Namespace) -> Answer:
    """Registered versions and the ledger."""
    from mlops import ledger, registry
    from mlops.reports.table import grid

    found = registry.releases(name_of(options.model))
    entries = ledger.entries(options.model)
    if not found and not entries:
        raise NotFound(
            f"no model {options.model!r} is registered; there are: {', '.join(registry.names()) or 'none yet'}"
        )
    if options.at:
        return _served_at(options, entries)
    if options.json:
        return {"name": options.model, "releases": found, "ledger": entries}, 0
    columns = [key for key in (found[0] if found else {}) if key not in ("run_id", "key", "parent")]
    table = [columns] + [[cell(row[key]) for key in columns] for row in found]
    history = [["when", "action", "from", "to", "who", "reason"]]
    history += [[cell(entry.get(key)) for key in history[0]] for entry in entries]
    return f"{options.model}\n{grid(table) if found else '  no versions'}\nledger\n{grid(history)}", 0


def _served_at(options: argparse.Namespace, entries: list[dict[str, Any]]) -> Answer:
    """Which version served at a time; one without a zone is UTC."""
    import datetime

    from mlops import ledger

    try:
        when = datetime.datetime.fromisoformat(options.at)
    except ValueError:
        raise UserError(
            f'--at is {options.at!r}; allowed is a time such as "2026-03-01 12:00" or with +02:00'
        ) from None
    when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
    version = ledger.served_at(entries, when)
    if options.json:
        return {"name": options.model, "at": when.isoformat(), "version": version}, 0
    told = f"version {version} served" if version else "no version served"
    return f"{options.model}: {told} at {when.isoformat(sep=' ', timespec='minutes')}", 0


def promote(options: argparse.Namespace) -> Answer:
    """Moves the champion alias by hand; only to a judged version."""
    from mlops import promotion

    fence = promotion.promote(name_of(options.model), options.version, options.reason)
    return f"{options.model} version {options.version} is the champion (ledger entry {fence})", 0


def rollback(options: argparse.Namespace) -> Answer:
    """Back to a release that served before, once it has answered as it did then."""
    from mlops.rollback import rollback

    version = rollback(name_of(options.model), options.reason, options.to)
    return f"{options.model} is back at version {version}", 0


def reconcile(options: argparse.Namespace) -> Answer:
    """Finds and mends what crashes and hands left; with --dry-run exit 1 where there is something to mend."""
    from mlops import registry
    from mlops.reconcile import reconcile as mend
    from mlops.reports.table import grid

    if not 0 <= options.older_than < float("inf"):
        raise UserError(f"--older-than: found {options.older_than:g}; allowed are 0 hours and more")
    models = [name_of(options.model)] if options.model else registry.names()
    if options.model and options.model not in registry.names():
        raise NotFound(
            f"no model {options.model!r} is registered; there are: {', '.join(registry.names()) or 'none yet'}"
        )
    found = []
    for number, name in enumerate(models):
        # The store is one for all models: once is enough.
        found += mend(name, options.dry_run, options.older_than * 3600, files=number == 0)
    code = 1 if options.dry_run and found else 0
    if options.json:
        return [dataclasses.asdict(each) for each in found], code
    if not found:
        return f"in order: {', '.join(models) or 'no models yet'}", 0
    head = ["model", "what", "found", "would be" if options.dry_run else "done"]
    return grid([head, *([each.model, each.kind, each.found, each.repair] for each in found)], indent=""), code


def gc(options: argparse.Namespace) -> Answer:
    """Removes what the retention rule lets go, and tells the bytes by kind; with --dry-run what it would."""
    from mlops.reports.table import grid
    from mlops.retention.collect import collect, render
    from mlops.retention.rule import Rule

    found = collect(Rule(options.keep, options.days), options.dry_run)
    return found if options.json else render(found, grid), 0
