"""What lies at a source now, told without reading it: names, sizes and times, or ETags. For whoever waits for a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from urllib.parse import unquote

from mlops.errors import SourceError

WATCHED = ("file", "s3")  # schemes, besides a plain path


def digest(uris: Iterable[str]) -> str:
    """sha256 over the listings of some sources; one that is empty or not there yet counts as empty.

    A file that is written again with the same bytes is another one here; the retrain that follows finds nothing new in it
    and is skipped. Raises SourceError where a place cannot be reached at all.
    """
    found = [[uri, sorted(_entries(uri))] for uri in uris]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _entries(uri: str) -> list[tuple[str, str]]:
    if uri.startswith("s3://"):
        return _objects(uri)
    if "://" in uri and not uri.startswith("file://"):
        raise SourceError(f"{uri}: cannot be watched; allowed: a path, {', '.join(each + '://' for each in WATCHED)}")
    from mlops.data.uris import locate

    entries = []
    try:
        files = locate(uri)
    except SourceError:  # nothing there, or not yet: a listing cannot tell, and a retrain says it better
        return []
    for file in files:
        try:
            stat = file.path.stat()
        except OSError:  # gone since it was listed
            continue
        entries.append((file.name, f"{stat.st_size}:{stat.st_mtime_ns}"))
    return entries


def _objects(uri: str) -> list[tuple[str, str]]:
    from botocore.exceptions import BotoCoreError, ClientError

    from mlops.blobs_s3 import S3Blobs
    from mlops.data.s3 import listed

    bucket, _, key = uri.partition("://")[2].partition("/")
    try:
        _, found = listed(S3Blobs(bucket, "").client, bucket, unquote(key).lstrip("/"))
    except (BotoCoreError, ClientError) as error:
        raise SourceError(f"{uri}: cannot be listed: {error}") from error
    return [(each.key, f"{each.size}:{each.etag}") for each in found]
