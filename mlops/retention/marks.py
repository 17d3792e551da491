"""Which artifacts of the store somebody still needs: reached from releases, from the ledger, from documents.

An artifact is named kind/sha256 here. What a process has asked for within the rule's days (`Store.exists`,
`Store.put`) is young and stays without being reached, so that a retrain that runs at the same time loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlops import records
from mlops.blobs import Stat
from mlops.store import MANIFEST, Store
from mlops.sweep import artifacts
from mlops.types import ArtifactRef

Json = dict[str, Any]
# Documents that a step writes to be quicker the next time. All others stay: the ledger, looks, splits, rollouts and
# what may come; and these also while they lead to something that stays.
_MEMORY = ("steps", "attempts", "scored", "tokens", "rankings", "students")
_OF_A_PACKAGE = ("golden", "signatures")  # by the digest of a model
_RAW = "snapshots"
_REFERENCE = set(ArtifactRef.model_fields)


@dataclass(frozen=True)
class Needed:
    """versions: those that stay. named: those that the ledger names; both as (model, version). judgements: of runs
    that stay."""

    versions: set[tuple[str, str]]
    named: set[tuple[str, str]]
    judgements: tuple[Json, ...] = ()


@dataclass(frozen=True)
class Marked:
    """artifacts: those of the store that stay. documents: names of those that go, with their age in seconds."""

    artifacts: set[str]
    documents: dict[str, float]


def references(value: Any) -> Iterator[Json]:
    """Every reference to an artifact in a JSON value, however deep."""
    if isinstance(value, dict):
        if value.keys() >= _REFERENCE and isinstance(value["sha256"], str):
            yield value
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def names(value: Any) -> set[str]:
    """The artifacts that a JSON value refers to."""
    return {f"{each['kind']}/{each['sha256']}" for each in references(value)}


def mark(store: Store, stats: Mapping[str, Stat], needed: Needed, unused_seconds: float) -> Marked:
    """stats: of the whole store. unused_seconds: the age from which what nobody needs goes."""
    young = {
        prefix
        for prefix in artifacts(stats)
        if (found := stats.get(f"{prefix}/{MANIFEST}")) is not None and found.age < unused_seconds
    }
    documents = {key[len("documents/") : -len(".json")]: stats[key].age for key in stats if _is_document(key)}
    bodies = dict(zip(documents, store.read_documents(list(documents)), strict=True))
    marked, revisions = _of_releases(store, stats, needed)
    for ref in needed.judgements:
        marked |= names(ref) | _judgement(store, f"{ref['kind']}/{ref['sha256']}")
    stale: list[str] = []
    for name, age in documents.items():
        if age < unused_seconds or _stays(name, bodies, revisions):
            marked |= names(bodies[name])
        else:
            stale.append(name)
    alive = marked | young
    return Marked(alive, {name: documents[name] for name in stale if not _leads(name, bodies[name], alive)})


def _is_document(key: str) -> bool:
    return key.startswith("documents/") and key.endswith(".json") and not key.rpartition("/")[2].startswith(".")


def _of_releases(store: Store, stats: Mapping[str, Stat], needed: Needed) -> tuple[set[str], set[str]]:
    """What releases need, and the revisions of the snapshots that they were trained on.

    Of a version that stays everything; of one that the ledger names and that is gone what it was let in by.
    """
    marked, revisions = set[str](), set[str]()
    for prefix, keys in artifacts(stats).items():
        if not prefix.startswith("release/") or f"{prefix}/{MANIFEST}" not in keys:
            continue
        release = _read(store, f"{prefix}/release.json")
        version = (release.get("name"), release.get("version"))
        if version in needed.versions:
            reached = names(release)
            marked |= {prefix, *reached}
            for each in reached:
                marked |= _judgement(store, each)
            if parent := release["model"].get("parent_sha256"):
                marked.add(f"model/{parent}")  # a warm start begins with it
            revisions.add(release["model"]["snapshot_sha256"])
        elif version in needed.named:
            marked |= {prefix, *names(release.get("verdicts"))}
    return marked, revisions


def _judgement(store: Store, name: str) -> set[str]:
    """What judging again needs."""
    return names(_read(store, f"{name}/{records.FILE}")) if name.startswith(f"{records.KIND}/") else set()


def _read(store: Store, key: str) -> Json:
    try:
        found = json.loads(store.blobs.read(key))
    except (KeyError, ValueError):  # gone or damaged: whoever needs it will say so
        return {}
    return found if isinstance(found, dict) else {}


def _stays(name: str, bodies: Mapping[str, Any], revisions: set[str]) -> bool:
    """Whether a document stays whatever its age."""
    kind, _, rest = name.partition("/")
    if kind in _MEMORY:
        output = bodies[name].get("output") if isinstance(bodies[name], dict) else None
        return isinstance(output, dict) and "splits" in output and output.get("revision") in revisions
    if kind == _RAW and "/" in rest:
        pipeline, _, revision = rest.partition("/")
        return revision in _compared_with(bodies, pipeline)
    return kind not in _OF_A_PACKAGE


def _compared_with(bodies: Mapping[str, Any], pipeline: str) -> set[str | None]:
    """The raw snapshots that a pipeline's next retrain may be compared with: its last one, and the one before."""
    last = (bodies.get(f"{_RAW}/{pipeline}") or {}).get("revision")
    before = (bodies.get(f"{_RAW}/{pipeline}/{last}") or {}).get("parent_sha256")
    return {last, before}


def _leads(name: str, body: Any, alive: set[str]) -> bool:
    """Whether an old document is still of use: all that it names is there."""
    kind, _, rest = name.partition("/")
    needed = {f"model/{rest}"} if kind in _OF_A_PACKAGE else names(body)
    return bool(needed) and needed <= alive
