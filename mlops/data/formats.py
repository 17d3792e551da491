"""One reader per format: files in, records out. A bad record never stops the reading, and never takes much memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Any

from mlops.data.conll import read_conll
from mlops.data.csv_files import read_csv
from mlops.data.lines import SLACK, bounded_lines
from mlops.data.parquet_files import read_parquet
from mlops.data.rows import Record, bytes_preview, note_columns
from mlops.data.uris import SourceFile

# What a reader is handed besides the file: the most bytes of a cell, the columns that matter, and where to note the
# names of all columns that it came across.
Reader = Callable[[SourceFile, int, Collection[str], dict[str, None]], Iterator[Record]]


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
    most = 12 * max_bytes + SLACK
    names = _Names(wanted, seen)
    with file.path.open("rb") as stream:
        for number, line in enumerate(bounded_lines(stream, most), start=1):
            place = f"{file.name}:{number}"
            if len(line) > most:
                yield Record(place, None, "too_large", bytes_preview(line))
            elif line.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _parse(place, line, names)


class _Names:
    """The columns that matter. familiar: those of them that are noted already; most lines have no others."""

    def __init__(self, wanted: Collection[str], seen: dict[str, None]) -> None:
        self.wanted, self.seen = dict.fromkeys(wanted), seen
        self.familiar: set[str] = set()

    def kept(self, cells: dict[str, Any]) -> dict[str, Any]:
        """The cells that matter: thousands of rows wait for their batch, and may have megabytes in other columns."""
        note_columns(self.seen, cells, self.wanted)
        self.familiar |= self.wanted.keys() & cells.keys()
        return {name: cells[name] for name in self.wanted if name in cells}


def _parse(place: str, line: bytes, names: _Names) -> Record:
    import orjson

    try:
        # Strict and fast; what it does not take may still be taken by the slower one.
        value = orjson.loads(line)
    except ValueError:
        value = _lenient(line)
    if not isinstance(value, dict):
        return Record(place, None, "malformed", bytes_preview(line))
    return Record(place, value if value.keys() <= names.familiar else names.kept(value))


def _lenient(line: bytes) -> Any:
    try:
        # Bytes that are not UTF-8 become lone surrogates: the cell that holds them is told later, the others are kept.
        return json.loads(line.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return None


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
