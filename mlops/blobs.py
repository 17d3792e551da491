"""Bytes by key: the one seam between the store and the outside. Here on a local folder; on S3 in blobs_s3.py."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import unquote, urlparse

from mlops.errors import UserError

log = logging.getLogger("evergreen")


class Stat(NamedTuple):
    """What a listing tells of a key. age: seconds since it was written or touched. size: bytes."""

    age: float
    size: int


class Blobs(Protocol):
    """Keys are relative POSIX paths."""

    def uri(self, key: str) -> str: ...

    def exists(self, key: str) -> bool: ...

    def read(self, key: str) -> bytes:
        """Raises KeyError where there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Atomic: readers see the old or the new bytes."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Writes only if there is none; False, and nothing written, otherwise. At most one of several callers wins."""
        ...

    def upload(self, key: str, path: Path) -> None: ...

    def download(self, key: str, path: Path) -> None: ...

    def list(self, prefix: str) -> list[str]:
        """Keys below a prefix that ends in "/", sorted."""
        ...

    def stats(self, prefix: str) -> dict[str, Stat]:
        """Every key below a prefix; what an ended process did not finish writing counts too."""
        ...

    def touch(self, key: str) -> bool:
        """Makes a key as young as one just written, its bytes untouched; False, and nothing made, where there is
        none."""
        ...

    def remove(self, key: str) -> None:
        """Takes a key away; one that is not there is no error."""
        ...

    def local(self, key: str) -> Path | None:
        """The path of a key on this machine's disk, or none where it has to be downloaded."""
        ...


class LocalBlobs:
    """A folder. Writes go to a temporary name beside the target, are synced and renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str) -> Path:
        return self.root / key

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def exists(self, key: str) -> bool:
        return self._path(key).exists()

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def _stage(self, key: str) -> tuple[Path, Path]:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path, path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")

    def write(self, key: str, data: bytes) -> None:
        path, temporary = self._stage(key)
        with self._opened(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @staticmethod
    def _opened(temporary: Path) -> BinaryIO:
        try:
            return temporary.open("wb")
        except FileNotFoundError:  # somebody took the last file out of the folder, and the folder with it
            temporary.parent.mkdir(parents=True, exist_ok=True)
            return temporary.open("wb")

    def create(self, key: str, data: bytes) -> bool:
        path, temporary = self._stage(key)
        temporary.write_bytes(data)
        try:
            os.link(temporary, path)  # fails where the name is taken, unlike rename
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def upload(self, key: str, path: Path) -> None:
        target, temporary = self._stage(key)
        try:
            shutil.copyfile(path, temporary)
        except FileNotFoundError:
            temporary.parent.mkdir(parents=True, exist_ok=True)  # as in _opened
            shutil.copyfile(path, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)

    def download(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._path(key), path)

    def list(self, prefix: str) -> list[str]:
        folder = self._path(prefix)
        if not folder.is_dir():
            return []
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    def stats(self, prefix: str) -> dict[str, Stat]:
        now, found = time.time(), {}
        for path in self._path(prefix).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # somebody else's, finished meanwhile
                if path.is_file():
                    seen = path.stat()
                    found[path.relative_to(self.root).as_posix()] = Stat(now - seen.st_mtime, seen.st_size)
        return found

    def touch(self, key: str) -> bool:
        try:
            os.utime(self._path(key))
        except FileNotFoundError:
            return False
        except PermissionError:  # another user's, to read only: it is there, and its owner renews it
            log.debug("%s cannot be touched", key)
        return True

    def remove(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:  # an artifact's folder goes with its last file
            if not _of_an_artifact(folder.relative_to(self.root)):
                break  # and no other: somebody may be about to write there
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone
                break

    def local(self, key: str) -> Path | None:
        return self._path(key)


def _of_an_artifact(folder: Path) -> bool:
    return len(folder.parts) > 1 and len(folder.parts[1]) == 64


def open_blobs(uri: str) -> Blobs:
    """Blobs at a file:// or s3:// URI; UserError for anything else."""
    parts = urlparse(uri)
    # file://data/store would name a machine "data": what was meant is a folder of this one.
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return LocalBlobs(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from mlops.blobs_s3 import S3Blobs

        return S3Blobs(parts.netloc, parts.path)
    raise UserError(f"EVERGREEN_STORE is {uri!r}; allowed: file:///folder or s3://bucket/prefix")
