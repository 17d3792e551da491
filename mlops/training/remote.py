"""Pretrained models that are not on this disk, brought into the cache: only the files that `base.FILES` lists."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from mlops import settings
from mlops.errors import BaseModelError, StoreError
from mlops.training.base import FILES, allowed


def s3_folder(uri: str) -> Path:
    """The model files directly below s3://bucket/prefix, downloaded once per state of them.

    Raises BaseModelError when the bucket cannot be reached or no such file lies there.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from mlops.blobs_s3 import S3Blobs

    parts = urlparse(uri)
    bucket, prefix = parts.netloc, unquote(parts.path.strip("/"))
    if not bucket or not prefix:
        raise BaseModelError(f"{uri}: allowed: s3://bucket/prefix")
    try:
        blobs = S3Blobs(bucket, prefix)
        etags = _listing(blobs.client, bucket, prefix)
        if not etags:
            raise BaseModelError(f"{uri}: no model files lie there; looked for {', '.join(FILES)}")
        return _download(blobs, etags)
    except (BotoCoreError, ClientError, StoreError, KeyError) as error:
        raise BaseModelError(
            f"{uri}: S3 cannot be read: {error}; check AWS_ENDPOINT_URL, the credentials and that the bucket exists"
        ) from error


def _listing(client: Any, bucket: str, prefix: str) -> dict[str, str]:
    """{file name: ETag} of the allowed files directly below the prefix."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    found = {}
    for page in pages:
        for entry in page.get("Contents", []):
            name = entry["Key"][len(prefix) + 1 :]
            if "/" not in name and allowed(name):
                found[name] = entry["ETag"]
    return found


def _download(blobs: Any, etags: dict[str, str]) -> Path:
    """A folder in the cache named by endpoint, place and ETags, so that a changed model is another folder."""
    state = "\n".join([blobs.client.meta.endpoint_url, blobs.uri(""), *(f"{k} {v}" for k, v in sorted(etags.items()))])
    target = settings.current().cache / "models" / "s3" / hashlib.sha256(state.encode()).hexdigest()
    if target.is_dir():
        return target
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        for name in etags:
            blobs.download(name, temporary / name)
        temporary.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first with the same files
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def hub_folder(uri: str) -> Path:
    """hf://ORG/NAME[?revision=…] through huggingface_hub; what it has cached is used when the hub cannot be reached.

    Raises BaseModelError when there is neither.
    """
    parts = urlparse(uri)
    names = [unquote(part) for part in (parts.netloc + parts.path).split("/") if part]
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if len(names) != 2 or ".." in names or set(query) - {"revision"}:
        raise BaseModelError(f"{uri}: allowed: hf://ORG/NAME or hf://ORG/NAME?revision=…")
    # A hub client that retries for minutes is no clear error: it is told to be brief before it is first imported.
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    from huggingface_hub import snapshot_download

    try:
        revision = query.get("revision")
        return Path(snapshot_download("/".join(names), revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # the hub's client raises dozens of kinds, from several libraries
        cause = " ".join(str(error).split())[:500] or type(error).__name__
        raise BaseModelError(
            f"{uri}: the hub's model cannot be brought: {cause}; check the name, the network (HF_ENDPOINT, "
            "HF_HUB_OFFLINE, HTTPS_PROXY) and, where it is private, HF_TOKEN; or download it and name the local path"
        ) from error
