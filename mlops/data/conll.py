"""Column files of the CoNLL kind: a token a line, its tag in the last column, a blank line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from mlops.data.lines import bounded_lines
from mlops.data.rows import PREVIEW, Record, bytes_preview
from mlops.data.uris import SourceFile

_SLACK = 1 << 20  # of a line beyond its token: the other columns
# What a last column looks like; that of a comment ("# sent_id = 7") seldom does.
_TAG = re.compile(rb"O|[A-Z]-\S+")


def read_conll(file: SourceFile, max_bytes: int, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """One record a sentence: {"tokens": [...], "tags": [...]} as they are written; see `mlops.data.tags`.

    Columns are parted by tabs where a line has one, else by white space. -DOCSTART- lines end a sentence as blank ones
    do; comments ("# ") where a sentence starts are passed over. A sentence without tags, or with a changing number of
    columns, is malformed; one whose tokens, or tags, together are above max_bytes is too large.
    """
    seen.update(tokens=None, tags=None)
    most = max_bytes + _SLACK
    sentence = _Sentence(file.name, max_bytes)
    with file.path.open("rb") as stream:
        for number, line in enumerate(bounded_lines(stream, most), start=1):
            text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip(b"\r\n")
            if not text.strip() or text.startswith(b"-DOCSTART-"):
                yield from sentence.end()
            else:
                sentence.add(number, text, cut=len(line) > most)
    yield from sentence.end()


class _Sentence:
    """The sentence that is being read. A broken or long one is no longer held, only told."""

    def __init__(self, name: str, max_bytes: int) -> None:
        self.name, self.max_bytes = name, max_bytes
        self._start()

    def _start(self) -> None:
        self.first, self.columns, self.problem, self.preview = 0, 0, "", b""
        self.doubtful = False  # whether all lines so far may yet turn out to be comments
        self._clear()

    def _clear(self) -> None:
        self.tokens: list[str] = []
        self.tags: list[str] = []
        self.sizes = [0, 0]  # bytes of the tokens and of the tags, each with what parts it from the next

    def add(self, number: int, text: bytes, cut: bool) -> None:
        """One line that is not blank. cut: whether only the start of it is here."""
        cells = text.split(b"\t") if b"\t" in text else text.split()
        if text.startswith(b"# ") and (not self.first or self.doubtful):
            # Between white space "# O" is the token "#": it counts until the lines after it have other columns.
            if cut or b"\t" in text or len(cells) < 2 or not _TAG.fullmatch(cells[-1]):
                return
            self.doubtful = True
        elif self.doubtful:
            if b"\t" in text or len(cells) != self.columns:
                self._start()
            self.doubtful = False
        self.first = self.first or number
        self.preview = self.preview or text[: 4 * PREVIEW]
        if cut:
            self._fail("too_large")
        elif not self.problem:
            self._take(cells, text)

    def _take(self, cells: list[bytes], text: bytes) -> None:
        if len(cells) < 2 or (self.columns and len(cells) != self.columns):
            self.preview = text[: 4 * PREVIEW]
            self._fail("malformed")
            return
        self.columns = len(cells)
        self.sizes = [self.sizes[0] + len(cells[0]) + 1, self.sizes[1] + len(cells[-1]) + 1]
        if max(self.sizes) > self.max_bytes + 1:
            self._fail("too_large")
            return
        # Bytes that are not UTF-8 become lone surrogates: the cell that holds them is told later.
        self.tokens.append(cells[0].decode("utf-8", "surrogateescape"))
        self.tags.append(cells[-1].decode("utf-8", "surrogateescape"))

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._clear()

    def end(self) -> Iterator[Record]:
        """The sentence as a record, if there is one."""
        if self.first:
            place = f"{self.name}:{self.first}"
            if self.problem:
                yield Record(place, None, self.problem, bytes_preview(self.preview))
            else:
                yield Record(place, {"tokens": self.tokens, "tags": self.tags})
        self._start()
