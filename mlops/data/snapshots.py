"""Rows on disk: the Parquet files of snapshots, written in batches and byte for byte the same for the same rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops.config_data import GOLDEN, SLICE, Columns
from mlops.data.batches import schema
from mlops.types import ArtifactRef, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = "rows.parquet"
# Texts hardly repeat: a dictionary of them costs time and saves nothing.
_FEW_VALUES = ["label", "problem", "group", "query"]
_GROUP_ROWS, _GROUP_BYTES = 1 << 14, 1 << 25  # a group of rows ends with the row that reaches either
Flags = npt.NDArray[np.bool_]
Names = Callable[[str], Iterable[str]]


def write_raw(tables: Iterable[pa.Table], path: Path, columns: Columns, names: Names) -> tuple[int, set[str]]:
    """Writes a raw snapshot's Parquet file; returns how many rows, and the labels of those without problem.

    names: the labels that a label cell names. Memory: one group of rows and one table.
    """
    return _write(tables, path, schema(columns), names)


def _write(tables: Iterable[pa.Table], path: Path, fields: pa.Schema, names: Names) -> tuple[int, set[str]]:
    import pyarrow.parquet as pq

    labels: set[str] = set()
    count = 0
    with pq.ParquetWriter(path, fields, use_dictionary=_few(fields)) as writer:
        for table in _groups(tables):
            writer.write_table(table, row_group_size=table.num_rows)
            count += table.num_rows
            labels |= _labels(table, names)
    return count, labels


def _few(fields: pa.Schema) -> list[str]:
    return [name for name in fields.names if name in _FEW_VALUES or name.startswith(SLICE)]


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows as tables whose ends depend on the rows alone, not on how they came: equal rows are equal bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held: list[pa.Table] = []
    rows, size = 0, 0
    for table in tables:
        sizes = pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy().astype(np.int64)
        start = 0
        while start < table.num_rows:
            sums = size + np.cumsum(sizes[start : start + _GROUP_ROWS - rows])
            # The row that fills the group is still in it.
            taken = min(int(np.searchsorted(sums, _GROUP_BYTES)) + 1, len(sums))
            held.append(table.slice(start, taken))
            start, rows, size = start + taken, rows + taken, int(sums[taken - 1])
            if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                yield pa.concat_tables(held).combine_chunks()
                held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _labels(table: pa.Table, names: Names) -> set[str]:
    import pyarrow.compute as pc

    good = table if table["problem"].null_count == table.num_rows else table.filter(pc.is_null(table["problem"]))
    return {name for cell in good["label"].unique().to_pylist() if cell is not None for name in names(cell)}


def keep_rows(full: Path, path: Path, kept: Flags, problems: dict[int, str], names: Names) -> set[str]:
    """Copies the rows [n] that are kept, with problems found since by row number; the labels of those without problem."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(full) as source:
        return _write(_kept(source, kept, problems), path, source.schema_arrow, names)[1]


def _kept(source: Any, kept: Flags, problems: dict[int, str]) -> Iterator[pa.Table]:
    import pyarrow as pa

    start = 0
    for group in range(source.num_row_groups):
        table = source.read_row_group(group)
        size = table.num_rows
        mine = {place - start: why for place, why in problems.items() if start <= place < start + size}
        if mine:
            column = table["problem"].to_pylist()
            for place, why in mine.items():
                column[place] = column[place] or why
            place = table.schema.get_field_index("problem")
            table = table.set_column(place, "problem", pa.array(column, pa.string()))
        yield table.filter(pa.array(kept[start : start + size]))
        start += size


def share(row_ids: Iterable[str], take: float) -> Flags:
    """Which rows belong to the first share: the ceil(take * n) whose sha256 of the row id is smallest, equal ones in order.

    A larger share of the same rows holds all of a smaller one.
    """
    digests = [hashlib.sha256(name.encode()).digest() for name in row_ids]
    order = sorted(range(len(digests)), key=lambda position: (digests[position], position))
    # A share such as 0.6 is not exact in binary: 0.6 * 5 must not become 4.
    keep = math.ceil(round(take * len(digests), 9))
    kept = np.zeros(len(digests), dtype=bool)
    kept[order[:keep]] = True
    return kept


def read_table(folder: Path, columns: Sequence[str] | None = None) -> Any:
    """The rows of a snapshot's folder as a pyarrow Table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / ROWS) as file:
        return file.read(columns=columns)


def own_splits(snapshot: Snapshot) -> dict[str, ArtifactRef]:
    """The splits of the data itself: without the golden rows, which nothing is measured by but models."""
    return {name: ref for name, ref in snapshot.splits.items() if name != GOLDEN}


def revision(splits: dict[str, ArtifactRef], labels: Sequence[str] = ()) -> str:
    """sha256 over the splits' names and digests, and the labels: what the rows are, not where they lie."""
    lines = [f"{name} {splits[name].sha256}" for name in sorted(splits)]
    return hashlib.sha256("\n".join([*lines, *labels]).encode()).hexdigest()
