"""What a server allows, and how it is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may be.

    body_bytes, items, characters (of one text), depth (of the JSON) of a request. body_seconds: until its body is there.
    deadline_seconds: the longest that a request may wait for its answer, and what it waits if it does not say. waiting: texts
    that may wait before the next request is refused. buffered_bytes: of all bodies that are being received.
    """

    body_bytes: int = 2_000_000
    items: int = 1024
    characters: int = 100_000
    depth: int = 16
    body_seconds: float = 10.0
    deadline_seconds: float = 30.0
    waiting: int = 512
    buffered_bytes: int = 64_000_000
