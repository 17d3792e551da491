"""What crashes and hands left in the registry and the store: found, told and mended; the ledger leads.

A retrain begins with it, `mlops reconcile` does it by hand, --dry-run only tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlops import ledger, promotion
from mlops.errors import NotFound, RegistryError, Rejected, StoreError
from mlops.locks import Held, lock
from mlops.registry import KEY, aliased, at, complete, halves, remove_half, remove_version, require_verdicts, versions
from mlops.sweep import unfinished
from mlops.tracking import client
from mlops.uploads import orphans, remove_upload

log = logging.getLogger("evergreen")

# Younger ones may be the work of a retrain that goes on elsewhere.
LEFT_ALONE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Finding:
    """Something that must not be. repair: what was or would be done about it; mended: whether it was done."""

    model: str
    kind: str
    found: str
    repair: str
    mended: bool = False


@dataclass(frozen=True)
class _Mendable:
    kind: str
    found: str
    repair: str
    mend: Callable[[], None]


def reconcile(
    name: str, dry_run: bool = False, older_than_seconds: float = LEFT_ALONE_SECONDS, files: bool = True
) -> list[Finding]:
    """Finds what is wrong with a model and mends it, each after what it rests on; findings in that order.

    older_than_seconds: what looks unfinished and is younger is left alone. files: look through the store too.
    Raises RegistryError where nothing can be mended: the ledger was changed, or the registry has none of the releases that
    served, which is another registry or one that was lost, and not a model without a champion.
    """
    found = []
    with lock(name) as held:
        for look in (_halves, _doubles, _champion, _aliases, _candidate):
            # Each looks at what the ones before left, or would have.
            found += [_settle(name, each, dry_run) for each in look(name, held)]
    for each in _uploads(name, older_than_seconds):
        found.append(_settle(name, each, dry_run))
    if files:
        found += [_settle(name, each, dry_run) for each in _files(older_than_seconds)]
    return found


def _settle(name: str, each: _Mendable, dry_run: bool) -> Finding:
    log.warning("%s: %s: %s; %s%s", name, each.kind, each.found, "would be: " if dry_run else "", each.repair)
    if not dry_run:
        each.mend()
    return Finding(name, each.kind, each.found, each.repair, not dry_run)


def _halves(name: str, held: Held) -> Iterator[_Mendable]:
    """Versions whose registration ended in the middle."""
    api = client()
    half = [str(each.version) for each in halves(api, name)]
    if half:
        told = f"version {', '.join(half)} was never finished"
        yield _Mendable("half version", told, "removed", lambda: remove_half(api, name))


def _doubles(name: str, held: Held) -> Iterator[_Mendable]:
    """Versions of the very same release: two machines that had both lost the lock. The first counts, and what served."""
    api, seen = client(), dict[str, str]()
    served = set(ledger.serving(ledger.entries(name)))
    for each in versions(api, name):
        number = str(each.version)
        if not complete(each):
            continue
        first = seen.setdefault(each.tags[KEY], number)
        if first != number and number not in served:

            def remove(version: Any = each) -> None:
                remove_version(api, name, version)

            yield _Mendable("double version", f"version {number} is version {first} once more", "removed", remove)


def _champion(name: str, held: Held) -> Iterator[_Mendable]:
    """A champion that is gone from the registry, or was never judged, gives way to the newest one before it that was."""
    api, known = client(), ledger.entries(name)
    ledger.require_whole(api, name, known)
    served, left = ledger.serving(known), promotion.standing(api, name)
    if served and not left:
        raise RegistryError(
            f"the ledger says that {name} version {served[-1]} serves, the registry has none of the versions "
            f"{', '.join(served)}: check MLFLOW_TRACKING_URI and EVERGREEN_STORE, or restore the registry; to start "
            f"anew, move the store's documents/ledger/{name} away"
        )
    faults = {version: _fault(name, version) for version in reversed(left)}
    sound = next((version for version, fault in faults.items() if not fault), None)
    if not served or sound == served[-1]:
        return
    what = faults.get(served[-1], f"version {served[-1]} is gone from the registry")
    if sound is None:
        raise RegistryError(f"{name}: {what}, and so it is with all that served before: {'; '.join(faults.values())}")

    def move() -> None:
        held()
        ledger.append(name, "repair", served[-1], sound, what, follows=len(known))

    yield _Mendable("champion", what, f"version {sound} serves", move)


def _fault(name: str, version: str) -> str:
    """What keeps a version from serving; nothing where it may."""
    try:
        require_verdicts(at(name, version))
    except (Rejected, RegistryError, NotFound) as error:
        return f"version {version} may not serve: {error}"
    except StoreError as error:  # its record cannot be read: that is no judgement on it, and may pass
        raise StoreError(f"{name} version {version}: {error}; bring the store's files back") from error
    return ""


def _aliases(name: str, held: Held) -> Iterator[_Mendable]:
    """Aliases that are not where the ledger says: a crash came between the two, or a hand moved one."""
    api = client()
    wrong = {
        alias: (found, wanted)
        for alias, wanted in promotion.targets(api, name).items()
        if (found := aliased(api, name, alias)) != wanted
    }
    for alias, (found, wanted) in wrong.items():
        told = f"{alias} is version {found or 'none'}, the ledger says {wanted or 'none'}"
        done = f"moved to version {wanted}" if wanted else "removed"
        yield _Mendable("alias", told, done, lambda: promotion.point(name, held))


def _candidate(name: str, held: Held) -> Iterator[_Mendable]:
    """The alias of what waits for approval, on a version that may not serve."""
    api = client()
    version = aliased(api, name, "candidate")
    if version and (fault := _fault(name, version)):
        yield _Mendable(
            "alias",
            f"candidate: {fault}",
            "removed",
            lambda: api.delete_registered_model_alias(name, "candidate"),
        )


def _uploads(name: str, older_than_seconds: float) -> Iterator[_Mendable]:
    """Models in MLflow whose registration ended before they became a version."""
    api = client()
    for model_id in orphans(api, name, older_than_seconds):

        def remove(model_id: str = model_id) -> None:
            remove_upload(api, model_id)

        yield _Mendable("orphaned upload", f"model {model_id} never became a version", "removed", remove)


def _files(older_than_seconds: float) -> Iterator[_Mendable]:
    for left in unfinished(older_than_seconds):
        yield _Mendable("orphaned files", left.told, "removed", left.remove)
