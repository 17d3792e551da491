"""A lease in a bucket: the holder of the newest of numbered objects, for as long as it renews it.

An object is made only where there is none (S3's conditional write), so one of several wins each number. Who waits takes the
next number once the newest was released, or did not change for a whole term by the waiter's own clock: no two machines need
the same time (as Kubernetes' leader election does it).
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlops.blobs import Blobs
from mlops.errors import EvergreenError, RegistryError

log = logging.getLogger("evergreen")

TERM_SECONDS = 45.0
_LOOK_SECONDS = 0.5


@contextmanager
def lease(blobs: Blobs, prefix: str, wait_seconds: float, term: float = TERM_SECONDS) -> Iterator[Callable[[], None]]:
    """Waits for the lease below a prefix; gives what raises RegistryError where it was lost since.

    term: seconds without a renewal after which somebody else may take it.
    """
    mine = _Lease(blobs, prefix, term)
    mine.take(time.monotonic() + wait_seconds)
    over = threading.Event()
    renewing = threading.Thread(target=mine.keep, args=(over,), name="lease", daemon=True)
    renewing.start()
    try:
        yield mine.require
    finally:
        over.set()
        renewing.join()
        mine.release()


class _Lease:
    def __init__(self, blobs: Blobs, prefix: str, term: float) -> None:
        self._blobs, self._prefix, self._term = blobs, prefix, term
        self._who = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._number, self._beats, self._renewed = 0, 0, 0.0

    def take(self, deadline: float) -> None:
        seen: tuple[int, Any] | None = None
        since = 0.0
        while True:
            number, state = self._newest()
            if (number, state) != seen:
                seen, since = (number, state), time.monotonic()
            over = state is None or state["released"]
            if not over and time.monotonic() - since > self._term:
                log.warning("%s: %s did not renew its lease for %g s; it is taken over", *self._about(state))
                over = True
            if over and self._make(number + 1):
                return
            if time.monotonic() > deadline:
                holder = state["who"] if state else "nobody"
                raise RegistryError(
                    f"{self._blobs.uri(self._prefix)} is held by {holder}; who waited gives up: run again"
                )
            if not over:
                time.sleep(_LOOK_SECONDS * random.uniform(0.5, 1.5))

    def _about(self, state: Any) -> tuple[str, str, float]:
        return self._prefix, state["who"], self._term

    def _key(self, number: int) -> str:
        return f"{self._prefix}/{number:010}.json"

    def _numbers(self) -> list[int]:
        return sorted(int(key.rpartition("/")[2].removesuffix(".json")) for key in self._blobs.list(f"{self._prefix}/"))

    def _newest(self) -> tuple[int, Any]:
        """Its number and state; (0, None) before the first, and no state where it went meanwhile."""
        numbers = self._numbers()
        if not numbers:
            return 0, None
        try:
            return numbers[-1], json.loads(self._blobs.read(self._key(numbers[-1])))
        except KeyError:
            return numbers[-1], None

    def _state(self, released: bool = False) -> bytes:
        return json.dumps({"who": self._who, "beat": self._beats, "released": released}).encode()

    def _make(self, number: int) -> bool:
        if not self._blobs.create(self._key(number), self._state()):
            return False
        self._number, self._renewed = number, time.monotonic()
        numbers = self._numbers()
        if numbers[-1] != number:  # it was taken, given back and swept while this process slept
            self._blobs.remove(self._key(number))
            return False
        for earlier in numbers[:-1]:
            self._blobs.remove(self._key(earlier))
        return True

    def keep(self, over: threading.Event) -> None:
        """Renews until it is over. A store that does not answer is asked again: the term may outlast it."""
        while not over.wait(self._term / 4):
            self._beats += 1
            try:
                self._blobs.write(self._key(self._number), self._state())
            except EvergreenError as error:
                log.warning("%s: not renewed: %s", self._prefix, error)
            else:
                self._renewed = time.monotonic()

    def require(self) -> None:
        late = time.monotonic() - self._renewed
        newest = self._numbers()[-1:]
        if late > self._term or newest != [self._number]:
            raise RegistryError(
                f"the lease {self._blobs.uri(self._key(self._number))} was lost: renewed {late:.0f} s ago, a term is "
                f"{self._term:g} s, the newest is {newest}; run again"
            )

    def release(self) -> None:
        try:
            self._blobs.write(self._key(self._number), self._state(released=True))
        except EvergreenError as error:
            log.warning("%s: not given back, others wait %g s for it: %s", self._prefix, self._term, error)
