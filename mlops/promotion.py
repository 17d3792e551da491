"""Moves of the champion: every one is an entry of the ledger first, under a lock, and then an alias of MLflow's.

MLflow's aliases have no compare-and-swap and vanish with a deleted version. So the ledger says what serves; the aliases are
put where it says, again after each crash.
"""

from __future__ import annotations

import logging
from typing import Any

from mlops import ledger
from mlops.errors import NotFound, RegistryError, UserError
from mlops.registry import aliased, at, complete, lock, remove_half, require_verdicts, versions
from mlops.tracking import client
from mlops.types import Release, identity

log = logging.getLogger("evergreen")


def promote(name: str, which: str, reason: str, expected_champion: str | bool | None = True) -> int:
    """Moves the alias champion to a judged version (its number or alias); the ledger's fence.

    expected_champion: the version that the judgement was made against (none: no champion); True takes whatever serves.
    Raises UserError if another one serves by now, or if the version serves already; Rejected without verdicts.
    """
    with lock(name):
        release = at(name, which)
        require_verdicts(release)
        current = aliased(client(), name, "champion")
        if expected_champion is not True and current != expected_champion:
            raise UserError(f"{name}: the champion is version {current}, this was judged against {expected_champion}")
        if current == release.version:
            raise UserError(f"{name} version {release.version} is the champion already")
        digests = [identity(verdict) for verdict in release.verdicts]
        fence = ledger.append(name, "promote", current, release.version, reason, digests)
        _point(name)
    return fence


def rollback(name: str, reason: str, to: str | None = None) -> str:
    """Back to a version that served before the present one, by default the last of them; its number.

    Raises UserError if there is none, or if `to` is none of them; Rejected without verdicts.
    """
    with lock(name):
        stack = _left(client(), name)
        earlier = stack[:-1]
        if not earlier:
            raise UserError(f"{name} has no earlier release to go back to; served so far: {', '.join(stack) or 'none'}")
        target = earlier[-1] if to is None else to
        if target not in earlier:
            raise UserError(f"{name} cannot go back to version {target}; earlier ones are {', '.join(earlier)}")
        require_verdicts(at(name, target))
        ledger.append(name, "rollback", stack[-1], target, reason)
        _point(name)
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
    """Points the alias candidate to a release that waits for approval."""
    client().set_registered_model_alias(name, "candidate", version)


def repair(name: str) -> None:
    """Mends what a crash or a hand left: half versions go, the aliases go where the ledger says.

    A champion that was deleted in MLflow gives way to the newest release before it, which the ledger says too.
    Raises RegistryError where the registry has none of the releases that served: that is another registry, or one that was
    lost, and not a model without a champion.
    """
    api = client()
    with lock(name):
        remove_half(api, name)
        served, left = ledger.serving(ledger.entries(name)), _left(api, name)
        if served and not left:
            raise RegistryError(
                f"the ledger says that {name} version {served[-1]} serves, the registry has none of the versions "
                f"{', '.join(served)}: check MLFLOW_TRACKING_URI and EVERGREEN_STORE, or restore the registry; to start "
                f"anew, move the store's documents/ledger/{name} away"
            )
        if served and served[-1] != left[-1]:
            gone = f"version {served[-1]} is gone from the registry"
            log.warning("%s: %s; version %s serves", name, gone, left[-1])
            ledger.append(name, "repair", served[-1], left[-1], gone)
        if served:
            _point(name)


def _left(api: Any, name: str) -> list[str]:
    """The stack of what serves and served, without the versions that are gone."""
    known = {str(version.version) for version in versions(api, name) if complete(version)}
    return [version for version in ledger.serving(ledger.entries(name)) if version in known]


def _point(name: str) -> None:
    """Puts the aliases where the ledger says, the champion first."""
    api = client()
    stack = _left(api, name)
    previous = stack[-2] if len(stack) > 1 else None
    for alias, version in (("champion", stack[-1] if stack else None), ("previous", previous)):
        if version and aliased(api, name, alias) != version:
            api.set_registered_model_alias(name, alias, version)
        elif version is None and aliased(api, name, alias):
            api.delete_registered_model_alias(name, alias)
