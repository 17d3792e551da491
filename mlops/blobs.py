"""Bytes by key on a local folder or S3: the one seam between the store and the outside."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from mlops.errors import StoreError, UserError


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

    def local(self, key: str) -> Path | None:
        return self._path(key)


class S3Blobs:
    """A bucket and prefix through boto3; AWS_ENDPOINT_URL and the usual variables are honoured."""

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        checksums: Any = {}
        if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3"):
            # boto3's default trailing checksums are unknown to some S3-compatible stores.
            checksums = {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        config = Config(
            retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60, **checksums
        )
        self.client: Any = boto3.client("s3", config=config)
        self.bucket, self.prefix = bucket, prefix.strip("/")

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def _status(self, error: Any) -> int:
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        except ClientError as error:
            if self._status(error) == 404:
                return False
            raise StoreError(f"{self.uri(key)}: {error}") from error
        return True

    def read(self, key: str) -> bytes:
        from botocore.exceptions import ClientError

        try:
            return bytes(self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read())
        except ClientError as error:
            if self._status(error) == 404:
                raise KeyError(key) from None
            raise StoreError(f"{self.uri(key)}: {error}") from error

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
        except ClientError as error:
            if self._status(error) in (409, 412):
                return False
            raise StoreError(f"{self.uri(key)}: {error}") from error
        return True

    def upload(self, key: str, path: Path) -> None:
        self.client.upload_file(str(path), self.bucket, self._key(key))

    def download(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.client.download_file(self.bucket, self._key(key), str(path))

    def list(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
        cut = len(self.prefix) + 1 if self.prefix else 0
        return sorted(entry["Key"][cut:] for page in pages for entry in page.get("Contents", []))

    def local(self, key: str) -> Path | None:
        return None


def open_blobs(uri: str) -> Blobs:
    """Blobs at a file:// or s3:// URI; UserError for anything else."""
    parts = urlparse(uri)
    if parts.scheme == "file":
        return LocalBlobs(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Blobs(parts.netloc, parts.path)
    raise UserError(f"EVERGREEN_STORE is {uri!r}; allowed: file:///folder or s3://bucket/prefix")
