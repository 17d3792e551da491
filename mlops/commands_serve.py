"""What the commands about the prediction server do: serve and its keys. (result for stdout, exit code)"""

from __future__ import annotations

import argparse
import logging
import math
from typing import Literal

from mlops.commands import Answer, cell, model_at
from mlops.errors import UserError

log = logging.getLogger("evergreen")


def _trial(options: argparse.Namespace) -> tuple[Literal["canary", "shadow"] | None, float | None]:
    """How a candidate is tried, and its share of the requests where one is named, as 10% or .1."""
    mode: Literal["canary", "shadow"] | None = "canary" if options.canary is not None else None
    mode = "shadow" if options.shadow is not None else mode
    written = options.shadow if options.canary is None else options.canary
    if mode is None or not written:
        return mode, None
    if options.alias != "champion":
        raise UserError(f"--{mode}: found --alias {options.alias}; a candidate is tried beside the champion only")
    try:
        share = float(written.removesuffix("%")) / (100 if written.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UserError(f"--{mode}: found {written!r}; allowed is a share of the requests such as 10% or .1")
    return mode, share


def serve(options: argparse.Namespace) -> Answer:
    """Serves until it is stopped."""
    name, alias = model_at(f"{options.model}@{options.alias}")
    if not 1 <= options.port <= 65535:
        raise UserError(f"--port: found {options.port}; allowed: 1 to 65535")
    from mlops.serving.options import Limits
    from mlops.serving.server import Options
    from mlops.serving.server import serve as run_server

    limits = Limits(waiting=options.max_waiting, deadline_seconds=options.deadline, body_bytes=options.max_body)
    ranges = (
        ("--max-waiting", limits.waiting),
        ("--deadline", limits.deadline_seconds),
        ("--max-body", limits.body_bytes),
    )
    for flag, value in ranges:
        if not 0 < value < float("inf"):
            raise UserError(f"{flag}: found {value}; allowed is more than 0")
    if not 0 <= options.drain <= 600:
        raise UserError(f"--drain: found {options.drain:g}; allowed are 0 to 600 seconds")
    mode, share = _trial(options)
    run_server(
        name,
        alias,
        Options(
            options.host,
            options.port,
            options.auth,
            options.log,
            options.drain,
            predictions=options.predictions,
            rollout=mode,
            share=share,
            limits=limits,
        ),
    )
    return None, 0


def keys_add(options: argparse.Namespace) -> Answer:
    """Makes a key for the server; it is shown this once."""
    from mlops.serving import keys

    text, made = keys.add(keys.keys_file(), options.name, options.scope or ["predict", "feedback"], options.days)
    log.info(
        "key %s of %s (%s) in %s; this is the only time it is shown",
        made.id,
        made.name,
        ", ".join(made.scopes),
        keys.keys_file(),
    )
    return text, 0


def keys_list(options: argparse.Namespace) -> Answer:
    """The keys' owners, scopes and ends; the keys themselves are kept nowhere."""
    from mlops.reports.table import grid
    from mlops.serving import keys

    found = keys.read(keys.keys_file())
    if options.json:
        return [
            {name: getattr(key, name) for name in ("id", "name", "scopes", "created", "expires", "over")}
            for key in found
        ], 0
    rows = [
        [key.id, key.name, ", ".join(key.scopes), key.created, cell(key.expires) + (" (over)" if key.over else "")]
        for key in found
    ]
    return grid([["id", "name", "scopes", "created", "expires"], *rows], indent=""), 0


def keys_remove(options: argparse.Namespace) -> Answer:
    """Takes a key out; running servers refuse it within a second."""
    from mlops.serving import keys

    gone = keys.remove(keys.keys_file(), options.id)
    return f"key {gone.id} of {gone.name} is gone", 0
