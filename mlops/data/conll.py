"""Column files of the CoNLL kind: a token a line, its tag in the last column, a blank line after each sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mlops.data.rows import Record, bytes_preview
from mlops.data.uris import SourceFile

_SLACK = 1 << 20  # of a sentence beyond its tokens: the other columns
_CHUNK = 1 << 20


def read_conll(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """One record a sentence: {"tokens": [...], "tags": [...]} as they are written; see `mlops.data.tags`.

    Columns are parted by tabs where a line has one, else by white space. -DOCSTART- lines, and comments ("# ") where a
    sentence starts, are passed over. A sentence without tags, or with a changing number of columns, is malformed.
    """
    seen.update(tokens=None, tags=None)
    most = 12 * max_bytes + _SLACK
    sentence = _Sentence(file.name, most)
    with file.path.open("rb") as stream:
        number = 0
        while line := stream.readline(_CHUNK):
            number += 1
            whole = line
            while not whole.endswith(b"\n") and (line := stream.readline(_CHUNK)):
                # Of a line that is too long only its start is kept: that it goes on is all that matters.
                whole = (whole + line) if len(whole) <= most else whole[:most] + line[-1:]
            yield from sentence.add(number, whole.removeprefix(b"\xef\xbb\xbf") if number == 1 else whole)
    yield from sentence.end()


class _Sentence:
    """The lines of the sentence that is being read."""

    def __init__(self, name: str, most: int) -> None:
        self.name, self.most = name, most
        self._start()

    def _start(self) -> None:
        self.first, self.size, self.columns, self.problem = 0, 0, 0, ""
        self.preview = b""
        self.tokens: list[str] = []
        self.tags: list[str] = []

    def add(self, number: int, line: bytes) -> Iterator[Record]:
        text = line.rstrip(b"\r\n")
        if not text.strip():
            yield from self.end()
            return
        if text.startswith(b"-DOCSTART-") or (not self.first and text.startswith(b"# ")):
            return
        self.first = self.first or number
        self.size += len(text)
        self.preview = self.preview or text[:4000]
        if self.size > self.most:
            self.problem = "too_large"
            self.tokens, self.tags = [], []
        if self.problem:
            return
        # Bytes that are not UTF-8 become lone surrogates: the cell that holds them is told later.
        cells = text.split(b"\t") if b"\t" in text else text.split()
        if len(cells) < 2 or (self.columns and len(cells) != self.columns):
            self.problem, self.preview = "malformed", text[:4000]
            return
        self.columns = len(cells)
        self.tokens.append(cells[0].decode("utf-8", "surrogateescape"))
        self.tags.append(cells[-1].decode("utf-8", "surrogateescape"))

    def end(self) -> Iterator[Record]:
        """The sentence as a record, if there is one."""
        if self.first:
            place = f"{self.name}:{self.first}"
            if self.problem:
                yield Record(place, None, self.problem, bytes_preview(self.preview))
            else:
                yield Record(place, {"tokens": self.tokens, "tags": self.tags})
        self._start()
