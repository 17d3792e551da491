"""Bytes by key in an S3 bucket, through boto3."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops.blobs import Stat
from mlops.errors import StoreError, UserError

_WRITER = "evergreen-writer"  # in the metadata of a key, a mark of the call of `create` that made it
_MISSING = ("404", "NoSuchKey", "NotFound")
_MENDABLE = {
    "NoSuchBucket", "InvalidBucketName", "AccessDenied", "403", "Forbidden",
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
}  # fmt: skip


class S3Blobs:
    """A bucket and prefix; AWS_ENDPOINT_URL and the usual variables are honoured.

    Every method raises UserError where the bucket or the credentials are wrong, StoreError where S3 fails otherwise.
    """

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
        self.bucket, self.prefix = bucket, prefix.strip("/")
        with self._telling(""):
            self.client: Any = boto3.client("s3", config=config)

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    @contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        """Errors of boto3 as our own; a missing key as KeyError."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise KeyError(key) from None
            kind = UserError if code in _MENDABLE else StoreError
            raise kind(f"{self.uri(key)}: {error}{_advice(kind)}") from error
        except (NoCredentialsError, PartialCredentialsError, ValueError) as error:  # ValueError: a malformed endpoint
            raise UserError(f"{self.uri(key)}: {error}{_advice(UserError)}") from error
        except Boto3Error as error:  # a transfer wraps what went wrong in a sentence
            kind = UserError if any(code in str(error) for code in _MENDABLE) else StoreError
            raise kind(f"{self.uri(key)}: {error}{_advice(kind)}") from error
        except BotoCoreError as error:
            raise StoreError(f"{self.uri(key)}: S3 cannot be reached: {error}") from error

    def exists(self, key: str) -> bool:
        try:
            with self._telling(key):
                self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        except KeyError:
            return False
        return True

    def read(self, key: str) -> bytes:
        with self._telling(key):
            body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
        return bytes(body)

    def write(self, key: str, data: bytes) -> None:
        with self._telling(key):
            self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        writer = uuid.uuid4().hex
        place = {"Bucket": self.bucket, "Key": self._key(key)}
        with self._telling(key):
            try:
                self.client.put_object(**place, Body=data, IfNoneMatch="*", Metadata={_WRITER: writer})
            except ClientError as error:
                told = error.response.get("ResponseMetadata", {})
                if told.get("HTTPStatusCode") not in (409, 412):
                    raise
                # A try that was done but not answered is sent again by botocore, and finds what it made itself.
                return bool(told.get("RetryAttempts")) and self._writer(key) == writer
        return True

    def _writer(self, key: str) -> str | None:
        """Who made a key by `create`; none where nobody did."""
        try:
            with self._telling(key):
                found = self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        except KeyError:
            return None
        writer: str | None = found["Metadata"].get(_WRITER)
        return writer

    def upload(self, key: str, path: Path) -> None:
        with self._telling(key):
            self.client.upload_file(str(path), self.bucket, self._key(key))

    def download(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._telling(key):
            self.client.download_file(self.bucket, self._key(key), str(path))

    def list(self, prefix: str) -> list[str]:
        return sorted(self._listed(prefix))

    def _listed(self, prefix: str) -> dict[str, Any]:
        """What S3 says of each key."""
        cut = len(self.prefix) + 1 if self.prefix else 0
        with self._telling(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            return {entry["Key"][cut:]: entry for page in pages for entry in page.get("Contents", [])}

    def stats(self, prefix: str) -> dict[str, Stat]:
        now = datetime.datetime.now(datetime.UTC)
        return {
            key: Stat((now - entry["LastModified"]).total_seconds(), int(entry["Size"]))
            for key, entry in self._listed(prefix).items()
        }

    def touch(self, key: str) -> bool:
        place = {"Bucket": self.bucket, "Key": self._key(key)}
        try:
            with self._telling(key):  # S3 has no other way to renew a date, and refuses a copy that changes nothing
                self.client.copy_object(**place, CopySource=place, MetadataDirective="REPLACE")
        except KeyError:
            return False
        return True

    def remove(self, key: str) -> None:
        with self._telling(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def local(self, key: str) -> Path | None:
        return None


def _advice(kind: type[Exception]) -> str:
    return "; check the bucket's name, AWS_ENDPOINT_URL and the credentials" if kind is UserError else ""
