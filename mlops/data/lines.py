"""Lines of files that nobody has checked yet: however long one is, it takes little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

SLACK = 1 << 20  # of a line or record beyond its text: other columns, quotes, escapes
_CHUNK = 1 << 20


def bounded_lines(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Lines of a binary stream; of a line above `most` bytes only the first most + 1 are kept."""
    while line := stream.readline(most + 1):
        kept, tail = line, line
        while not tail.endswith(b"\n") and (tail := stream.readline(_CHUNK)):
            pass
        yield kept
