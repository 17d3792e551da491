"""One reader per format: files in, records out. A bad record never stops the reading, and never takes much memory."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TextIO

from mlops.data.conll import read_conll
from mlops.data.lines import bounded_lines
from mlops.data.rows import PREVIEW, Record, bytes_preview, showable
from mlops.data.uris import SourceFile
from mlops.errors import SourceError

# What a reader is handed besides the file: the most bytes of a cell, the columns that matter, and where to note the
# names of all columns that it came across.
Reader = Callable[[SourceFile, int, Collection[str], dict[str, None]], Iterator[Record]]

_SLACK = 1 << 20  # of a record beyond its text: other columns, quotes, escapes
_CHUNK = 1 << 20


def read_text_folders(
    file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]
) -> Iterator[Record]:
    """CLASS/FILE.txt: the folder is the label, the file's bytes are the text (decoded later, one by one)."""
    text, label = list(wanted)[:2]  # whatever the pipeline calls them
    seen.update(dict.fromkeys(wanted))
    with file.path.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    yield Record(file.name, {text: data, label: PurePosixPath(file.name).parent.name})


def read_jsonl(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """One JSON object a line; blank lines are skipped. Lines are bytes until they are known to be short enough."""
    # A character may be written as six (\\u00e9) or twelve: room for all, but not for anything.
    most = 12 * max_bytes + _SLACK
    with file.path.open("rb") as stream:
        for number, line in enumerate(bounded_lines(stream, most), start=1):
            place = f"{file.name}:{number}"
            if len(line) > most:
                yield Record(place, None, "too_large", bytes_preview(line))
            elif line.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _parse(place, line, seen)


def _parse(place: str, line: bytes, seen: dict[str, None]) -> Record:
    import orjson

    try:
        # Strict and fast; what it does not take may still be taken by the slower one.
        value = orjson.loads(line)
    except ValueError:
        value = _lenient(line)
    if not isinstance(value, dict):
        return Record(place, None, "malformed", bytes_preview(line))
    if len(seen) < 1000 and not value.keys() <= seen.keys():
        seen.update(dict.fromkeys(map(showable, value)))
    return Record(place, value)


def _lenient(line: bytes) -> Any:
    try:
        # Bytes that are not UTF-8 become lone surrogates: the cell that holds them is told later, the others are kept.
        return json.loads(line.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return None


def read_csv(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """A header line, then records; quoted cells may hold newlines. Tabs instead of commas where the name ends in .tsv."""
    csv.field_size_limit(sys.maxsize)  # the default stops the whole file at one cell of 128 KiB
    delimiter = "\t" if file.path.suffix == ".tsv" or file.name.endswith(".tsv") else ","
    # Bytes that are not UTF-8 come in as lone surrogates and are told apart again per record.
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines = _CsvLines(stream, 4 * max_bytes + _SLACK)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)  # strict: a quote left open is a fault
        header: list[str] | None = None
        while True:
            first = lines.number + 1
            lines.start_record()
            place = f"{file.name}:{first}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                preview = showable(lines.preview)
                lines.resume_after_first_line()
                yield Record(place, None, "malformed", preview)
                continue
            if not cells:
                continue
            if header is None:
                header = [showable(name) for name in cells[:1000]]
                seen.update(dict.fromkeys(header))
            elif lines.cut:
                yield Record(place, None, "too_large", showable(max(cells, key=len)))
            elif len(cells) > len(header):
                # A comma too many has moved every later cell: none of them can be trusted.
                lines.resume_after_first_line()
                yield Record(place, None, "malformed", showable(delimiter.join(cells)))
            else:
                yield Record(place, _csv_cells(header, cells))


def _csv_cells(header: list[str], cells: list[str]) -> dict[str, Any]:
    """Cells by name; an empty cell is a missing one, as CSV cannot tell them apart."""
    return {name: cell or None for name, cell in zip(header, cells, strict=False)}


class _CsvLines:
    """Lines for csv.reader that hold the memory of one record down.

    A quote that is never closed makes the rest of a file one cell. Above `most` characters in one record only what
    csv needs to keep its place is passed on: quotes, delimiters and line ends. And a record that turns out broken
    costs its first line only: reading goes on at the second.
    """

    _MOST_REREAD = 1 << 26  # characters; a file of nothing but open quotes must not be read once per line

    def __init__(self, stream: TextIO, most: int) -> None:
        self.stream, self.most = stream, most
        self.number, self.cut, self.preview, self._length = 0, False, "", 0
        self._second: tuple[int, int] | None = None  # where the record's second line starts, and the number before it
        self._reread = 0

    def start_record(self) -> None:
        self.cut, self.preview, self._length, self._second = False, "", 0, None

    def resume_after_first_line(self) -> None:
        """Goes back to the second line of a record of several, so that an open quote swallows no row after its own."""
        if self._second and self._reread <= self._MOST_REREAD:
            self._reread += self._length
            place, self.number = self._second
            self.stream.seek(place)

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        while True:
            first = not self._length
            if not first and self._second is None:
                self._second = self.stream.tell(), self.number
            line = self._line()
            if not line:
                raise StopIteration
            self.number += 1
            self.preview = self.preview or line[:PREVIEW]
            # Asked for another line of the same record, csv is inside quotes: without a quote nothing can end there.
            if first or not self.cut or '"' in line:
                return line

    def _line(self) -> str:
        """The next line, without its content where the record is too long already; empty at the end."""
        pieces: list[str] = []
        while piece := self.stream.readline(_CHUNK):
            self._length += len(piece)
            self.cut = self.cut or self._length > self.most
            pieces.append(re.sub(r'[^",\t\r\n]+', "", piece) if self.cut else piece)
            if piece.endswith(("\n", "\r")):
                break
        return "".join(pieces)


def read_parquet(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """Rows of a Parquet file, batch by batch, only the columns that matter. Raises SourceError for a broken file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as table:
            names = table.schema_arrow.names
            seen.update(dict.fromkeys(names[:1000]))
            columns = [name for name in dict.fromkeys(wanted) if name in names]
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                values = {name: _arrow_values(batch.column(name)) for name in columns}
                for position in range(batch.num_rows):
                    number += 1
                    place = f"{file.name}:{number}"
                    cells = {name: values[name][position] for name in columns}
                    bad = [f"{name}: {cell.text}" for name, cell in cells.items() if isinstance(cell, _Unreadable)]
                    yield Record(place, None, "malformed", showable("; ".join(bad))) if bad else Record(place, cells)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{file.path}: cannot be read as Parquet: {' '.join(str(error).split())[:500]}") from error


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


READERS: dict[str, Reader] = {
    "text-folders": read_text_folders,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
    "conll": read_conll,
}
SUFFIXES = {
    "text-folders": (".txt",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
    "conll": (".conll", ".iob", ".iob2", ".bio"),
}
