"""Documents as windows that a model can read: overlapping, cut between tokens, every token answered for by one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops.tasks.base import Ids, Logits

_OVERLAP = 0.25  # of a window: what its neighbour reads too


class Windowed(NamedTuple):
    """One document. input_ids: all windows one after the other, each with its special tokens. bounds: their ends in it.

    starts: per token of the text the place in input_ids of its first piece, in the window that answers for it.
    """

    input_ids: Ids
    bounds: Ids
    starts: Ids


def windowed(pieces: Sequence[Sequence[int]], before: Sequence[int], after: Sequence[int], longest: int) -> Windowed:
    """Windows of at most `longest` ids over the tokens' pieces [tokens], none of them empty.

    before, after: special ids around every window. A token with more pieces than a window holds loses the last ones.
    Where two windows overlap each answers for the half that is nearer to its middle, so that every token has context.
    Raises ValueError where the special ids leave no room.
    """
    room = longest - len(before) - len(after)
    if room < 1:
        raise ValueError(f"the longest window has {longest} ids, {len(before) + len(after)} of them special")
    sizes = np.array([min(len(each), room) for each in pieces], dtype=np.int64)
    cuts = _cuts(sizes, room)
    ids: list[int] = []
    bounds: list[int] = []
    starts: list[int] = []
    for number, (first, last) in enumerate(cuts):
        own = _middle(cuts, number - 1) if number else first
        end = _middle(cuts, number) if number + 1 < len(cuts) else last
        ids += before
        for token in range(first, last):
            if own <= token < end:
                starts.append(len(ids))
            ids += pieces[token][:room]
        ids += after
        bounds.append(len(ids))
    return Windowed(*(np.array(part, dtype=np.int32) for part in (ids, bounds, starts)))


def _cuts(sizes: np.ndarray[tuple[int], np.dtype[np.int64]], room: int) -> list[tuple[int, int]]:
    """First and last token (exclusive) of each window; one empty window for no tokens."""
    cuts: list[tuple[int, int]] = []
    first = 0
    ends = np.cumsum(sizes)
    while True:
        used = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, used + room, side="right"))
        cuts.append((first, last))
        if last >= len(sizes):
            return cuts
        # Back by the overlap, but at least one token further than the window before.
        back = int(np.searchsorted(ends, int(ends[last - 1]) - _OVERLAP * room, side="right"))
        first = min(max(back, first + 1), last)


def _middle(cuts: Sequence[tuple[int, int]], number: int) -> int:
    """The token from which on the window after `number` answers: the middle of what both read."""
    return (cuts[number + 1][0] + cuts[number][1] + 1) // 2


def split(row: Windowed) -> tuple[list[Ids], list[Ids]]:
    """The windows of a document, and in each the places of the tokens that it answers for, in order."""
    begins = np.concatenate([[0], row.bounds[:-1]])
    windows = [row.input_ids[begin:end] for begin, end in zip(begins, row.bounds, strict=True)]
    # Windows answer for consecutive runs of tokens, so that starts rise through the windows.
    at = np.searchsorted(row.starts, np.concatenate([begins, row.bounds[-1:]]))
    places = [row.starts[at[n] : at[n + 1]] - begins[n] for n in range(len(windows))]
    return windows, [np.asarray(part, dtype=np.int32) for part in places]


def joined(outputs: Sequence[Logits], places: Sequence[Ids]) -> Logits:
    """The logits [tokens, labels] of one document from those of its windows [length, labels]."""
    return np.concatenate([logits[where] for logits, where in zip(outputs, places, strict=True)])
