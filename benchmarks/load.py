"""Load from a process of its own: `python benchmarks/load.py JOB` prints what a server's clients saw, as JSON.

JOB is {"port", "path", "form", "texts" (a JSON file), "seconds", and "clients" for a closed loop or "rate" for an open one}.
A closed loop has so many clients, each of which asks again when it is answered. An open loop asks at times that a Poisson
process sets, whatever was answered; latency counts from that time, so that a server that stalls cannot hide it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORMS: dict[str, Callable[[str], Any]] = {
    "inputs": lambda text: {"inputs": [text]},
    "text": lambda text: {"text": text},
}
_IDLE = 2000  # connections that are kept for the next request


class Client:
    """Requests over kept connections; as little of HTTP as a client needs, so that it takes little of the machine."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._port, self._idle = job["port"], []  # type: ignore[var-annotated]
        texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
        self._requests = [self._written(job, text) for text in texts]
        random.Random(job.get("seed", 0)).shuffle(self._requests)
        self._next = 0
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []
        self.versions: Counter[str] = Counter()
        self.timeout = job.get("timeout", 60.0)

    @staticmethod
    def _written(job: dict[str, Any], text: str) -> bytes:
        body = json.dumps(FORMS[job["form"]](text), ensure_ascii=False).encode()
        head = f"POST {job['path']} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body

    async def ask(self, since: float) -> None:
        """One request; since: from when its latency counts."""
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        try:
            async with asyncio.timeout(self.timeout):
                status = await self._send(request)
        except TimeoutError:
            status = "timeout"
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            status = type(error).__name__
        self.statuses[status] += 1
        if status == "200":
            self.milliseconds.append((time.perf_counter() - since) * 1000)

    async def _send(self, request: bytes) -> str:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        kept = False
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            body = await reader.readexactly(size)
            if b'"version":"' in body:
                self.versions[body.split(b'"version":"', 1)[1].split(b'"', 1)[0].decode()] += 1
            kept = b"connection: close" not in head and len(self._idle) < _IDLE
            return head.split(b" ", 2)[1].decode()
        finally:
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.close()


async def closed(client: Client, clients: int, seconds: float) -> None:
    end = time.perf_counter() + seconds

    async def one() -> None:
        while time.perf_counter() < end:
            await client.ask(time.perf_counter())

    await asyncio.gather(*(one() for _ in range(clients)))


async def open_loop(client: Client, rate: float, seconds: float, seed: int) -> None:
    chance, running = random.Random(seed), set()
    began = due = time.perf_counter()
    while due < began + seconds:
        due += chance.expovariate(rate)
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        task = asyncio.create_task(client.ask(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


def main(job: dict[str, Any]) -> dict[str, Any]:
    client = Client(job)
    started = time.perf_counter()
    if "clients" in job:
        asyncio.run(closed(client, job["clients"], job["seconds"]))
    else:
        asyncio.run(open_loop(client, job["rate"], job["seconds"], job.get("seed", 0)))
    seconds = time.perf_counter() - started
    found = sorted(client.milliseconds)
    told = {f"p{share}": found[min(len(found) - 1, len(found) * share // 100)] for share in (50, 90, 99) if found}
    answered = client.statuses["200"]
    cpu = time.process_time() / seconds
    rates = {"asked": client.statuses.total() / seconds, "answered": answered / seconds, "client_cpu": cpu}
    return {"statuses": dict(client.statuses), "versions": dict(client.versions), "seconds": seconds, **rates, **told}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
