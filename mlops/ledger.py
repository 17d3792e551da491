"""The append-only, hash-chained record of who moved a champion, when, from what to what and why."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from mlops.errors import RegistryError
from mlops.store import open_store

# promote: a version serves. rollback: an earlier one serves again. repair: what serves was gone or not judged. hold: a version
# waits or was turned down. approve: a person let one serve that waited; the promotion follows it. retire: retention removed
# the version `from`, which did not serve.
Action = Literal["promote", "rollback", "repair", "hold", "approve", "retire"]
_WITNESS = "evergreen.ledger"  # the tag of a registered model that knows its ledger's newest entry


def entries(name: str) -> list[dict[str, Any]]:
    """All entries of a model, oldest first; RegistryError where the chain is broken."""
    store = open_store()
    found: list[dict[str, Any]] = []
    previous = ""
    for entry in store.read_documents(store.list_documents(f"ledger/{name}")):
        if entry["previous_sha256"] != previous:
            raise RegistryError(
                f"the ledger of {name} is broken at entry {entry['seq']}: it follows {entry['previous_sha256']!r}"
            )
        previous = digest(entry)
        found.append(entry)
    return found


def append(
    name: str,
    action: Action,
    before: str | None,
    after: str | None,
    reason: str,
    verdicts: Sequence[str] = (),
    who: str | None = None,
    follows: int | None = None,
) -> int:
    """Adds an entry; its number is the fence. RegistryError if another writer took the number first.

    verdicts: digests of the judgements that it rests on. who: a person's name, where it is not this process's user.
    follows: the number of the newest entry that the decision knows, 0 for none; by default whatever is there now.
    """
    store = open_store()
    names = store.list_documents(f"ledger/{name}")
    last = store.read_document(names[-1]) if names else None
    number = (last["seq"] if last else 0) + 1
    if follows is not None and number != follows + 1:
        raise RegistryError(f"the ledger of {name} had {follows} entries a moment ago, now {number - 1}: run again")
    entry = {
        "seq": number,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "who": who or _who(),
        "action": action,
        "from": before,
        "to": after,
        "reason": reason,
        "verdicts": list(verdicts),
        "previous_sha256": digest(last) if last else "",
    }
    if not store.create_document(f"ledger/{name}/{number:06}", entry):
        raise RegistryError(f"entry {number} of the ledger of {name} was written by another run; run again")
    return number


def witness(api: Any, name: str) -> None:
    """Notes the ledger's newest entry in the registry, which is another place: what is cut off its end is missed there."""
    known = entries(name)
    if known and api.get_registered_model(name).tags.get(_WITNESS) != _mark(known[-1]):
        api.set_registered_model_tag(name, _WITNESS, _mark(known[-1]))


def require_whole(api: Any, name: str, known: Sequence[dict[str, Any]]) -> None:
    """Raises RegistryError where the registry knows an entry that the ledger has not, or has otherwise."""
    from mlflow.exceptions import MlflowException

    try:
        mark = api.get_registered_model(name).tags.get(_WITNESS, "")
    except MlflowException:  # no such model yet, or no more: the ledger is all there is
        return
    number = int(mark.partition(":")[0] or 0)
    if number and (number > len(known) or _mark(known[number - 1]) != mark):
        found = _mark(known[number - 1]) if number <= len(known) else f"{len(known)} entries"
        raise RegistryError(
            f"the ledger of {name} is not the one that the registry knows: found {found}, the registry has entry {mark} "
            f"(the model's tag {_WITNESS}); bring the store's documents/ledger/{name} back, or remove the tag to accept it"
        )


def _mark(entry: dict[str, Any]) -> str:
    return f"{entry['seq']}:{digest(entry)}"


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


def waiting(known: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last hold of every version that was held and has not served since."""
    held: dict[str, dict[str, Any]] = {}
    for entry in known:
        if entry["action"] == "hold":
            held[entry["to"]] = entry
        elif entry["action"] in ("promote", "retire"):
            held.pop(entry["to" if entry["action"] == "promote" else "from"], None)
    return held


def retired(known: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The entry of every version that retention removed, or was about to remove when it was stopped."""
    return {entry["from"]: entry for entry in known if entry["action"] == "retire"}


def why_gone(known: Sequence[dict[str, Any]], version: str) -> str:
    """In words, when and by which rule retention removed a version; nothing where it did not."""
    entry = retired(known).get(version)
    return f"version {version} was removed by retention at {entry['when']}: {entry['reason']}" if entry else ""


def served_at(known: Sequence[dict[str, Any]], when: datetime.datetime) -> str | None:
    """The version that served at a time (with its zone); none where none did yet."""
    # By number, not by time: a clock may have been set back between two entries, and the later one still came later.
    times = [datetime.datetime.fromisoformat(entry["when"]) for entry in known]
    past = max((number for number, time in enumerate(times, 1) if time <= when), default=0)
    stack = serving(known[:past])
    return stack[-1] if stack else None


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return "unknown"


def digest(entry: dict[str, Any]) -> str:
    """sha256 of an entry, in hex; the next one carries it."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
