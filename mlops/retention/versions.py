"""Which versions of a model stay, and the removal of the others: under the model's lock, in the ledger first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from mlops import ledger, promotion
from mlops.errors import RegistryError
from mlops.locks import lock
from mlops.registry import complete, remove_version, versions
from mlops.retention.rule import DAY, Removal, Rule
from mlops.retention.sizes import size_of_model
from mlops.tracking import client
from mlops.uploads import left_behind, model_of, remove_upload

log = logging.getLogger("evergreen")

_MOVES = ("promote", "rollback", "repair")


def require_sound(name: str) -> None:
    """Raises RegistryError unless ledger and registry agree on what serves: what cannot be seen would be thrown
    away."""
    api, known = client(), ledger.entries(name)
    ledger.require_whole(api, name, known)
    served, left = ledger.serving(known), promotion.standing(api, name)
    if served and left[-1:] != served[-1:]:
        raise RegistryError(
            f"the ledger says that {name} version {served[-1]} serves, the registry does not have it: nothing is removed; "
            f"check MLFLOW_TRACKING_URI and EVERGREEN_STORE, then: mlops reconcile {name}"
        )


def kept(name: str, rule: Rule) -> dict[str, str]:
    """Why each version stays that does; those of other tools and unfinished ones are not looked at."""
    api, known = client(), ledger.entries(name)
    found = [version for version in versions(api, name) if complete(version)]
    why: dict[str, str] = {}
    for alias, version in api.get_registered_model(name).aliases.items() if found else ():
        why.setdefault(str(version), alias)
    for version, role in zip(reversed(promotion.standing(api, name)), ("champion", "previous"), strict=False):
        why.setdefault(version, role)
    for entry in known:
        if entry["action"] in _MOVES and rule.recent(entry["when"]):
            for version in (entry["to"], entry["from"]):
                why.setdefault(version, f"served within {rule.days:g} days")
    for version in found[-rule.keep :]:
        why.setdefault(str(version.version), f"one of the last {rule.keep}")
    for version in found:
        if rule.now - version.creation_timestamp / 1000 < DAY:
            why.setdefault(str(version.version), "made within a day")
    there = [str(version.version) for version in found]
    return {version: why[version] for version in there if version in why}


def outdated(name: str, rule: Rule) -> list[Removal]:
    """The versions that go."""
    api, stay = client(), kept(name, rule)
    gone = [version for version in versions(api, name) if complete(version) and str(version.version) not in stay]
    return [_removal(name, str(version.version), model_of(version), rule) for version in gone]


def _removal(name: str, version: str, model_id: str | None, rule: Rule) -> Removal:
    why = f"does not serve, none of the last: {rule}"
    size = size_of_model(client(), model_id) if model_id else 0
    return Removal("version", f"{name} {version}", size, why, lambda: retire(name, version, rule))


def retire(name: str, version: str, rule: Rule) -> None:
    """Writes into the ledger that a version goes and takes it out of the registry with its upload; done again, nothing.

    Whether it may is asked again under the lock: somebody may have promoted it meanwhile.
    """
    api = client()
    with lock(name) as held:
        require_sound(name)
        left = {str(each.version): each for each in versions(api, name)}
        if version not in left or version in kept(name, rule):
            return
        known = ledger.entries(name)
        if version not in ledger.retired(known):
            held()
            ledger.append(name, "retire", version, None, str(rule), follows=len(known))
            ledger.witness(api, name)
        held()
        log.info("%s version %s goes: %s", name, version, rule)
        remove_version(api, name, left[version])


def strays(name: str, seconds: float) -> Iterator[Removal]:
    """Uploads whose version is gone: a crash came between the two, or a hand removed it. seconds: younger ones are
    left."""
    api = client()
    for model_id in left_behind(api, name, seconds):

        def remove(model_id: str = model_id) -> None:
            remove_upload(api, model_id)

        yield Removal("upload", model_id, size_of_model(api, model_id), f"its version of {name} is gone", remove)


def in_ledger(name: str) -> set[str]:
    """Every version that the ledger names."""
    return {str(entry[end]) for entry in ledger.entries(name) for end in ("from", "to") if entry[end]}


class Present(NamedTuple):
    """A version in the registry, with what it came from."""

    name: str
    version: str
    run_id: str | None
    model_id: str | None


def present(names: list[str]) -> list[Present]:
    """Every version that the registry has, those of others too."""
    api = client()
    return [
        Present(name, str(version.version), version.run_id, model_of(version))
        for name in names
        for version in versions(api, name)
    ]
