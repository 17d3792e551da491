"""CSV files: records of bounded memory, of which a broken one costs no row but its own."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import TextIO

from mlops.data.lines import SLACK
from mlops.data.rows import PREVIEW, Record, note_columns, require_once, showable
from mlops.data.uris import SourceFile

_CHUNK = 1 << 20


def read_csv(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """A header line, then records; quoted cells may hold newlines. Tabs instead of commas where the name ends in .tsv."""
    csv.field_size_limit(sys.maxsize)  # the default stops the whole file at one cell of 128 KiB
    delimiter = "\t" if ".tsv" in (file.path.suffix.lower(), PurePosixPath(file.name).suffix.lower()) else ","
    # Bytes that are not UTF-8 come in as lone surrogates and are told apart again per record.
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines = _CsvLines(stream, 4 * max_bytes + SLACK)
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
                header = [showable(name) for name in cells]
                note_columns(seen, header, wanted)
                require_once(file.name, header, wanted)
                places = {name: header.index(name) for name in wanted if name in header}
            elif lines.cut:
                yield Record(place, None, "too_large", showable(max(cells, key=len)))
            elif len(cells) > len(header):
                # A comma too many has moved every later cell: none of them can be trusted. Its quotes are all closed,
                # though: what stands within them is its own, and no row.
                yield Record(place, None, "malformed", showable(delimiter.join(cells)))
            else:
                # An empty cell is a missing one, as CSV cannot tell them apart.
                yield Record(place, {name: cells[at] or None for name, at in places.items() if at < len(cells)})


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
