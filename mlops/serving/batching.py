"""What is computed next: the texts of all requests that wait, dealt into batches by a budget of tokens, fairly.

A virtual clock, as of networks: every request pays for its texts in tokens and who would have paid least after its next
text goes first (Golestani, "A self-clocked fair queueing scheme for broadband applications", INFOCOM 1994). So a request
of a thousand texts, or of a long one, shares the model with the short ones that come after it instead of standing before
them, and none waits for ever: whoever arrives begins at the clock, which has moved on with what was computed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlops.serving.inputs import Encoded
from mlops.tasks.base import Logits


@dataclass(eq=False)
class Work:
    """One request's items. dropped: whether nobody waits for them any more. logits: one per item, as they are computed.

    starts: where each item's sequences begin in `encoded`, and their end. costs: tokens per item.
    """

    encoded: Encoded
    starts: list[int]
    costs: list[int]
    dropped: Callable[[], bool]
    owner: Any = None
    logits: list[Logits | None] = field(default_factory=list)
    next: int = 0
    left: int = 0
    paid: int = 0

    @classmethod
    def of(cls, encoded: Encoded, items: int, dropped: Callable[[], bool], owner: Any = None) -> Work:
        """Work from what the encoder made of so many items."""
        starts = np.searchsorted(encoded.items, np.arange(items + 1)).tolist()
        lengths = [len(ids) for ids in encoded.input_ids]
        costs = [max(1, sum(lengths[first:last])) for first, last in itertools.pairwise(starts)]
        return cls(encoded, starts, costs, dropped, owner, [None] * items, left=items)

    @property
    def tokens(self) -> int:
        return sum(self.costs)


Pick = tuple[Work, int]  # an item of a request


class Fair:
    """The items that wait for one model."""

    def __init__(self) -> None:
        self._clock = 0
        self._waiting: list[tuple[int, int, Work]] = []
        self._turn = itertools.count()

    def __len__(self) -> int:
        """Requests with items that nobody has taken yet."""
        return len(self._waiting)

    def add(self, work: Work) -> None:
        """Joins at the present time of the clock."""
        work.paid = self._clock
        if work.costs:
            self._push(work)

    def take(self, budget: int) -> list[Pick]:
        """The next items of at most so many tokens together; at least one, where there is one."""
        picks: list[Pick] = []
        spent = 0
        while self._waiting:
            due, _, work = self._waiting[0]
            if not work.dropped():
                cost = work.costs[work.next]
                if picks and spent + cost > budget:
                    break
                spent += cost
                picks.append((work, work.next))
                self._clock = work.paid = due
                work.next += 1
            heapq.heappop(self._waiting)
            if work.next < len(work.costs) and not work.dropped():
                self._push(work)
        return picks

    def _push(self, work: Work) -> None:
        heapq.heappush(self._waiting, (work.paid + work.costs[work.next], next(self._turn), work))


def together(picks: Sequence[Pick]) -> Encoded:
    """The picked items as if one request had asked them all."""
    first = picks[0][0].encoded
    seconds: list[int] | None = None if first.seconds is None else []
    places: list[Any] | None = None if first.places is None else []
    found = Encoded([], [], seconds, places)
    for number, (work, item) in enumerate(picks):
        own = slice(work.starts[item], work.starts[item + 1])
        found.input_ids.extend(work.encoded.input_ids[own])
        found.items.extend([number] * (own.stop - own.start))
        if seconds is not None:
            seconds.extend((work.encoded.seconds or [])[own])
        if places is not None:
            places.extend((work.encoded.places or [])[own])
    return found


def parted(encoded: Encoded, counts: Sequence[int]) -> list[Encoded]:
    """The parts of what was encoded together, for requests of so many items each."""
    parts = []
    ends = list(itertools.accumulate(counts, initial=0))
    edges = np.searchsorted(encoded.items, ends).tolist()
    for (first, last), (begin, end) in zip(itertools.pairwise(ends), itertools.pairwise(edges), strict=True):
        parts.append(
            Encoded(
                encoded.input_ids[begin:end],
                [item - first for item in encoded.items[begin:end]],
                None if encoded.seconds is None else encoded.seconds[begin:end],
                None if encoded.places is None else encoded.places[begin:end],
                None if encoded.cut is None else encoded.cut[first:last],
            )
        )
    return parts
