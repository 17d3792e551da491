"""Data sets on the hub, brought into the cache."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlparse

from mlops import settings
from mlops.errors import SourceError

if TYPE_CHECKING:
    from mlops.data.uris import SourceFile


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
