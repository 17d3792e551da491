"""The append-only, hash-chained record of who moved a champion, when, from what to what and why."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from mlops.errors import RegistryError
from mlops.store import open_store


def entries(name: str) -> list[dict[str, Any]]:
    """All entries of a model, oldest first; RegistryError where the chain is broken."""
    store = open_store()
    found: list[dict[str, Any]] = []
    previous = ""
    for document in store.list_documents(f"ledger/{name}"):
        entry: dict[str, Any] = store.read_document(document)
        if entry["previous_sha256"] != previous:
            raise RegistryError(
                f"the ledger of {name} is broken at entry {entry['seq']}: it follows {entry['previous_sha256']!r}"
            )
        previous = _digest(entry)
        found.append(entry)
    return found


def append(
    name: str, action: str, before: str | None, after: str | None, reason: str, verdicts: Sequence[str] = ()
) -> int:
    """Adds an entry; its number is the fence. RegistryError if another writer took the number first."""
    known = entries(name)
    number = len(known) + 1
    entry = {
        "seq": number,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "who": _who(),
        "action": action,
        "from": before,
        "to": after,
        "reason": reason,
        "verdicts": list(verdicts),
        "previous_sha256": _digest(known[-1]) if known else "",
    }
    if not open_store().create_document(f"ledger/{name}/{number:06}", entry):
        raise RegistryError(f"entry {number} of the ledger of {name} was written by another run; run again")
    return number


def serving(known: Sequence[dict[str, Any]]) -> list[str]:
    """The versions that serve and served, as a stack: the last one serves, the one before is what a rollback goes to."""
    stack: list[str] = []
    for entry in known:
        if entry["action"] == "promote":
            stack = [version for version in stack if version != entry["to"]] + [entry["to"]]
        elif entry["action"] in ("rollback", "repair"):
            while stack and stack[-1] != entry["to"]:
                stack.pop()
    return stack


def served_at(known: Sequence[dict[str, Any]], when: datetime.datetime) -> str | None:
    """The version that served at a time (with its zone); none where none did yet."""
    past = [entry for entry in known if datetime.datetime.fromisoformat(entry["when"]) <= when]
    stack = serving(past)
    return stack[-1] if stack else None


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return "unknown"


def _digest(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
