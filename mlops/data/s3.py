"""Objects on S3, brought into the cache: once per ETag, whole or not at all."""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib.parse import unquote

from mlops import settings
from mlops.data.globs import first_sign, hidden, matches
from mlops.errors import SourceError

if TYPE_CHECKING:
    from mlops.data.uris import SourceFile

DEADLINE_S = 300.0  # without a new byte, until a download is given up
_WORKERS = 8
_WHOLE = 32 << 20  # larger objects come in parts
_PART = 16 << 20
_CHUNK = 1 << 20
_LISTINGS = 3


class _Object(NamedTuple):
    key: str
    etag: str
    size: int


class _Changed(Exception):
    """The object is no longer the one that the listing named; carries its key."""


class _Stopped(Exception):
    """Another object's download has failed already."""


def s3_files(uri: str) -> list[SourceFile]:
    """The objects of s3://bucket/KEY, downloaded once per ETag; AWS_ENDPOINT_URL is honoured.

    KEY: an object, a folder of objects, or a glob that means what it means on a disk; names are below the folder.
    Raises SourceError when the bucket cannot be reached, nothing lies there, or the objects change all the time.
    """
    return _files(uri, DEADLINE_S)


def _files(uri: str, deadline_s: float) -> list[SourceFile]:
    from botocore.exceptions import BotoCoreError, ClientError

    from mlops.blobs_s3 import S3Blobs

    # Not urlparse: to it a "?" starts a query, here it is a glob sign.
    bucket, _, key = uri.partition("://")[2].partition("/")
    key = unquote(key).lstrip("/")
    if not bucket:
        raise SourceError(f"{uri}: found no bucket; allowed: s3://bucket/key-or-prefix")
    changed = ""
    try:
        client = S3Blobs(bucket, "").client
        for _ in range(_LISTINGS):
            start, objects = listed(client, bucket, key)
            if not objects:
                raise SourceError(f"{uri}: nothing lies there; check the bucket and the key or prefix")
            try:
                return _bring(client, bucket, objects, start, deadline_s)
            except _Changed as error:
                # What has come is in the cache: only the changed ones are fetched after the next listing.
                changed = str(error)
    except (BotoCoreError, ClientError) as error:
        raise SourceError(
            f"{uri}: S3 cannot be read: {error}; check AWS_ENDPOINT_URL, the credentials and that the bucket exists"
        ) from error
    raise SourceError(
        f"{uri}: {changed} changed while it was read, {_LISTINGS} times in a row; wait for its writer, or name a copy"
    )


def listed(client: Any, bucket: str, key: str) -> tuple[int, list[_Object]]:
    """(where names start, the object of that key, or else those below it as a folder, or else those that match it)."""
    fixed, pattern = _split(key)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key[: first_sign(key)])
    folder = key if not key or key.endswith("/") else key + "/"
    exact, below, matching = [], [], []
    for page in pages:
        for entry in page.get("Contents", []):
            found = _Object(entry["Key"], entry["ETag"], entry["Size"])
            if found.key == key:
                exact.append(found)
            # Names that end in "/" are how some tools draw a folder; dot names are skipped as on a disk.
            elif found.key.endswith("/"):
                continue
            elif found.key.startswith(folder) and not hidden(found.key[len(folder) :].split("/")):
                below.append(found)
            elif pattern and matches(pattern, found.key[len(fixed) :].split("/")):
                matching.append(found)
    if exact or below or not pattern:
        return (0 if not key else len(key.rstrip("/")) + 1), exact or below
    return len(fixed), matching


def _split(key: str) -> tuple[str, list[str]]:
    """(the folder before the first glob sign, the parts from there on); no parts where there is no glob."""
    first = first_sign(key)
    if first == len(key):
        return key, []
    start = key.rfind("/", 0, first) + 1
    return key[:start], key[start:].rstrip("/").split("/")


def _bring(client: Any, bucket: str, objects: list[_Object], start: int, deadline_s: float) -> list[SourceFile]:
    """All objects as files, several at a time. Raises _Changed where one is no longer what was listed."""
    from mlops.data.uris import SourceFile

    getter, stop = _getter(client), Event()

    def bring(found: _Object) -> SourceFile | _Changed:
        name = found.key[start:] or found.key.rsplit("/", 1)[-1]
        try:
            return SourceFile(name, _download(getter, bucket, found, stop, deadline_s))
        except _Changed as changed:  # no reason to stop the others: the next round finds them in the cache
            return changed

    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            results = list(pool.map(bring, objects))
        finally:
            stop.set()  # or leaving the pool would wait for downloads that nobody wants any more
    files = []
    for result in results:
        if isinstance(result, _Changed):
            raise result
        files.append(result)
    return sorted(files)


def _getter(client: Any) -> Any:
    """The client for downloads: it retries nothing itself, so that the deadline holds."""
    import boto3
    from botocore.config import Config

    once = Config(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=_WORKERS)
    return boto3.client("s3", config=client.meta.config.merge(once))


def _download(client: Any, bucket: str, found: _Object, stop: Event, deadline_s: float) -> Path:
    """The object's file in the cache; named by endpoint, key and ETag, so a changed object is another file."""
    identity = f"{client.meta.endpoint_url}\n{bucket}\n{found.key}\n{found.etag}"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    target = settings.current().cache / "sources" / "s3" / digest[:2] / digest
    if target.exists() and target.stat().st_size == found.size:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            _fill(client, bucket, found, file, stop, deadline_s)
        if (size := temporary.stat().st_size) != found.size:
            raise SourceError(f"s3://{bucket}/{found.key}: {size} bytes came, the listing says {found.size}; try again")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _fill(client: Any, bucket: str, found: _Object, file: BinaryIO, stop: Event, deadline_s: float) -> None:
    """Writes the object's bytes; a part that breaks off goes on where it broke, until nothing comes for deadline_s."""
    from botocore.exceptions import BotoCoreError, ClientError

    moved, failures = time.monotonic(), 0
    while (done := file.tell()) < found.size:
        end = found.size if found.size <= _WHOLE else min(done + _PART, found.size)
        try:
            _part(client, bucket, found, file, end, stop)
        except (BotoCoreError, ClientError) as error:
            if _is_change(error):
                raise _Changed(found.key) from error
            if not _is_passing(error):
                raise
            if file.tell() > done:
                moved, failures = time.monotonic(), 0
            pause = min(20.0, 0.5 * 2**failures) * random.uniform(0.5, 1.0)
            if time.monotonic() + pause - moved > deadline_s:
                raise SourceError(
                    f"s3://{bucket}/{found.key}: S3 cannot be read: no new byte for {deadline_s:g} s, "
                    f"{file.tell()} of {found.size} came: {error}; check the network and the server"
                ) from error
            failures += 1
            if stop.wait(pause):
                raise _Stopped(found.key) from error
        else:
            moved, failures = time.monotonic(), 0


def _part(client: Any, bucket: str, found: _Object, file: BinaryIO, end: int, stop: Event) -> None:
    """Appends the bytes up to `end`. Raises _Changed when they are another object's."""
    start = file.tell()
    options = {} if (start, end) == (0, found.size) else {"Range": f"bytes={start}-{end - 1}"}
    # IfMatch: the bytes that the listing named, not those of somebody who wrote in between.
    answer = client.get_object(Bucket=bucket, Key=found.key, IfMatch=found.etag, **options)
    with closing(answer["Body"]) as body:  # closed early, its connection is not used again
        # Not every store knows IfMatch.
        if answer.get("ETag", found.etag).strip('"') != found.etag.strip('"'):
            raise _Changed(found.key)
        if answer["ContentLength"] != end - start:
            raise SourceError(
                f"s3://{bucket}/{found.key}: asked for {end - start} bytes of {found.size}, the server sends "
                f"{answer['ContentLength']}; it, or a proxy before it, does not answer ranges or lists a wrong size"
            )
        for chunk in body.iter_chunks(_CHUNK):
            file.write(chunk)
            if stop.is_set():
                raise _Stopped(found.key)


def _is_change(error: Exception) -> bool:
    """Whether S3 says that the object is not the one that was listed: it is gone, another, or shorter."""
    status, code = _answer(error)
    return status in (404, 412, 416) and code != "NoSuchBucket"


def _is_passing(error: Exception) -> bool:
    """Whether an error may be gone in a moment: the network's, or a server's that has too much to do."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    status, code = _answer(error)
    if status:
        return status in (408, 429) or status >= 500 or code in ("RequestTimeout", "SlowDown", "Throttling")
    return isinstance(error, NoConnection | HTTPClientError | IncompleteReadError)


def _answer(error: Exception) -> tuple[int, str]:
    """(HTTP status, S3's code) of an error; 0 and nothing where there was no answer."""
    response = getattr(error, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0, response.get("Error", {}).get("Code", "")
