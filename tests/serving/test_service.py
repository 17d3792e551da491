"""Many requests at once: each gets its own answers from one release, is refused when too much waits, and has a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tiny import tiny_models, tiny_rows

from mlops.errors import UserError
from mlops.serving.queueing import Expired, Full, Job, Unready
from mlops.serving.releases import Served
from mlops.serving.runtime import Runtime
from mlops.serving.service import Service

TEXTS = [row["text"] for row in tiny_rows(120, seed=5)]


def release(version: str = "1", variant: str = "fp32") -> Served:
    return Served("tiny", version, variant, Runtime.load(tiny_models()[variant]))


@contextmanager
def running(choose: Callable[[Job], Served | None], **options: Any) -> Iterator[Service]:
    service = Service(choose, lambda: "no champion", **options)
    service.start()
    try:
        yield service
    finally:
        service.stop()


class Held:
    """A runtime that waits for a sign before each call."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self.go, self.began = runtime, threading.Event(), threading.Event()
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def compute(self, encoded: Any) -> Any:
        self.began.set()
        assert self.go.wait(20)
        self.calls.append(len(set(encoded.items)))
        return self._runtime.compute(encoded)


def held(version: str = "1") -> tuple[Served, Held]:
    runtime = Held(release().runtime)
    return Served("tiny", version, "fp32", runtime), runtime  # type: ignore[arg-type]


def test_each_gets_its_own_answers_in_order() -> None:
    served = release()
    expected = served.runtime.predict(TEXTS)
    parts = [slice(start, start + 1 + start % 7) for start in range(0, 110, 3)]

    async def all_at_once() -> list[Job]:
        return await asyncio.gather(*(service.ask(TEXTS[part], 20) for part in parts))

    with running(lambda job: served, budget=100) as service:
        jobs = asyncio.run(all_at_once())
    for part, job in zip(parts, jobs, strict=True):
        assert [answer["label"] for answer in job.answers] == [answer["label"] for answer in expected[part]]
        for found, right in zip(job.answers, expected[part], strict=True):
            assert found["score"] == pytest.approx(right["score"], abs=1e-5)
        assert job.served is served
        assert job.truncated == [False] * len(job.asked)
    assert service.queue.waiting == 0


def test_what_waits_together_is_computed_together() -> None:
    served, runtime = held()

    async def ask() -> None:
        first = asyncio.create_task(service.ask(TEXTS[:1], 20))
        await asyncio.to_thread(runtime.began.wait, 20)
        rest = [asyncio.create_task(service.ask([text], 20)) for text in TEXTS[1:9]]
        await asyncio.sleep(0.05)
        runtime.go.set()
        await asyncio.gather(first, *rest)

    with running(lambda job: served, budget=4096) as service:
        asyncio.run(ask())
    assert runtime.calls == [1, 8]


def test_a_full_queue_refuses_and_a_deadline_drops_the_work() -> None:
    served, runtime = held()

    async def ask() -> None:
        first = asyncio.create_task(service.ask(TEXTS[:1], 20))
        await asyncio.to_thread(runtime.began.wait, 20)
        late = asyncio.create_task(service.ask(TEXTS[1:4], 0.05))
        await asyncio.sleep(0)
        with pytest.raises(Full, match=r"4 texts wait, allowed are 4; ask again in \d+ s") as full:
            await service.ask(TEXTS[:1], 20)
        assert 1 <= full.value.seconds <= 60
        with pytest.raises(Expired, match=r"3 texts were not answered within 0.05 s"):
            await late
        last = asyncio.create_task(service.ask(TEXTS[5:7], 20))
        await asyncio.sleep(0.05)
        runtime.go.set()
        assert len((await first).answers) == 1
        assert len((await last).answers) == 2

    with running(lambda job: served, most_waiting=4) as service:
        asyncio.run(ask())
    assert runtime.calls == [1, 2], "the work of the late one was done all the same"


def test_a_swap_under_load_mixes_no_answer() -> None:
    old, runtime = held("1")
    new = release("2", "int8")
    now = [old]

    async def ask() -> None:
        first = asyncio.create_task(service.ask(TEXTS[:60], 20))  # several rounds
        await asyncio.to_thread(runtime.began.wait, 20)
        now[0] = new
        second = asyncio.create_task(service.ask(TEXTS[:5], 20))
        await asyncio.sleep(0.05)
        runtime.go.set()
        assert (await first).served is old
        assert (await second).served is new
        right = old.runtime.task.decode(old.runtime.logits(TEXTS[:60]), TEXTS[:60], old.runtime.labels)
        assert [a["label"] for a in first.result().answers] == [a["label"] for a in right]

    with running(lambda job: now[0], budget=100) as service:
        asyncio.run(ask())
    assert len(runtime.calls) > 2


def test_one_requests_fault_is_its_own() -> None:
    class Poisoned(Held):
        def encode(self, items: Any) -> Any:
            if "poison" in items:
                raise BaseException("a panic")
            return self._runtime.encode(items)

        def compute(self, encoded: Any) -> Any:
            if any(len(ids) > 20 for ids in encoded.input_ids):
                raise RuntimeError("no memory")
            return super().compute(encoded)

    runtime = Poisoned(release().runtime)
    served = Served("tiny", "1", "fp32", runtime)  # type: ignore[arg-type]

    async def ask() -> list[Any]:
        first = asyncio.create_task(service.ask(["ba do"], 20))
        await asyncio.to_thread(runtime.began.wait, 20)
        asked: list[list[Any]] = [["poison"], ["ki lu"], [3], ["ba " * 30], ["me na"]]
        rest = [asyncio.create_task(service.ask(each, 20)) for each in asked]
        await asyncio.sleep(0.05)
        runtime.go.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    with running(lambda job: served) as service:
        found = asyncio.run(ask())
        assert isinstance(found[1], RuntimeError)
        assert "a panic" in str(found[1])
        assert isinstance(found[3], UserError)
        assert isinstance(found[4], RuntimeError)
        assert "no memory" in str(found[4])
        assert all(isinstance(found[place], Job) for place in (0, 2, 5))
        assert isinstance(asyncio.run(service.ask(["ba do"], 20)), Job), "the thread has ended"


def test_without_a_release_it_says_why_and_a_stop_answers_what_waits() -> None:
    with running(lambda job: None) as service, pytest.raises(Unready, match="no champion"):
        asyncio.run(service.ask(["ba"], 20))
    served, runtime = held()

    async def ask() -> None:
        waiting = [asyncio.create_task(service.ask([text], 20)) for text in TEXTS[:5]]
        await asyncio.to_thread(runtime.began.wait, 20)
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        await asyncio.sleep(0.05)
        with pytest.raises(Unready, match="is stopping"):
            await service.ask(["ba"], 20)
        runtime.go.set()
        await stopping
        assert [len(job.answers) for job in await asyncio.gather(*waiting)] == [1] * 5

    with running(lambda job: served) as service:
        asyncio.run(ask())


def test_long_texts_are_told_as_truncated() -> None:
    served = release()
    with running(lambda job: served) as service:
        job = asyncio.run(service.ask(["ba do", "ba " * 100], 20))
    assert job.truncated == [False, True]
