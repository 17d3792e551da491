"""Bytes by key: the one seam between the store and the outside. Here on a local folder; on S3 in blobs_s3.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

from mlops.errors import UserError


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

    def ages(self, prefix: str) -> dict[str, float]:
        """Seconds since each key below a prefix was written; what an ended process did not finish writing counts too."""
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
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

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

    def ages(self, prefix: str) -> dict[str, float]:
        now, found = time.time(), {}
        for path in self._path(prefix).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # somebody else's, finished meanwhile
                if path.is_file():
                    found[path.relative_to(self.root).as_posix()] = now - path.stat().st_mtime
        return found

    def remove(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or gone: an artifact's folder goes with its last file
            path.parent.rmdir()

    def local(self, key: str) -> Path | None:
        return self._path(key)


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
