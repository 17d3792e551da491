"""The thread that answers: it takes what waits, batches it over all requests, and gives each request one release's answers.

A batch of one request runs at once: there is no window to wait for company, which comes by itself while a batch is computed.
A release may be swapped between two batches; requests that were read by the old one are answered by it.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mlops.errors import UserError
from mlops.serving.batching import Fair, Pick, Work, parted, together
from mlops.serving.cpu import threads as usable_threads
from mlops.serving.queueing import Job, Queue, Unready, deliver, expired
from mlops.serving.releases import Served

log = logging.getLogger("evergreen")

TOKENS_PER_THREAD = (
    512  # of one round: enough for small batches side by side, few enough that a newcomer soon has a turn
)
CHARACTERS = 200_000  # that are tokenised before the model computes again
MOST_WAITING = 512
MOST_ASIDE = 64  # requests that are to be asked again aside; those beyond are left out


class Beside(Protocol):
    """Another release that is tried. Called by the answering thread: neither may wait, or raise."""

    def instead(self, job: Job, error: Exception) -> Served | None:
        """The release that answers what this job's own could not; none where the error is the answer."""
        ...

    def after(self, job: Job) -> Job | None:
        """Told of each answered job; what is to be asked once more, when nobody waits."""
        ...


class Lane:
    """The requests that one release answers."""

    def __init__(self, served: Served) -> None:
        self.served, self.fair = served, Fair()


class Service:
    """Answers from whatever release is chosen when a request is looked at.

    choose: the release for a job; none where there is none. problem: why there is none. budget: tokens of one round. beside: a
    second release that is tried. skipped: requests that were to be asked aside, and were not for want of time.
    """

    def __init__(
        self,
        choose: Callable[[Job], Served | None],
        problem: Callable[[], str] = lambda: "",
        most_waiting: int = MOST_WAITING,
        budget: int | None = None,
        beside: Beside | None = None,
    ) -> None:
        self.queue = Queue(most_waiting)
        self.rounds = self.skipped = 0
        self.draining = False  # not ready for more, while what comes all the same is still answered
        self._choose, self._problem, self._beside = choose, problem, beside
        self._again: list[Job] = []  # whose own release failed
        self._aside: deque[Job] = deque()
        self._budget = budget or TOKENS_PER_THREAD * usable_threads()
        self._lanes: list[Lane] = []
        self._turn = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="answer", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 30.0) -> None:
        """Answers what waits, for so long at the most."""
        self.queue.close()
        if self._thread is not None:
            self._thread.join(seconds)

    async def ask(
        self, asked: list[Any], seconds: float, sticky: str = "", request_id: str = "", pinned: bool = False
    ) -> Job:
        """The answered job. seconds: its deadline from now.

        Raises Full, Expired or Unready; UserError for what the task cannot be asked.
        """
        return await self.queue.ask(Job(asked, seconds, sticky, request_id, pinned))

    def _work(self) -> None:
        while True:
            jobs = self.queue.take(CHARACTERS, wait=not (self._lanes or self._again or self._aside))
            if not jobs and not self._lanes and not self._again and self.queue.closed:
                return
            try:
                again, self._again = self._again, []
                if not jobs and not again and not self._lanes:  # nobody waits: time for an answer that is only compared
                    again = [self._aside.popleft()]
                self._admit([job for job in (*again, *jobs) if not job.dropped()])
                self._round()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # a thread that ends would leave everybody waiting
                log.exception("the answering thread goes on after a fault of its own")
                self._lanes.clear()

    def _admit(self, jobs: Sequence[Job]) -> None:
        """Reads new jobs, all of one release by one call of its tokenizer."""
        chosen: dict[int, tuple[Served, list[Job]]] = {}
        for job in jobs:
            served = job.served or self._choose(job)
            if served is None:
                self._fail([job], Unready(f"no release to answer with: {self._problem()}"))
            else:
                chosen.setdefault(id(served), (served, []))[1].append(job)
        for served, own in chosen.values():
            works = self._read(served, own)
            if works:
                lane = next((lane for lane in self._lanes if lane.served is served), None)
                if lane is None:
                    lane = Lane(served)
                    self._lanes.append(lane)
                for work in works:
                    lane.fair.add(work)

    def _round(self) -> None:
        """One call of a model: of each release in turn, where several have something to answer."""
        if not self._lanes:
            return
        self._turn = (self._turn + 1) % len(self._lanes)
        lane = self._lanes[self._turn]
        picks = lane.fair.take(self._budget)
        if not len(lane.fair):
            self._lanes.remove(lane)
        if not picks:
            return
        started = time.monotonic()
        self.rounds += 1
        whole = self._compute(lane.served, picks)
        seconds = time.monotonic() - started
        owners = {work.owner for work, _ in picks}
        for job in owners:  # what it shared with others says nothing about its own time
            job.computed += seconds if len(owners) == 1 else math.nan
        self._finish(lane.served, whole)
        self.queue.answered(len(picks), seconds)

    def _read(self, served: Served, jobs: list[Job]) -> list[Work]:
        """The jobs' texts as the model reads them, without the jobs that it cannot be asked: those are answered so."""
        task = served.runtime.task
        items: list[list[Any]] = []
        able: list[Job] = []
        for job in jobs:
            try:
                items.append([task.asked(each) for each in job.asked])
                able.append(job)
            except UserError as error:
                self._fail([job], error)
        if not able:
            return []
        try:
            encoded = served.runtime.encode(list(itertools.chain.from_iterable(items)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a tokenizer's panics are no Exception
            if len(able) > 1:  # so that one request's text does not fail the others
                return list(itertools.chain.from_iterable(self._read(served, [job]) for job in able))
            self._fail(able, RuntimeError(f"the tokenizer failed: {type(error).__name__}: {error}"))
            return []
        works = []
        for job, part in zip(able, parted(encoded, list(map(len, items))), strict=True):
            work = Work.of(part, len(job.asked), functools.partial(_nobodys, job, served), job)
            job.served, job.tokens = served, work.tokens
            job.truncated = part.cut if part.cut is not None else [False] * len(job.asked)
            works.append(work)
        return works

    def _compute(self, served: Served, picks: list[Pick]) -> list[Work]:
        """Computes the picked items; the requests that have all of theirs. Where it fails, each request is tried by itself."""
        try:
            logits = served.runtime.compute(together(picks))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            owners = list(dict.fromkeys(work for work, _ in picks))
            if len(owners) > 1:
                parts = ([pick for pick in picks if pick[0] is owner] for owner in owners)
                return [work for part in parts for work in self._compute(served, part)]
            self._fail([owners[0].owner], RuntimeError(f"the model failed: {type(error).__name__}: {error}"))
            return []
        whole = []
        for (work, item), values in zip(picks, logits, strict=True):
            work.logits[item] = values
            work.left -= 1
            if not work.left:
                whole.append(work)
        return whole

    def _finish(self, served: Served, works: list[Work]) -> None:
        """Decodes the requests that are computed, all of them at once, and wakes those who wait."""
        jobs: list[Job] = [work.owner for work in works]
        if not jobs:
            return
        runtime = served.runtime
        logits: Any = list(itertools.chain.from_iterable(work.logits for work in works))
        asked = list(itertools.chain.from_iterable(job.asked for job in jobs))
        try:
            answers = runtime.task.decode(logits, asked, runtime.labels)
        except Exception as error:
            log.exception("an answer could not be written")
            self._fail(jobs, RuntimeError(f"the answer could not be written: {type(error).__name__}: {error}"))
            return
        start, now = 0, time.monotonic()
        for job in jobs:
            job.answers, start = answers[start : start + len(job.asked)], start + len(job.asked)
            job.seconds = now - job.came
            if now > job.deadline:
                job.error = expired(job)
        self._deliver(jobs)

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        failed = []
        for job in jobs:
            # What the task cannot be asked is the client's, by whatever release.
            other = None if self._beside is None or isinstance(error, UserError) else self._beside.instead(job, error)
            if other is not None:
                job.served = other
                self._again.append(job)
            else:
                job.error, job.gone = error, True
                failed.append(job)
        self._deliver(failed)

    def _deliver(self, jobs: list[Job]) -> None:
        deliver(jobs)
        if self._beside is None:
            return
        for job in jobs:
            if (aside := self._beside.after(job)) is None:
                continue
            # A large one would stand in the way of whoever comes meanwhile.
            if len(self._aside) < MOST_ASIDE and job.tokens <= self._budget:
                self._aside.append(aside)
            else:
                self.skipped += 1


def _nobodys(job: Job, served: Served) -> bool:
    """Whether a job's work for this release need not be done: nobody waits, or another release answers it by now."""
    return job.dropped() or job.served is not served
