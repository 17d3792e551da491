"""Artifacts by digest, and small documents by name, on a local folder or S3.

An artifact is a folder of files. Its manifest lists every file's sha256 and size and is written last: an artifact
without a manifest does not exist, and the digest of the manifest names the artifact. So writing it twice is free, a
kill at any moment loses nothing, and whoever reads it can tell that it is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops import settings
from mlops.blobs import Blobs, open_blobs
from mlops.errors import StoreError
from mlops.types import ArtifactRef

log = logging.getLogger("evergreen")

MANIFEST = "manifest.json"


def digest_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_manifest(folder: Path) -> dict[str, Any]:
    """{"files": {relative path: {"sha256", "size"}}} of a folder; links are refused (StoreError)."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise StoreError(f"{path} is a symbolic link; an artifact holds plain files only")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            files[name] = {"sha256": digest_file(path), "size": path.stat().st_size}
    return {"files": files}


def check_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises StoreError, naming the file, unless the folder holds what its manifest says."""
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path} is missing; its manifest lists it with {entry['size']} bytes")
        found = digest_file(path)
        if found != entry["sha256"]:
            raise StoreError(f"{path} has sha256 {found}, its manifest says {entry['sha256']}")


def _manifest_bytes(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, indent=1).encode()


class Store:
    """Content-addressed artifacts under `kind/sha256/`, documents under `documents/`."""

    def __init__(self, blobs: Blobs, cache: Path) -> None:
        self.blobs, self.cache = blobs, cache
        self._verified: set[str] = set()

    def put(self, folder: Path, kind: str) -> ArtifactRef:
        """Stores a folder's files; the folder itself is left alone. Free where the same content is there already."""
        manifest = build_manifest(folder)
        if not manifest["files"]:
            raise StoreError(f"{folder} is empty; an artifact of kind {kind!r} needs at least one file")
        data = _manifest_bytes(manifest)
        sha256 = hashlib.sha256(data).hexdigest()
        prefix = f"{kind}/{sha256}"
        if not self.blobs.touch(f"{prefix}/{MANIFEST}"):
            self._upload(prefix, folder, manifest, data)
        size = sum(entry["size"] for entry in manifest["files"].values())
        return ArtifactRef(kind=kind, uri=self.blobs.uri(prefix), sha256=sha256, size_bytes=size)

    def _upload(self, prefix: str, folder: Path, manifest: dict[str, Any], data: bytes) -> None:
        missing = list(manifest["files"])
        while missing:
            for name in missing:
                self.blobs.upload(f"{prefix}/{name}", folder / name)
            self.blobs.write(f"{prefix}/{MANIFEST}", data)
            # Retention may have been in the middle of removing the same content, which it had found unused.
            there = self.blobs.stats(f"{prefix}/")
            missing = [name for name in manifest["files"] if f"{prefix}/{name}" not in there]

    def exists(self, ref: ArtifactRef) -> bool:
        """Whether an artifact is there. Who asks is about to use it: retention counts its days from now."""
        return self.blobs.touch(f"{ref.kind}/{ref.sha256}/{MANIFEST}")

    def fetch(self, ref: ArtifactRef) -> Path:
        """A local folder with the artifact's files, verified once per process; read-only by agreement.

        Raises StoreError when it is missing or a file is not what the manifest says.
        """
        prefix = f"{ref.kind}/{ref.sha256}"
        try:
            data = self.blobs.read(f"{prefix}/{MANIFEST}")
        except KeyError:
            raise StoreError(
                f"no artifact {prefix} in {self.blobs.uri('')}: it was never finished, or removed"
            ) from None
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise StoreError(f"the manifest of {prefix} does not have the digest that names it")
        manifest = json.loads(data)
        folder = self.blobs.local(prefix) or self._download(prefix, manifest)
        if prefix in self._verified:
            return folder
        try:
            check_manifest(folder, manifest)
        except StoreError as error:
            if self.blobs.local(prefix):
                raise
            # Only the copy on this machine is known to be damaged.
            log.warning("%s; downloading it again", error)
            shutil.rmtree(folder)
            check_manifest(self._download(prefix, manifest), manifest)
        self._verified.add(prefix)
        return folder

    def _download(self, prefix: str, manifest: dict[str, Any]) -> Path:
        target = self.cache / "artifacts" / prefix
        if target.is_dir():
            return target
        temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        try:
            for name in manifest["files"]:
                self.blobs.download(f"{prefix}/{name}", temporary / name)
            # The same folder as on a local store: its readers may carry the manifest on.
            (temporary / MANIFEST).write_bytes(_manifest_bytes(manifest))
            temporary.rename(target)
        except KeyError as missing:
            raise StoreError(f"{self.blobs.uri(missing.args[0])} is missing; its manifest lists it") from None
        except OSError:
            if not target.is_dir():  # else another process was first with the same content
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder to build an artifact in; gone afterwards."""
        folder = self.cache / "work" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def write_document(self, name: str, value: Any) -> None:
        """Replaces a small JSON document atomically."""
        self.blobs.write(f"documents/{name}.json", json.dumps(value, indent=1).encode())

    def create_document(self, name: str, value: Any) -> bool:
        """Writes a document only if there is none of that name; False otherwise. One of several callers wins."""
        return self.blobs.create(f"documents/{name}.json", json.dumps(value, indent=1).encode())

    def read_document(self, name: str) -> Any:
        """The document, or none."""
        try:
            return json.loads(self.blobs.read(f"documents/{name}.json"))
        except KeyError:
            return None

    def read_documents(self, names: Sequence[str]) -> list[Any]:
        """Several documents, in order, side by side: on S3 each is a round trip."""
        if len(names) < 2:
            return [self.read_document(name) for name in names]
        with ThreadPoolExecutor(min(16, len(names))) as readers:
            return list(readers.map(self.read_document, names))

    def list_documents(self, prefix: str) -> list[str]:
        """Names of the documents below a prefix such as "ledger/news-topics", sorted."""
        start, end = len("documents/"), -len(".json")
        return [key[start:end] for key in self.blobs.list(f"documents/{prefix}/") if key.endswith(".json")]


def open_store() -> Store:
    """The store that the settings name."""
    where = settings.current()
    return Store(open_blobs(where.store), where.cache)
