"""Requests on their way from the event loop to the thread that computes: a bounded queue, and a deadline for each.

The asking side lives on one event loop, the answering side on one thread; the lock is held for as long as a list is swapped.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from mlops.errors import EvergreenError
from mlops.serving.releases import Served

Role = Literal["champion", "candidate", "shadow"]


class Full(EvergreenError):
    """Too much waits already. seconds: when it is worth asking again."""

    def __init__(self, waiting: int, most: int, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"{waiting} texts wait, allowed are {most}; ask again in {seconds} s")


class Expired(EvergreenError):
    """The deadline of a request has passed; what was left of its work is not done."""


class Unready(EvergreenError):
    """There is no release to answer with."""


@dataclass(eq=False)
class Job:
    """A question and, once `done`, its answers, all from `served`, or the error that stood in the way.

    allowed: seconds until its deadline. gone: nobody waits for it any more. seconds: that it took. computed: seconds that
    the model took for it, NaN where it was computed together with others.
    """

    asked: list[Any]
    allowed: float
    sticky: str = ""  # requests with the same one go to the same release while two of them serve
    request_id: str = ""
    pinned: bool = False  # asked for the champion by its version
    role: Role = "champion"
    served: Served | None = None
    answers: list[Any] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    tokens: int = 0
    error: Exception | None = None
    gone: bool = False
    came: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    computed: float = 0.0
    twin: Job | None = None  # the answered request that this one asks another release again, where nobody waits
    future: asyncio.Future[None] | None = None

    @property
    def deadline(self) -> float:
        """On time.monotonic."""
        return self.came + self.allowed

    def dropped(self) -> bool:
        """Whether its work need not be done."""
        return self.gone or time.monotonic() > self.deadline

    @property
    def characters(self) -> int:
        """Of all that is asked."""
        return sum(map(_characters, self.asked))


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, dict) else value
    return sum(len(part) for part in parts if isinstance(part, str)) if isinstance(parts, Iterable) else 0


class Queue:
    """Jobs that no thread has looked at yet, and the count of all texts that wait for an answer.

    most: texts that may wait before the next request is refused; a request that is let in may have more than are left.
    """

    def __init__(self, most: int) -> None:
        self.most, self.waiting, self.rate = most, 0, 0.0
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def check(self) -> None:
        """Raises Full where another request would be too much."""
        if self.waiting >= self.most:
            # What is answered in a second is known from the last ones; before the first, a second is a guess.
            seconds = math.ceil(self.waiting / self.rate) if self.rate else 1
            raise Full(self.waiting, self.most, min(max(seconds, 1), 60))

    async def ask(self, job: Job) -> Job:
        """The job once it is answered. Raises Full, Expired, or the error that stood in the answer's way."""
        self.check()
        loop = asyncio.get_running_loop()
        job.future = loop.create_future()
        self.waiting += len(job.asked)
        try:
            self._put(job)
            async with asyncio.timeout(job.deadline - time.monotonic()):
                await job.future
        except TimeoutError:
            raise expired(job) from None
        finally:
            job.gone = True
            self.waiting -= len(job.asked)
        if job.error is not None:
            raise job.error
        return job

    def _put(self, job: Job) -> None:
        with self._changed:
            if self._closed:
                raise Unready("the server is stopping")
            self._jobs.append(job)
            self._changed.notify()

    def take(self, characters: int, wait: bool) -> list[Job]:
        """Jobs of about so many characters in the order of their coming; with `wait` at least one, unless it is closed."""
        with self._changed:
            while wait and not self._jobs and not self._closed:
                self._changed.wait()
            taken: list[Job] = []
            while self._jobs and characters > 0:
                taken.append(self._jobs.popleft())
                characters -= taken[-1].characters
            return taken

    def close(self) -> None:
        """Lets nothing more in; what is there is still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def closed(self) -> bool:
        """Whether nothing more comes and all was taken."""
        return self._closed and not self._jobs

    def answered(self, texts: int, seconds: float) -> None:
        """So many texts took so long: what is expected of the next ones."""
        now = texts / max(seconds, 1e-6)
        self.rate = now if not self.rate else 0.9 * self.rate + 0.1 * now


def expired(job: Job) -> Expired:
    """The error of a job whose deadline has passed."""
    return Expired(f"{len(job.asked)} texts were not answered within {job.allowed:.3g} s, the deadline of this request")


def deliver(jobs: list[Job]) -> None:
    """Wakes those who wait for these jobs, from any thread."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.future is not None:
            loops.setdefault(job.future.get_loop(), []).append(job)
    for loop, own in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, own)


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future is not None and not job.future.done():
            job.future.set_result(None)
