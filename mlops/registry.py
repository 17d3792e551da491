"""Releases as versions of an MLflow model: registration that a crash cannot half-finish.

MLflow marks a version READY whose files never arrived. So a version counts only with the tag evergreen.state=complete, set
after its files were read back. Versions without our tags are somebody else's: they are listed and left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mlops import ledger, signing
from mlops.errors import NotFound, RegistryError
from mlops.locks import lock
from mlops.store import open_store
from mlops.tracking import client
from mlops.types import ArtifactRef, Release, Verdict, identity
from mlops.uploads import link, model_of, remove_upload, upload

log = logging.getLogger("evergreen")

STATE, KEY, RECORD = "evergreen.state", "evergreen.key", "evergreen.release"
CARD_CHARACTERS = 5000


def names() -> list[str]:
    """The registered models, sorted."""
    return sorted(model.name for model in client().search_registered_models())


def versions(api: Any, name: str) -> list[Any]:
    """MLflow's versions of a model, oldest first."""
    found = api.search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def aliased(api: Any, name: str, alias: str) -> str | None:
    """The version behind an alias; none without it."""
    from mlflow.exceptions import MlflowException

    try:
        return str(api.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise  # a registry that does not answer is not a registry without the alias
        return None


def complete(version: Any) -> bool:
    """Whether a version was registered here to the end."""
    return version.tags.get(STATE) == "complete" and RECORD in version.tags


def champion(name: str) -> Release | None:
    """The release behind the alias champion, or none."""
    version = aliased(client(), name, "champion")
    return at(name, version) if version else None


def at(name: str, which: str) -> Release:
    """The release of a version number or alias; NotFound lists what there is."""
    api = client()
    version = which if which.isdigit() else aliased(api, name, which)
    known = {str(entry.version): entry for entry in versions(api, name)}
    if version is None or version not in known:
        there = ", ".join(known) or "none"
        gone = ledger.why_gone(ledger.entries(name), which)
        raise NotFound(
            f"{name} has no version or alias {which!r}{gone and f' ({gone})'}; versions: {there}; "
            f"models: {', '.join(names()) or 'none'}"
        )
    if not complete(known[version]):
        what = "was never finished" if KEY in known[version].tags else "was registered by something else"
        raise RegistryError(f"{name} version {version} {what} and has no verdicts; it may not be used")
    return _read(known[version])


def _read(version: Any) -> Release:
    store = open_store()
    folder = store.fetch(ArtifactRef.model_validate_json(version.tags[RECORD]))
    return Release.model_validate_json((folder / "release.json").read_text(encoding="utf-8"))


def releases(name: str) -> list[dict[str, Any]]:
    """One dict per version, oldest first."""
    api = client()
    aliases: dict[str, list[str]] = {}
    for alias in ("champion", "previous", "candidate"):
        if version := aliased(api, name, alias):
            aliases.setdefault(version, []).append(alias)
    return [
        {
            "version": str(entry.version),
            "variant": entry.tags.get("evergreen.variant"),
            "state": entry.tags.get(STATE, "foreign"),
            "aliases": aliases.get(str(entry.version), []),
            "metric": entry.tags.get("evergreen.metric"),
            "size_mb": entry.tags.get("evergreen.size_mb"),
            "replaces": entry.tags.get("evergreen.replaces"),
            "snapshot": entry.tags.get("evergreen.snapshot", "")[:12],
            "parent": entry.tags.get("evergreen.parent", ""),
            "run_id": entry.run_id,
        }
        for entry in versions(api, name)
    ]


def require_verdicts(release: Release) -> None:
    """Raises Rejected unless data, candidate and the very file were judged, and all that was judged passed."""
    judged = {verdict.subject for verdict in release.verdicts}
    missing = [subject for subject in ("snapshot", "candidate", release.variant) if subject not in judged]
    for verdict in (*(Verdict(subject=subject, checks=()) for subject in missing), *release.verdicts):
        verdict.require()
    if release.evaluation.model_sha256 != release.model.files.sha256:
        raise RegistryError(
            f"the file {release.model.files.sha256[:12]} is not the one that was judged, {release.evaluation.model_sha256[:12]}"
        )


def require_signed(release: Release) -> None:
    """Raises StoreError where signatures are enforced and the release has none that holds."""
    if signing.required():
        store = open_store()
        signature = signing.read(store, release.model.files.sha256)
        who = f"{release.name} version {release.version}".removesuffix(" version ")
        signing.require(store.fetch(release.model.files), signature, who)


def register(release: Release, tags: Mapping[str, str], run_id: str | None, card: str | None = None) -> Release:
    """Registers a judged file; the release with its version. The same file judged against the same champion for the same
    configuration is registered once, however often it is tried and however long its answers took each time.
    card: Markdown for the version's page; see `set_card`.

    Raises Rejected without passing verdicts, RegistryError where the files read back are others, StoreError without a
    signature where one is asked for.
    """
    require_verdicts(release)
    key = identity([release.model, release.replaces])
    api = client()
    with lock(release.name):
        if known := _registered(api, release.name, key):
            return known
    # Without the lock, which others wait for: an upload may take minutes. Of two that do the same one goes again.
    store = open_store()
    package = store.fetch(release.model.files)
    signing.sign(store, release.model.files)
    require_signed(release)
    source, model_id = upload(api, package, release, run_id, key)
    with lock(release.name) as held:
        remove_half(api, release.name)
        if known := _registered(api, release.name, key):
            remove_upload(api, model_id)
            return known
        _ensure_model(api, release.name)
        held()
        version = api.create_model_version(
            release.name, source=source, run_id=run_id, tags={KEY: key, STATE: "half"}, model_id=model_id
        )
        finished = release.model_copy(update={"version": str(version.version)})
        record = _write_record(finished)
        # What `mlflow.register_model` would do: the model's page leads to its version.
        link(api, model_id, release.name, finished.version)
        for name, value in (_facts(finished, record) | dict(tags) | {STATE: "complete"}).items():
            api.set_model_version_tag(release.name, finished.version, name, value)
        if card:
            set_card(release.name, finished.version, card)
    return finished


def _registered(api: Any, name: str, key: str) -> Release | None:
    """The release that was registered with this key before."""
    for version in versions(api, name):
        if version.tags.get(KEY) == key and complete(version):
            log.info("register: version %s is this very release, registered before", version.version)
            return _read(version)
    return None


def _facts(release: Release, record: ArtifactRef) -> dict[str, str]:
    """The tags of a version."""
    facts = {
        "evergreen.variant": release.variant,
        "evergreen.snapshot": release.model.snapshot_sha256,
        "evergreen.parent": release.model.parent_sha256 or "",
        "evergreen.config": release.model.config_sha256,
        "evergreen.size_mb": f"{release.evaluation.size / 1e6:.1f}",
        "evergreen.replaces": release.replaces or "",
        RECORD: record.model_dump_json(),
    }
    return facts | {f"evergreen.verdict.{verdict.subject}": verdict.outcome for verdict in release.verdicts}


def set_card(name: str, version: str, text: str) -> None:
    """Makes a text the version's description, which MLflow's page of it shows as Markdown, without scripts.

    MLflow's tables hold 5,000 characters of it; of a longer text the end goes. A version's verdicts do not depend on it.
    Raises NotFound for a version that is not there.
    """
    from mlflow.exceptions import MlflowException

    note = "\n\n… (cut: MLflow holds no more)"
    if len(text) > CARD_CHARACTERS:
        text = text[: CARD_CHARACTERS - len(note)] + note
    try:
        client().update_model_version(name, version, description=text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NotFound(f"{name} has no version {version!r}; mlops releases {name} lists those there are") from error


def _write_record(release: Release) -> ArtifactRef:
    store = open_store()
    with store.workspace() as folder:
        (folder / "release.json").write_text(release.model_dump_json(indent=1), encoding="utf-8")
        return store.put(folder, "release")


def _ensure_model(api: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        api.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def halves(api: Any, name: str) -> list[Any]:
    """Our own versions whose registration ended in the middle. One that the ledger names was finished, whatever its tags say
    by now: it is none of them."""
    named = {entry["to"] for entry in ledger.entries(name)}
    return [
        version
        for version in versions(api, name)
        if KEY in version.tags and not complete(version) and str(version.version) not in named
    ]


def remove_half(api: Any, name: str) -> None:
    """Deletes what a crash left of our own registrations. Only under the lock: another run may be in the middle of one."""
    for version in halves(api, name):
        log.warning("%s version %s was never finished: removed", name, version.version)
        remove_version(api, name, version)


def remove_version(api: Any, name: str, version: Any) -> None:
    """Deletes a version, and the files that were uploaded for it unless another version has the same."""
    api.delete_model_version(name, version.version)
    model_id = model_of(version)
    if model_id and model_id not in {model_of(other) for other in versions(api, name)}:
        remove_upload(api, model_id)
