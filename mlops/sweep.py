"""What nobody will finish or read again in the store and on this machine: found by age, removed so that a crash is
mended by doing it again."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops import settings
from mlops.blobs import Blobs, Stat
from mlops.store import MANIFEST, open_store

log = logging.getLogger("evergreen")

_HALF = re.compile(r"\..+\.\d+-[0-9a-f]{8}")  # of a local folder: a write that was not renamed
_ARTIFACT = re.compile(r"[^/]+/[0-9a-f]{64}/.+")  # kind/sha256/file; the store holds other things too


@dataclass(frozen=True)
class Left:
    """Something that nobody will finish. told: what it is and how old, for people. size: bytes. path: where it lies
    on this machine, if it does."""

    told: str
    remove: Callable[[], None]
    size: int = 0
    path: Path | None = None


def artifacts(stats: Mapping[str, Stat]) -> dict[str, list[str]]:
    """The keys of each artifact, or of what is there of one, by kind/sha256."""
    found: dict[str, list[str]] = {}
    for key in stats:
        if _ARTIFACT.fullmatch(key) and not _HALF.fullmatch(key.rpartition("/")[2]):
            found.setdefault("/".join(key.split("/", 2)[:2]), []).append(key)
    return found


def unfinished(older_than_seconds: float, stats: Mapping[str, Stat] | None = None) -> Iterator[Left]:
    """What was last written so long ago: in the store, which is listed for it, and in this machine's cache.

    An artifact is there only with its manifest, which is written last: the files of one without it belong to nothing.
    stats: of the whole store, where somebody has listed it already.
    """
    blobs = open_store().blobs
    stats = blobs.stats("") if stats is None else stats
    for key, stat in stats.items():
        if _HALF.fullmatch(key.rpartition("/")[2]) and stat.age >= older_than_seconds:
            yield _of_keys(blobs, {key: stat}, "half written")
    for prefix, keys in artifacts(stats).items():
        found = {key: stats[key] for key in keys}
        if f"{prefix}/{MANIFEST}" not in keys and min(stat.age for stat in found.values()) >= older_than_seconds:
            yield _of_keys(blobs, found, f"{len(keys)} files without a manifest")
    yield from folders(settings.current().cache / "work", older_than_seconds)


def _of_keys(blobs: Blobs, stats: Mapping[str, Stat], what: str) -> Left:
    def remove() -> None:
        for key in stats:
            blobs.remove(key)

    age = min(stat.age for stat in stats.values())
    return Left(
        f"{blobs.uri(min(stats))}: {what}, {age / 3600:.0f} h old", remove, sum(stat.size for stat in stats.values())
    )


def folders(root: Path, older_than_seconds: float, pattern: str = "*") -> Iterator[Left]:
    """Entries of a folder in which nothing was written for so long, such as the work folders of processes that were
    killed."""
    for folder in sorted(root.glob(pattern)):
        paths = [folder, *folder.rglob("*")]
        seen = [path.stat() for path in paths if path.exists()]
        age = time.time() - max((each.st_mtime for each in seen), default=time.time())
        if age >= older_than_seconds:
            size = sum(path.stat().st_size for path in paths if path.is_file())
            told = f"{folder}, {age / 3600:.0f} h old"
            yield Left(told, lambda folder=folder: _remove(folder), size, folder)  # type: ignore[misc]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
