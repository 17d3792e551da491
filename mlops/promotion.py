"""Moves of the champion: every one is an entry of the ledger first, under a lock, and then an alias of MLflow's.

MLflow's aliases have no compare-and-swap and vanish with a deleted version. So the ledger says what serves; the aliases are
put where it says, again after each crash (`mlops/reconcile.py`).
"""

from __future__ import annotations

import logging
from typing import Any

from mlops import ledger
from mlops.errors import NotFound, RegistryError, UserError
from mlops.locks import Held, lock
from mlops.registry import aliased, at, complete, require_signed, require_verdicts, versions
from mlops.tracking import client
from mlops.types import Release, identity

log = logging.getLogger("evergreen")


def promote(
    name: str,
    which: str,
    reason: str,
    expected_champion: str | bool | None = True,
    who: str | None = None,
    verdicts: tuple[str, ...] = (),
) -> int:
    """Moves the alias champion to a judged version (its number or alias); the ledger's fence.

    expected_champion: the version that the judgement was made against (none: no champion); True takes whatever serves, and
    is a person's word: a version that was held is approved by it. who: that person, by default this process's user. verdicts:
    digests of judgements beside the release's own.
    Raises UserError if another one serves by now, or if the version serves already; Rejected without verdicts.
    """
    with lock(name) as held:
        known = ledger.entries(name)
        release = at(name, which)
        require_verdicts(release)
        require_signed(release)
        current = aliased(client(), name, "champion")
        if expected_champion is not True and current != expected_champion:
            raise UserError(f"{name}: the champion is version {current}, this was judged against {expected_champion}")
        if current == release.version:
            raise UserError(f"{name} version {release.version} is the champion already")
        digests = [*(identity(verdict) for verdict in release.verdicts), *verdicts]
        held()
        newest = len(known)
        if expected_champion is True and release.version in ledger.waiting(known):
            newest = ledger.append(name, "approve", current, release.version, reason, digests, who, newest)
        fence = ledger.append(name, "promote", current, release.version, reason, digests, who, newest)
        point(name, held)
        unset_candidate(name, release.version)
    return fence


def hold(
    name: str, version: str | None, reason: str, verdicts: tuple[str, ...] = (), who: str | None = None
) -> int | None:
    """Writes down that a version does not serve, or that a retrain came to none; told again in the same words, nothing.

    verdicts: digests of the judgements that it rests on.
    """
    with lock(name):
        known = ledger.entries(name)
        stack = ledger.serving(known)
        before = stack[-1] if stack else None
        if any(entry["action"] == "hold" and (entry["to"], entry["reason"]) == (version, reason) for entry in known):
            return None
        return ledger.append(name, "hold", before, version, reason, verdicts, who)


def roll_back(name: str, reason: str, target: str, who: str | None = None) -> None:
    """Lets an earlier version serve again; `mlops/rollback.py` chooses and proves it first.

    Raises UserError if it did not serve before the present one; Rejected without verdicts.
    """
    with lock(name) as held:
        known = ledger.entries(name)
        earlier_of(name, target)
        require_verdicts(at(name, target))
        held()
        before = standing(client(), name)[-1]
        ledger.append(name, "rollback", before, target, reason, who=who, follows=len(known))
        point(name, held)


def earlier_of(name: str, to: str | None) -> str:
    """The version that a rollback goes to: the last that served before the present one, or `to` where that is one of them."""
    stack = standing(client(), name)
    earlier = stack[:-1]
    if to is not None and to not in stack and (gone := ledger.why_gone(ledger.entries(name), to)):
        raise UserError(f"{name} cannot go back to version {to}: {gone}; left are {', '.join(earlier) or 'none'}")
    if not earlier:
        raise UserError(f"{name} has no earlier release to go back to; served so far: {', '.join(stack) or 'none'}")
    target = earlier[-1] if to is None else to
    if target not in earlier:
        raise UserError(f"{name} cannot go back to version {target}; earlier ones are {', '.join(earlier)}")
    return target


def rolled_back(release: Release) -> str | None:
    """Why the very file of a release was taken out of service by a rollback, unless it was promoted again since."""
    withdrawn: dict[str, str] = {}
    for entry in ledger.entries(release.name):
        if entry["action"] == "rollback":
            when = entry["when"]
            withdrawn[entry["from"]] = f"version {entry['from']} was rolled back at {when}: {entry['reason']}"
        elif entry["action"] == "promote":
            withdrawn.pop(entry["to"], None)
    for version, why in withdrawn.items():
        try:
            same = (
                version == release.version or at(release.name, version).model.files.sha256 == release.model.files.sha256
            )
        except (NotFound, RegistryError):  # deleted since: its number is all that is left of it
            same = version == release.version
        if same:
            return why
    return None


def set_candidate(name: str, version: str) -> None:
    """Points the alias candidate to a release that waits for approval, or for live requests."""
    client().set_registered_model_alias(name, "candidate", version)


def unset_candidate(name: str, version: str) -> None:
    """Removes the alias candidate if it is this version's."""
    api = client()
    if aliased(api, name, "candidate") == version:
        api.delete_registered_model_alias(name, "candidate")


def standing(api: Any, name: str) -> list[str]:
    """The stack of what serves and served, without the versions that are gone."""
    known = {str(version.version) for version in versions(api, name) if complete(version)}
    return [version for version in ledger.serving(ledger.entries(name)) if version in known]


def targets(api: Any, name: str) -> dict[str, str | None]:
    """Where the ledger wants the aliases, the champion first."""
    stack = standing(api, name)
    return {"champion": stack[-1] if stack else None, "previous": stack[-2] if len(stack) > 1 else None}


def point(name: str, held: Held) -> None:
    """Puts the aliases where the ledger says, and notes how long the ledger is by now."""
    api = client()
    for alias, version in targets(api, name).items():
        found = aliased(api, name, alias)
        if found == version:
            continue
        held()  # who lost the lock leaves it to who has it: the ledger says the same to both
        if version:
            api.set_registered_model_alias(name, alias, version)
        else:
            api.delete_registered_model_alias(name, alias)
    ledger.witness(api, name)
