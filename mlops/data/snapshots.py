"""Rows on disk: the Parquet files of snapshots, written in batches and byte for byte the same for the same rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.config import Columns
from mlops.data.rows import Row
from mlops.types import ArtifactRef

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = "rows.parquet"
_BATCH_ROWS = 4096
_BATCH_CHARACTERS = 16_000_000


def write_raw(rows: Iterable[Row], path: Path, columns: Columns, take: float = 1.0) -> tuple[int, list[str]]:
    """Writes rows as a raw snapshot's Parquet file; returns how many, and the sorted labels of those without problem.

    take: keeps the ceil(take * n) rows whose sha256 of the row id is smallest, in their first order: a larger share
    of the same rows holds all of a smaller one. Memory: one batch, and 32 bytes per row where take is below 1.
    """
    import pyarrow.parquet as pq

    names = ["row_id", "text", "label", "problem"]
    names += [name for name in ("group", "time") if getattr(columns, name)]
    labels: set[str] = set()
    digests: list[bytes] = []
    count = 0
    full = path if take >= 1 else path.with_name("all-rows.parquet")
    with pq.ParquetWriter(full, _raw_schema(names)) as writer:
        for batch in _batches(rows):
            writer.write_table(_raw_table(batch, names))
            count += len(batch)
            if take < 1:
                digests += [hashlib.sha256(row.row_id.encode()).digest() for row in batch]
            else:
                labels.update(row.label for row in batch if row.label is not None and row.problem is None)
    if take < 1:
        kept = _share(digests, take)
        labels = _copy_kept(full, path, kept)
        full.unlink()
        count = sum(kept)
    return count, sorted(labels)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.text or "")
        if len(batch) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _raw_schema(names: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([pa.field(name, pa.string()) for name in names])


def _raw_table(batch: Sequence[Row], names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    columns = {name: [getattr(row, name) for row in batch] for name in names}
    return pa.table(columns, schema=_raw_schema(names))


def _share(digests: Sequence[bytes], take: float) -> list[bool]:
    """Which rows belong to the first share, by position; equal ids in their order."""
    order = sorted(range(len(digests)), key=lambda position: (digests[position], position))
    # A share such as 0.6 is not exact in binary: 0.6 * 5 must not become 4.
    keep = math.ceil(round(take * len(digests), 9))
    kept = [False] * len(digests)
    for position in order[:keep]:
        kept[position] = True
    return kept


def _copy_kept(full: Path, path: Path, kept: Sequence[bool]) -> set[str]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    labels: set[str] = set()
    start = 0
    with pq.ParquetFile(full) as source, pq.ParquetWriter(path, source.schema_arrow) as writer:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            table = table.filter(pa.array(kept[start : start + table.num_rows]))
            start += source.metadata.row_group(group).num_rows
            writer.write_table(table)
            good = table.filter(pc.is_null(table["problem"]))["label"].unique().to_pylist()
            labels.update(label for label in good if label is not None)
    return labels


def read_table(folder: Path, columns: Sequence[str] | None = None) -> Any:
    """The rows of a snapshot's folder as a pyarrow Table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / ROWS) as file:
        return file.read(columns=columns)


def revision(splits: dict[str, ArtifactRef], labels: Sequence[str] = ()) -> str:
    """sha256 over the splits' names and digests, and the labels: what the rows are, not where they lie."""
    lines = [f"{name} {splits[name].sha256}" for name in sorted(splits)]
    return hashlib.sha256("\n".join([*lines, *labels]).encode()).hexdigest()
