"""The removal of what nobody needs: documents and artifacts of the store, copies and reports on this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mlops import settings
from mlops.blobs import Stat
from mlops.retention.marks import Marked
from mlops.retention.rule import DAY, Removal, Rule
from mlops.store import MANIFEST, Store
from mlops.sweep import Left, artifacts, folders, unfinished

_WHY = "nothing that stays needs it"


def documents(store: Store, stats: Mapping[str, Stat], marked: Marked) -> Iterator[Removal]:
    """Documents by which steps are quicker, of results that are no more or old."""
    for name in sorted(marked.documents):
        key = f"documents/{name}.json"

        def remove(key: str = key) -> None:
            store.blobs.remove(key)

        yield Removal(f"document {name.partition('/')[0]}", name, stats[key].size, _WHY, remove)


def artifacts_of(store: Store, stats: Mapping[str, Stat], marked: Marked, unused_seconds: float) -> Iterator[Removal]:
    """Whole artifacts that nobody needs and nobody has asked for of late, then what is left of those without a
    manifest."""
    for prefix, keys in sorted(artifacts(stats).items()):
        if prefix in marked.artifacts or f"{prefix}/{MANIFEST}" not in keys:
            continue

        def remove(prefix: str = prefix) -> None:
            _remove_artifact(store, prefix, unused_seconds)

        size = sum(stats[key].size for key in keys)
        yield Removal(f"artifact {prefix.partition('/')[0]}", prefix, size, _WHY, remove)


def _remove_artifact(store: Store, prefix: str, unused_seconds: float) -> None:
    """The manifest first: from then on it does not exist, and what a crash leaves of it belongs to nothing.

    One that somebody has asked for since it was listed stays.
    """
    found = store.blobs.stats(f"{prefix}/")
    manifest = found.get(f"{prefix}/{MANIFEST}")
    if manifest is None or manifest.age < unused_seconds:
        return
    store.blobs.remove(f"{prefix}/{MANIFEST}")
    for key in found:
        store.blobs.remove(key)


def half_done(stats: Mapping[str, Stat], rule: Rule) -> Iterator[Removal]:
    """What `mlops reconcile` removes of files."""
    for left in unfinished(DAY - rule.ahead, stats):
        yield _as_removal("unfinished", left, "nobody will finish it")


def copies(store: Store, marked: Marked, rule: Rule, runs: bool) -> Iterator[Removal]:
    """This machine's copies of what lies elsewhere, and checkpoints. runs: whether a retrain does; then sources
    stay."""
    cache, old = settings.current().cache, rule.days * DAY - rule.ahead
    for left in folders(cache / "artifacts", DAY - rule.ahead, "*/*"):
        if left.path is not None and left.path.relative_to(cache / "artifacts").as_posix() not in marked.artifacts:
            yield _as_removal("cache artifacts", left, _WHY)
    why = f"not written for {rule.days:g} days"
    places = [("training", "*")] + ([] if runs else [("sources", "*/*"), ("models", "*/*")])
    for name, pattern in places:
        for left in folders(cache / name, old, pattern):
            yield _as_removal(f"cache {name}", left, why)
    for left in folders(cache.parent / "tune", old, "*.journal") if not runs else ():
        yield _as_removal("study", left, why)


def reports(store: Store, rule: Rule, kept: Collection[str], runs: bool) -> Iterator[Removal]:
    """Reports of retrains that are gone, pages and quarantined rows of snapshots that no retrain had of late."""
    home, old = settings.current().home, rule.days * DAY - rule.ahead
    for left in folders(home / "runs", old, "*/*"):
        if left.path is not None and left.path.name not in kept:
            yield _as_removal("report", left, "its retrain is gone")
    for name in ("data_docs", "quarantine") if not runs else ():
        for left in folders(home / name, old, "*/*"):
            if left.path is not None and not _newest(store, left.path):
                yield _as_removal("report", left, f"not written for {rule.days:g} days")


def _newest(store: Store, pages: Path) -> bool:
    """Whether pages PIPELINE/REVISION are about the rows of the pipeline's last retrain."""
    last = store.read_document(f"snapshots/{pages.parent.name}") or {}
    return str(last.get("revision", "")).startswith(pages.name)


def _as_removal(kind: str, left: Left, why: str) -> Removal:
    return Removal(kind, left.told, left.size, why, left.remove)
