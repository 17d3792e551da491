"""Parquet files: rows in pieces of bounded memory, whatever their cells unpack to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from mlops.data.packed import MAX_RATIO
from mlops.data.rows import Record, note_columns, require_once, showable
from mlops.data.uris import SourceFile
from mlops.errors import SourceError

_ROWS = 1024  # at once
_PIECE = 16 << 20  # bytes that they may unpack to; the libraries take several times as much
_LARGE = 64 << 20  # bytes of a column in a row group that are no cause for a closer look


def read_parquet(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """Rows of a Parquet file, piece by piece, only the columns that matter. Raises SourceError for a broken file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as table:
            names = table.schema_arrow.names
            note_columns(seen, names, wanted)
            require_once(file.name, names, wanted)
            columns = [name for name in dict.fromkeys(wanted) if name in names]
            number = 0
            for batch in _batches(file, table, columns):
                for cells in _cells(batch, columns):
                    number += 1
                    place = f"{file.name}:{number}"
                    yield Record(place, cells) if type(cells) is dict else Record(place, None, "malformed", str(cells))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{file.path}: cannot be read as Parquet: {' '.join(str(error).split())[:500]}") from error


def _cells(batch: Any, columns: list[str]) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch: cells by column, or why one of them has no value."""
    if not columns:
        yield from ({} for _ in range(batch.num_rows))
    values = [_arrow_values(batch.column(name)) for name in columns]
    if not any(_Unreadable in set(map(type, column)) for column in values):
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))
        return
    for row in zip(*values, strict=True):
        bad = [f"{n}: {cell.text}" for n, cell in zip(columns, row, strict=True) if isinstance(cell, _Unreadable)]
        yield showable("; ".join(bad)) if bad else dict(zip(columns, row, strict=True))


def _batches(file: SourceFile, table: Any, columns: list[str]) -> Iterator[Any]:
    def rows(group: int) -> int:
        return _rows_at_once(file, table, group, columns)

    for size, groups in groupby(range(table.num_row_groups), rows):
        yield from table.iter_batches(batch_size=size, row_groups=list(groups), columns=columns)


def _rows_at_once(file: SourceFile, table: Any, group: int, columns: list[str]) -> int:
    """How many rows of a row group may be unpacked at once. Raises SourceError for a decompression bomb."""
    import pyarrow as pa

    size = _ROWS
    found = table.metadata.row_group(group)
    for chunk in map(found.column, range(found.num_columns)):
        name = next((n for n in columns if chunk.path_in_schema == n or chunk.path_in_schema.startswith(f"{n}.")), None)
        if name is None:
            continue
        total = chunk.total_uncompressed_size
        if total > max(_LARGE, MAX_RATIO * chunk.total_compressed_size):
            raise SourceError(
                f"{file.path}: its column {name!r} unpacks from {chunk.total_compressed_size:,} to {total:,} bytes in one "
                f"row group, more than {MAX_RATIO} times its size; it looks like a decompression bomb; if you trust it, "
                "write it anew with smaller row groups"
            )
        kind = table.schema_arrow.field(name).type
        if pa.types.is_dictionary(kind):
            continue  # each value is in memory once, however many rows have it
        if total > _LARGE:
            # Some cells may be far longer than most.
            size = min(size, _ROWS // 8, _PIECE * found.num_rows // total)
        if total * _ROWS > _PIECE:
            size = min(size, _PIECE // (_longest(file, table, group, chunk, kind) or 1))
    return max(1, size)


def _longest(file: SourceFile, table: Any, group: int, chunk: Any, kind: Any) -> int:
    """The most bytes that a cell may have without being as long in the file: such cells multiply when they are unpacked."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    total: int = chunk.total_uncompressed_size
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        # Each cell may repeat all of the one before. No writer knows the longest: a few at a time will do.
        return min(total, _PIECE // 16)
    if not chunk.has_dictionary_page or chunk.physical_type != "BYTE_ARRAY":
        return 0
    path: str = chunk.path_in_schema
    with pq.ParquetFile(file.path, metadata=table.metadata, read_dictionary=[path]) as same:
        for batch in same.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[path]):
            column = batch.column(0)
            if not pa.types.is_dictionary(column.type):
                return min(total, _PIECE // 16)  # within a list: told apart no further
            if len(column.dictionary):  # empty where all of these rows have no value
                return int(pc.max(pc.binary_length(column.dictionary.cast(pa.large_binary()))).as_py() or 0)
    return 0


def _arrow_values(column: Any) -> list[Any]:
    """A column's values; texts as bytes, because one that is not UTF-8 must not spoil the batch."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        inner = column.dictionary
        raw = inner.cast(pa.large_binary()) if _is_text(inner.type) else inner
        values = raw.to_pylist()
        return [None if code is None else values[code] for code in column.indices.to_pylist()]
    if _is_text(column.type):
        column = column.cast(pa.large_binary())
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, ArithmeticError):  # such as a time stamp beyond the year 9999
        return [_value(cell) for cell in column]


class _Unreadable(NamedTuple):
    """A cell that has no value in Python; text says why."""

    text: str


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, ArithmeticError) as error:
        return _Unreadable(f"{cell.type}: {error}")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
