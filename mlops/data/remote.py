"""Sources that are not on this disk: objects on S3 and data sets on the hub, brought into the cache."""

from __future__ import annotations

import hashlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlparse

from mlops import settings
from mlops.errors import SourceError

if TYPE_CHECKING:
    from mlops.data.uris import SourceFile

_WORKERS = 8


def s3_files(uri: str) -> list[SourceFile]:
    """The objects of s3://bucket/key-or-prefix, downloaded once per ETag; AWS_ENDPOINT_URL is honoured.

    Raises SourceError when the bucket cannot be reached or nothing lies there.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from mlops.blobs_s3 import S3Blobs
    from mlops.data.uris import SourceFile

    parts = urlparse(uri)
    bucket, key = parts.netloc, unquote(parts.path.lstrip("/"))
    if not bucket:
        raise SourceError(f"{uri}: found no bucket; allowed: s3://bucket/key-or-prefix")
    try:
        client = S3Blobs(bucket, "").client
        objects = _objects(client, bucket, key)
        if not objects:
            raise SourceError(f"{uri}: nothing lies there; check the bucket and the key or prefix")
        start = 0 if not key else (len(key.rstrip("/")) + 1)

        def bring(entry: tuple[str, str]) -> SourceFile:
            name, etag = entry
            inside = name[start:] or name.rsplit("/", 1)[-1]
            return SourceFile(inside, _download(client, bucket, name, etag))

        with ThreadPoolExecutor(_WORKERS) as pool:
            return sorted(pool.map(bring, objects))
    except (BotoCoreError, ClientError) as error:
        raise SourceError(
            f"{uri}: S3 cannot be read: {error}; check AWS_ENDPOINT_URL, the credentials and that the bucket exists"
        ) from error


def _objects(client: Any, bucket: str, key: str) -> list[tuple[str, str]]:
    """(key, ETag) of the object of that name, or else of those below it as a folder."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    folder = key if not key or key.endswith("/") else key + "/"
    exact, below = [], []
    for page in pages:
        for entry in page.get("Contents", []):
            found = (entry["Key"], entry["ETag"])
            if entry["Key"] == key:
                exact.append(found)
            # Names that end in "/" are how some tools draw a folder; dot names are skipped as on a disk.
            elif entry["Key"].startswith(folder) and not entry["Key"].endswith("/"):
                below.append(found)
    visible = [found for found in below if "/." not in "/" + found[0][len(folder) :]]
    return exact or visible


def _download(client: Any, bucket: str, key: str, etag: str) -> Path:
    """The object's file in the cache; named by endpoint, key and ETag, so a changed object is another file."""
    digest = hashlib.sha256(f"{client.meta.endpoint_url}\n{bucket}\n{key}\n{etag}".encode()).hexdigest()
    target = settings.current().cache / "sources" / "s3" / digest[:2] / digest
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        # IfMatch: the bytes that the listing named, not those of somebody who wrote in between.
        body = client.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"]
        with temporary.open("wb") as file:
            for chunk in body.iter_chunks(1 << 20):
                file.write(chunk)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def hub_files(uri: str, label: str) -> list[SourceFile]:
    """hf://ORG/NAME[/config][?split=train&revision=main] as one Parquet file; class numbers become their names.

    Without a split: "train", or the only one there is. Raises SourceError when it cannot be reached or has no such split.
    """
    from mlops.data.uris import SourceFile

    parts = urlparse(uri)
    names = [unquote(part) for part in (parts.netloc + parts.path).split("/") if part]
    if len(names) not in (2, 3) or ".." in names:
        raise SourceError(f"{uri}: allowed: hf://ORG/NAME or hf://ORG/NAME/CONFIG, with ?split= and ?revision=")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    unknown = sorted(set(query) - {"split", "revision"})
    if unknown:
        raise SourceError(f"{uri}: found {', '.join(unknown)} after the '?'; allowed: split, revision")
    splits = _load(uri, "/".join(names[:2]), names[2] if len(names) == 3 else None, query.get("revision"))
    wanted = query.get("split") or ("train" if "train" in splits or len(splits) != 1 else next(iter(splits)))
    if wanted not in splits:
        raise SourceError(f"{uri}: found no split {wanted!r}; it has: {', '.join(splits)}; name one with ?split=")
    data = splits[wanted]
    target = settings.current().cache / "sources" / "hub" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.parquet"
    _to_parquet(data, label, target)
    return [SourceFile(f"{'-'.join(names)}-{wanted}.parquet", target)]


def _load(uri: str, name: str, config: str | None, revision: str | None) -> dict[str, Any]:
    # A hub client that retries for minutes is no clear error: it is told to be brief before it is first imported.
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    from datasets import load_dataset

    try:
        return dict(load_dataset(name, config, revision=revision))
    except Exception as error:  # datasets raises dozens of kinds, from several libraries
        cause = " ".join(str(error).split())[:500] or type(error).__name__
        raise SourceError(
            f"{uri}: the hub's data set cannot be loaded: {cause}; check the name, the network (HF_ENDPOINT, "
            "HF_HUB_OFFLINE, HTTPS_PROXY) and, where it is private, HF_TOKEN; or download it and name the local path"
        ) from error


def _to_parquet(data: Any, label: str, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = getattr(data.features.get(label), "names", None)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    writer: Any = None
    for batch in data.with_format("arrow").iter(batch_size=5000):
        table = batch.replace_schema_metadata(None)
        if names is not None:
            numbers = table.column(label).to_pylist()
            known = [names[n] if n is not None and 0 <= n < len(names) else None for n in numbers]
            table = table.set_column(table.column_names.index(label), label, pa.array(known, pa.string()))
        writer = writer or pq.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
    if writer is None:
        raise SourceError(f"the hub's data set {target.stem} has no rows")
    writer.close()
    temporary.replace(target)
