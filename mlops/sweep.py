"""What ended processes did not finish writing: artifacts without a manifest, temporary files, work folders."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops import settings
from mlops.blobs import Blobs
from mlops.store import MANIFEST, open_store

log = logging.getLogger("evergreen")

_HALF = re.compile(r"\..+\.\d+-[0-9a-f]{8}")  # of a local folder: a write that was not renamed
_ARTIFACT = re.compile(r"[^/]+/[0-9a-f]{64}/.+")  # kind/sha256/file; the store holds other things too


@dataclass(frozen=True)
class Left:
    """Something that nobody will finish. told: what it is and how old, for people."""

    told: str
    remove: Callable[[], None]


def unfinished(older_than_seconds: float) -> Iterator[Left]:
    """What was last written so long ago: in the store, which is listed for it, and in this machine's cache.

    An artifact is there only with its manifest, which is written last: the files of one without it belong to nothing.
    """
    store = open_store()
    ages = store.blobs.ages("")
    artifacts: dict[str, list[str]] = {}
    for key in ages:
        if _HALF.fullmatch(key.rpartition("/")[2]):
            if ages[key] >= older_than_seconds:
                yield _of_keys(store.blobs, [key], "half written", ages[key])
        elif _ARTIFACT.fullmatch(key):
            artifacts.setdefault("/".join(key.split("/", 2)[:2]), []).append(key)
    for prefix, keys in artifacts.items():
        age = min(ages[key] for key in keys)
        if f"{prefix}/{MANIFEST}" not in keys and age >= older_than_seconds:
            yield _of_keys(store.blobs, keys, f"{len(keys)} files without a manifest", age)
    yield from _folders(settings.current().cache / "work", older_than_seconds)


def _of_keys(blobs: Blobs, keys: list[str], what: str, age: float) -> Left:
    def remove() -> None:
        for key in keys:
            blobs.remove(key)

    return Left(f"{blobs.uri(min(keys))}: {what}, {age / 3600:.0f} h old", remove)


def _folders(root: Path, older_than_seconds: float) -> Iterator[Left]:
    """Work folders of processes that were killed."""
    for folder in sorted(root.glob("*")):
        paths = [folder, *folder.rglob("*")]
        age = time.time() - max((path.stat().st_mtime for path in paths if path.exists()), default=time.time())
        if age >= older_than_seconds:
            yield Left(f"{folder}, {age / 3600:.0f} h old", lambda folder=folder: shutil.rmtree(folder, True))  # type: ignore[misc]
